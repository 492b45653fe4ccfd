package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumL2AnnouncementPolicy says which nodes answer on the local network (ARP, neighbor discovery) for
// which addresses of services. One of the nodes answers for a service at a time.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliuml2announcementpolicy,path=ciliuml2announcementpolicies,scope=Cluster,shortName={l2announcement}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumL2AnnouncementPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The nodes and the addresses.
	// +optional
	Spec L2AnnouncementSpec `json:"spec,omitzero"`

	// What is wrong with it.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumL2AnnouncementPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumL2AnnouncementPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumL2AnnouncementPolicy `json:"items"`
}

// L2AnnouncementSpec is nodes and the addresses that they answer for.
type L2AnnouncementSpec struct {
	// The nodes, by their labels; all if absent.
	// +optional
	NodeSelector *v2.LabelSelector `json:"nodeSelector,omitempty"`
	// The services, by their labels or by the names io.kubernetes.service.namespace and
	// io.kubernetes.service.name; all if absent.
	// +optional
	ServiceSelector *v2.LabelSelector `json:"serviceSelector,omitempty"`
	// Whether to answer for the addresses of load balancers.
	// +optional
	LoadBalancerIPs bool `json:"loadBalancerIPs,omitempty"`
	// Whether to answer for external addresses.
	// +optional
	ExternalIPs bool `json:"externalIPs,omitempty"`
	// Regular expressions for the interfaces to answer on; all if absent.
	// +optional
	// +listType=atomic
	Interfaces []string `json:"interfaces,omitempty"`
}
