package v2

// IngressPeers are the kinds of peers that traffic may come from. A list that is there but empty
// matches no one.
type IngressPeers struct {
	// Pods by their labels. Without a label of a namespace in the selector: pods of the policy's own
	// namespace, or of any in a CiliumClusterwideNetworkPolicy.
	// +optional
	// +listType=atomic
	FromEndpoints []LabelSelector `json:"fromEndpoints,omitzero"`

	// Parts of the world by name.
	// +optional
	// +listType=atomic
	FromEntities []Entity `json:"fromEntities,omitzero"`

	// Addresses outside the cluster, as prefixes: "192.0.2.0/24", "2001:db8::/32".
	// +optional
	// +listType=atomic
	FromCIDR []CIDR `json:"fromCIDR,omitzero"`

	// Addresses outside the cluster, as prefixes with exceptions or by CiliumCIDRGroup.
	// +optional
	// +listType=atomic
	FromCIDRSet []CIDRRule `json:"fromCIDRSet,omitzero"`

	// Nodes by their labels.
	// +optional
	// +listType=atomic
	FromNodes []LabelSelector `json:"fromNodes,omitzero"`

	// Groups of a cloud provider.
	// +optional
	// +listType=atomic
	FromGroups []Group `json:"fromGroups,omitzero"`

	// No longer part of the API: must be empty. Join the requirement to the selectors of
	// fromEndpoints, or deny what lacks it with ingressDeny.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=0
	FromRequires []LabelSelector `json:"fromRequires,omitzero"`
}

// EgressPeers are the kinds of peers that traffic may go to. A list that is there but empty matches no
// one.
type EgressPeers struct {
	// Pods by their labels. Without a label of a namespace in the selector: pods of the policy's own
	// namespace, or of any in a CiliumClusterwideNetworkPolicy.
	// +optional
	// +listType=atomic
	ToEndpoints []LabelSelector `json:"toEndpoints,omitzero"`

	// Parts of the world by name.
	// +optional
	// +listType=atomic
	ToEntities []Entity `json:"toEntities,omitzero"`

	// Addresses outside the cluster, as prefixes: "192.0.2.0/24", "2001:db8::/32".
	// +optional
	// +listType=atomic
	ToCIDR []CIDR `json:"toCIDR,omitzero"`

	// Addresses outside the cluster, as prefixes with exceptions or by CiliumCIDRGroup.
	// +optional
	// +listType=atomic
	ToCIDRSet []CIDRRule `json:"toCIDRSet,omitzero"`

	// Nodes by their labels.
	// +optional
	// +listType=atomic
	ToNodes []LabelSelector `json:"toNodes,omitzero"`

	// Groups of a cloud provider.
	// +optional
	// +listType=atomic
	ToGroups []Group `json:"toGroups,omitzero"`

	// The backends of services.
	// +optional
	// +listType=atomic
	ToServices []ServicePeer `json:"toServices,omitzero"`

	// No longer part of the API: must be empty. Join the requirement to the selectors of toEndpoints,
	// or deny what lacks it with egressDeny.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=0
	ToRequires []LabelSelector `json:"toRequires,omitzero"`
}

// Entity names a part of the world: all is everything; cluster everything in the cluster, nodes
// included; world everything outside, of one family with world-ipv4 or world-ipv6; host the pod's own
// node; remote-node the other nodes; kube-apiserver the API server; init, health, unmanaged and ingress
// are special endpoints; none is no one.
// +kubebuilder:validation:Enum=all;world;world-ipv4;world-ipv6;cluster;cluster-mesh;host;remote-node;init;ingress;unmanaged;health;kube-apiserver;none
type Entity string

// CIDR is a prefix: an IPv4 or IPv6 address, '/' and the number of bits that count.
// +kubebuilder:validation:Format=cidr
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:Pattern=`^((0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}|[0-9a-fA-F:]*:([0-9a-fA-F]{0,4}|(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}))/(0|[1-9][0-9]{0,2})$`
type CIDR string

// CIDRRule is a prefix with exceptions, or the prefixes of CIDR groups. It has exactly one of cidr,
// cidrGroupRef and cidrGroupSelector.
type CIDRRule struct {
	// The prefix.
	// +optional
	CIDR CIDR `json:"cidr,omitempty"`

	// The name of a CiliumCIDRGroup.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	CIDRGroupRef string `json:"cidrGroupRef,omitempty"`

	// CiliumCIDRGroups by their labels.
	// +optional
	CIDRGroupSelector *LabelSelector `json:"cidrGroupSelector,omitempty"`

	// Prefixes inside that the rule is not about.
	// +optional
	// +listType=atomic
	Except []CIDR `json:"except,omitzero"`
}

// Group is a group of a cloud provider.
type Group struct {
	// A group of Amazon Web Services.
	// +optional
	AWS *AWSGroup `json:"aws,omitempty"`
}

// AWSGroup names instances of Amazon Web Services.
type AWSGroup struct {
	// Tags of the instances.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Security groups by their ids.
	// +optional
	// +listType=atomic
	SecurityGroupsIDs []string `json:"securityGroupsIds,omitzero"`
	// Security groups by their names.
	// +optional
	// +listType=atomic
	SecurityGroupsNames []string `json:"securityGroupsNames,omitzero"`
	// The region.
	// +optional
	Region string `json:"region,omitempty"`
}

// ServicePeer means the backends of a service, or of the services that a selector selects.
type ServicePeer struct {
	// A service by name.
	// +optional
	K8sService *ServiceName `json:"k8sService,omitempty"`
	// Services by their labels.
	// +optional
	K8sServiceSelector *ServiceSelector `json:"k8sServiceSelector,omitempty"`
}

// ServiceName names a service.
type ServiceName struct {
	// The service's name.
	// +optional
	ServiceName string `json:"serviceName,omitempty"`
	// The service's namespace; the policy's own if absent.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// ServiceSelector selects services.
type ServiceSelector struct {
	// Labels of the services.
	Selector LabelSelector `json:"selector"`
	// The services' namespace; any if absent.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// FQDNSelector selects DNS names, by one name or a pattern.
type FQDNSelector struct {
	// A DNS name, as in "api.example.com".
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^([-a-zA-Z0-9_]+[.]?)+$`
	MatchName string `json:"matchName,omitempty"`

	// A pattern of DNS names: '*' stands for any characters but '.', as in "*.example.com"; "*" alone
	// for every name, and a leading "**." for one or more labels.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^([-a-zA-Z0-9_*]+[.]?)+$`
	MatchPattern string `json:"matchPattern,omitempty"`
}
