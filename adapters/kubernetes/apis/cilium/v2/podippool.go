package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumPodIPPool is addresses that nodes take ranges from for their pods. A pod names its pool with the
// annotation ipam.cilium.io/ip-pool, its namespace too, or the pool selects it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumpodippool,path=ciliumpodippools,scope=Cluster,shortName={cpip}
// +kubebuilder:storageversion
type CiliumPodIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The addresses and who gets them.
	Spec PodIPPoolSpec `json:"spec"`
}

// CiliumPodIPPoolList is a list of pools.
// +kubebuilder:object:root=true
type CiliumPodIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumPodIPPool `json:"items"`
}

// PodIPPoolSpec is the addresses of a pool and who gets them.
type PodIPPoolSpec struct {
	// The IPv4 addresses.
	// +optional
	IPv4 *IPv4Pool `json:"ipv4,omitempty"`
	// The IPv6 addresses.
	// +optional
	IPv6 *IPv6Pool `json:"ipv6,omitempty"`
	// The pods that get their addresses here without asking, by their labels.
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
	// The namespaces of those pods, by their labels.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
}

// IPv4Pool is IPv4 addresses.
type IPv4Pool struct {
	// The prefixes.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	CIDRs []CIDR `json:"cidrs"`
	// The length of the prefix that a node takes at once.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	MaskSize int32 `json:"maskSize"`
}

// IPv6Pool is IPv6 addresses.
type IPv6Pool struct {
	// The prefixes.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	CIDRs []CIDR `json:"cidrs"`
	// The length of the prefix that a node takes at once.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	MaskSize int32 `json:"maskSize"`
}
