package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumCIDRGroup is a list of prefixes that policies name with cidrGroupRef, or select by the object's
// labels with cidrGroupSelector. Write it as cilium.io/v2: this is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumcidrgroup,path=ciliumcidrgroups,scope=Cluster,shortName={ccg}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:deprecatedversion
type CiliumCIDRGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The prefixes.
	Spec v2.CIDRGroupSpec `json:"spec"`
}

// CiliumCIDRGroupList is a list of groups.
// +kubebuilder:object:root=true
type CiliumCIDRGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumCIDRGroup `json:"items"`
}
