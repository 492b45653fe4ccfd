package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// CiliumEnvoyConfig sends traffic of services of its namespace through an Envoy that it configures.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumenvoyconfig,path=ciliumenvoyconfigs,scope=Namespaced,shortName={cec}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumEnvoyConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The services and the configuration.
	// +optional
	Spec EnvoyConfigSpec `json:"spec,omitzero"`
}

// CiliumEnvoyConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumEnvoyConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumEnvoyConfig `json:"items"`
}

// CiliumClusterwideEnvoyConfig is a CiliumEnvoyConfig for services of every namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumclusterwideenvoyconfig,path=ciliumclusterwideenvoyconfigs,scope=Cluster,shortName={ccec}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumClusterwideEnvoyConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The services and the configuration.
	// +optional
	Spec EnvoyConfigSpec `json:"spec,omitzero"`
}

// CiliumClusterwideEnvoyConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumClusterwideEnvoyConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumClusterwideEnvoyConfig `json:"items"`
}

// EnvoyConfigSpec is services and the configuration of an Envoy.
type EnvoyConfigSpec struct {
	// The services whose traffic goes through a listener.
	// +optional
	// +listType=atomic
	Services []EnvoyService `json:"services,omitempty"`

	// The services whose backends the configuration may name as clusters.
	// +optional
	// +listType=atomic
	BackendServices []EnvoyBackendService `json:"backendServices,omitempty"`

	// Envoy's own resources, each with its "@type".
	// +optional
	// +listType=atomic
	Resources []runtime.RawExtension `json:"resources,omitempty"`

	// The nodes that it applies on, by their labels; all if absent.
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`
}

// EnvoyService is a service whose traffic goes through a listener.
type EnvoyService struct {
	// The service's name.
	Name string `json:"name"`
	// The service's namespace. In a CiliumEnvoyConfig its own.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// The service's ports; all if absent.
	// +optional
	// +listType=atomic
	Ports []uint16 `json:"ports,omitempty"`
	// The listener's name; the first of the resources if absent.
	// +optional
	Listener string `json:"listener,omitempty"`
}

// EnvoyBackendService is a service whose backends are a cluster of Envoy.
type EnvoyBackendService struct {
	// The service's name.
	Name string `json:"name"`
	// The service's namespace. In a CiliumEnvoyConfig its own.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// The service's ports, numbers in quotes or names; all if absent.
	// +optional
	// +listType=atomic
	Ports []string `json:"number,omitempty"`
}
