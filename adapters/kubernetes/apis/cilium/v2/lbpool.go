package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumLoadBalancerIPPool is addresses that services of type LoadBalancer get theirs from. Of two pools
// that overlap, the newer is not used and says so in its conditions.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumloadbalancerippool,path=ciliumloadbalancerippools,scope=Cluster,shortName={ippool,ippools,lbippool,lbippools}
// +kubebuilder:printcolumn:JSONPath=".spec.disabled",name=Disabled,type=boolean
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type==\"cilium.io/PoolConflict\")].status",name=Conflicting,type=string
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type==\"cilium.io/IPsAvailable\")].message",name="IPs Available",type=string
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumLoadBalancerIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The addresses and who gets them.
	Spec LoadBalancerIPPoolSpec `json:"spec"`

	// How full the pool is.
	// +optional
	Status ConditionsStatus `json:"status,omitzero"`
}

// CiliumLoadBalancerIPPoolList is a list of pools.
// +kubebuilder:object:root=true
type CiliumLoadBalancerIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumLoadBalancerIPPool `json:"items"`
}

// ConditionsStatus is a status of conditions only.
type ConditionsStatus struct {
	// Conditions by their type.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// LoadBalancerIPPoolSpec is the addresses of a pool and who gets them.
type LoadBalancerIPPoolSpec struct {
	// The services that get their addresses here, by their labels or by the names
	// io.kubernetes.service.namespace and io.kubernetes.service.name; every service if absent.
	// +optional
	ServiceSelector *LabelSelector `json:"serviceSelector,omitempty"`

	// The addresses.
	// +optional
	// +listType=atomic
	Blocks []IPBlock `json:"blocks,omitempty"`

	// The addresses, as it was written before blocks. Both may be given and add up.
	// +optional
	// +listType=atomic
	CIDRs []IPBlock `json:"cidrs,omitempty"`

	// Whether the first and the last address of a prefix are given out: Yes, the default, or No. It
	// does not matter for ranges, and for prefixes of one or two addresses.
	// +optional
	// +kubebuilder:validation:Enum=Yes;No
	AllowFirstLastIPs string `json:"allowFirstLastIPs,omitempty"`

	// Whether no more addresses are given out. Services keep what they have.
	// +optional
	// +kubebuilder:default=false
	Disabled bool `json:"disabled"`
}

// IPBlock is a prefix, or a range of addresses.
type IPBlock struct {
	// A prefix. Not together with start.
	// +optional
	Cidr CIDR `json:"cidr,omitempty"`
	// The first address of a range.
	// +optional
	Start IP `json:"start,omitempty"`
	// The last address of the range; start if absent.
	// +optional
	Stop IP `json:"stop,omitempty"`
}

// IP is an IPv4 or IPv6 address.
// +kubebuilder:validation:Format=ip
// +kubebuilder:validation:MaxLength=45
type IP string
