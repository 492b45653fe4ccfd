package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumCIDRGroup is a list of prefixes that policies name with cidrGroupRef, or select by the object's
// labels with cidrGroupSelector.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumcidrgroup,path=ciliumcidrgroups,scope=Cluster,shortName={ccg}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumCIDRGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The prefixes.
	Spec CIDRGroupSpec `json:"spec"`
}

// CiliumCIDRGroupList is a list of groups.
// +kubebuilder:object:root=true
type CiliumCIDRGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumCIDRGroup `json:"items"`
}

// CIDRGroupSpec is a list of prefixes.
type CIDRGroupSpec struct {
	// The prefixes, as in "192.0.2.0/24" and "2001:db8::/32".
	// +kubebuilder:validation:MinItems=0
	// +listType=atomic
	ExternalCIDRs []CIDR `json:"externalCIDRs"`
}
