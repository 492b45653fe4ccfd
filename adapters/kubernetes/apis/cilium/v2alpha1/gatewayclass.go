package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumGatewayClassConfig says how the services of Gateways are made. A GatewayClass names it in its
// parametersRef.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumgatewayclassconfig,path=ciliumgatewayclassconfigs,scope=Namespaced,shortName={cgcc}
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type=='Accepted')].status",name=Accepted,type=string
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:printcolumn:JSONPath=".spec.description",name=Description,type=string,priority=1
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumGatewayClassConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// How the services are made.
	// +optional
	Spec GatewayClassConfigSpec `json:"spec,omitzero"`

	// Whether it is in order.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumGatewayClassConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumGatewayClassConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumGatewayClassConfig `json:"items"`
}

// GatewayClassConfigSpec is how Gateways are made.
type GatewayClassConfigSpec struct {
	// For people.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Description *string `json:"description,omitempty"`
	// The services of Gateways.
	// +optional
	Service *GatewayService `json:"service,omitempty"`
	// How HTTP is spoken.
	// +optional
	HTTPOptions *GatewayHTTPOptions `json:"httpOptions,omitempty"`
}

// GatewayHTTPOptions is how HTTP is spoken.
type GatewayHTTPOptions struct {
	// Whether requests of gRPC-web become requests of gRPC.
	// +optional
	GRPCWebTranslation *Switch `json:"grpcWebTranslation,omitempty"`
}

// Switch is on or off.
type Switch struct {
	// Whether it is on.
	// +optional
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`
}

// GatewayService is what the services of Gateways hold. The fields are those of a Service.
type GatewayService struct {
	// The kind of service.
	// +optional
	// +kubebuilder:default=LoadBalancer
	// +kubebuilder:validation:Enum=ClusterIP;LoadBalancer;NodePort
	Type string `json:"type,omitempty"`
	// Whether nodes without a backend take external traffic.
	// +optional
	// +kubebuilder:default=Cluster
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy string `json:"externalTrafficPolicy,omitempty"`
	// Who provides the load balancer.
	// +optional
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`
	// The families of the service's addresses.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	IPFamilies []IPFamily `json:"ipFamilies,omitempty"`
	// Whether the service has addresses of both families.
	// +optional
	// +kubebuilder:validation:Enum=SingleStack;PreferDualStack;RequireDualStack
	IPFamilyPolicy *string `json:"ipFamilyPolicy,omitempty"`
	// Whether the load balancer's ports get node ports too.
	// +optional
	AllocateLoadBalancerNodePorts *bool `json:"allocateLoadBalancerNodePorts,omitempty"`
	// The prefixes that clients may come from, or must not.
	// +optional
	// +listType=atomic
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`
	// Whether loadBalancerSourceRanges allows or denies.
	// +optional
	// +kubebuilder:default=Allow
	// +kubebuilder:validation:Enum=Allow;Deny
	LoadBalancerSourceRangesPolicy string `json:"loadBalancerSourceRangesPolicy,omitempty"`
	// Which backends are preferred, as in "PreferClose".
	// +optional
	TrafficDistribution *string `json:"trafficDistribution,omitempty"`
}

// IPFamily is a family of addresses.
// +kubebuilder:validation:Enum=IPv4;IPv6
type IPFamily string
