package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumPodIPPool is addresses that nodes take ranges from for their pods. A pod names its pool with the
// annotation ipam.cilium.io/ip-pool, its namespace too, or the pool selects it. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumpodippool,path=ciliumpodippools,scope=Cluster,shortName={cpip}
// +kubebuilder:deprecatedversion
type CiliumPodIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The addresses and who gets them.
	Spec v2.PodIPPoolSpec `json:"spec"`
}

// CiliumPodIPPoolList is a list of pools.
// +kubebuilder:object:root=true
type CiliumPodIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumPodIPPool `json:"items"`
}
