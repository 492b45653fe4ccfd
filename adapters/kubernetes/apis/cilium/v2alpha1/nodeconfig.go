package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumNodeConfig overrides entries of the ConfigMap cilium-config on some nodes. An agent reads it when
// it starts, from its own namespace. Of several that select a node, the later name wins. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumnodeconfig,path=ciliumnodeconfigs,scope=Namespaced
// +kubebuilder:deprecatedversion
type CiliumNodeConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The entries and the nodes.
	Spec v2.NodeConfigSpec `json:"spec"`
}

// CiliumNodeConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumNodeConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumNodeConfig `json:"items"`
}
