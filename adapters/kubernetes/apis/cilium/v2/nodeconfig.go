package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumNodeConfig overrides entries of the ConfigMap cilium-config on some nodes. An agent reads it when
// it starts, from its own namespace. Of several that select a node, the later name wins.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumnodeconfig,path=ciliumnodeconfigs,scope=Namespaced
// +kubebuilder:storageversion
type CiliumNodeConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The entries and the nodes.
	Spec NodeConfigSpec `json:"spec"`
}

// CiliumNodeConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumNodeConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumNodeConfig `json:"items"`
}

// NodeConfigSpec is the configuration of some nodes.
type NodeConfigSpec struct {
	// The entries, keys as in cilium-config.
	Defaults map[string]string `json:"defaults"`

	// The nodes, by their labels: {} for all, none if absent.
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`
}
