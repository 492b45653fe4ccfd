package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumLoadBalancerIPPool is addresses that services of type LoadBalancer get theirs from. Of two pools
// that overlap, the newer is not used and says so in its conditions. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumloadbalancerippool,path=ciliumloadbalancerippools,scope=Cluster,shortName={ippool,ippools,lbippool,lbippools}
// +kubebuilder:printcolumn:JSONPath=".spec.disabled",name=Disabled,type=boolean
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type==\"cilium.io/PoolConflict\")].status",name=Conflicting,type=string
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type==\"cilium.io/IPsAvailable\")].message",name="IPs Available",type=string
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion
type CiliumLoadBalancerIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The addresses and who gets them.
	Spec v2.LoadBalancerIPPoolSpec `json:"spec"`

	// How full the pool is.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumLoadBalancerIPPoolList is a list of pools.
// +kubebuilder:object:root=true
type CiliumLoadBalancerIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumLoadBalancerIPPool `json:"items"`
}
