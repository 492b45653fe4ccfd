package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumIdentity is a number that stands for a set of labels: all pods of the cluster that have them.
// The object's name is the number. Agents write it; nobody else needs to.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumidentity,path=ciliumidentities,scope=Cluster,shortName={ciliumid}
// +kubebuilder:printcolumn:JSONPath=".metadata.labels.io\\.kubernetes\\.pod\\.namespace",name=Namespace,type=string,description="The namespace of the pods"
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumIdentity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The labels that the number stands for, keys with their source before them: "k8s:app".
	SecurityLabels map[string]string `json:"security-labels"`
}

// CiliumIdentityList is a list of identities.
// +kubebuilder:object:root=true
type CiliumIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumIdentity `json:"items"`
}
