package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumBGPPeeringPolicy says in one object which nodes speak BGP, with which peers, and what they
// advertise. CiliumBGPClusterConfig is its successor.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgppeeringpolicy,path=ciliumbgppeeringpolicies,scope=Cluster,shortName={bgpp}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumBGPPeeringPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The nodes and what they speak.
	// +optional
	Spec BGPPeeringSpec `json:"spec,omitzero"`

	// What is wrong with it.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumBGPPeeringPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumBGPPeeringPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPPeeringPolicy `json:"items"`
}

// BGPPeeringSpec is nodes and what they speak.
type BGPPeeringSpec struct {
	// The nodes, by their labels; all if absent.
	// +optional
	NodeSelector *v2.LabelSelector `json:"nodeSelector,omitempty"`
	// The speakers that each of the nodes runs, one for an autonomous system.
	// +listType=map
	// +listMapKey=localASN
	// +kubebuilder:validation:MinItems=1
	VirtualRouters []BGPVirtualRouter `json:"virtualRouters"`
}

// BGPVirtualRouter is a speaker of BGP.
type BGPVirtualRouter struct {
	// The number of its autonomous system.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN int64 `json:"localASN"`
	// Whether the ranges of the node's pods are advertised.
	// +optional
	// +kubebuilder:default=false
	ExportPodCIDR *bool `json:"exportPodCIDR,omitempty"`
	// The CiliumPodIPPools whose ranges are advertised, by their labels; none if absent.
	// +optional
	PodIPPoolSelector *v2.LabelSelector `json:"podIPPoolSelector,omitempty"`
	// The services whose addresses are advertised, by their labels or by the names
	// io.kubernetes.service.namespace and io.kubernetes.service.name; none if absent.
	// +optional
	ServiceSelector *v2.LabelSelector `json:"serviceSelector,omitempty"`
	// Which of the services' addresses are advertised.
	// +optional
	// +listType=atomic
	// +kubebuilder:default={LoadBalancerIP}
	ServiceAdvertisements []v2.BGPServiceAddress `json:"serviceAdvertisements,omitempty"`
	// Its peers.
	// +listType=map
	// +listMapKey=peerAddress
	// +kubebuilder:validation:MinItems=1
	Neighbors []BGPNeighbor `json:"neighbors"`
}

// BGPNeighbor is a peer.
// +kubebuilder:validation:XValidation:rule="self.keepAliveTimeSeconds <= self.holdTimeSeconds",message="keepAliveTimeSeconds can not be larger than holdTimeSeconds"
type BGPNeighbor struct {
	// The peer's address as a prefix of that address alone: "192.0.2.1/32", "2001:db8::1/128".
	PeerAddress HostPrefix `json:"peerAddress"`
	// The peer's port.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort *int32 `json:"peerPort,omitempty"`
	// The number of the peer's autonomous system.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN int64 `json:"peerASN"`
	// The secret whose field "password" signs the connection's segments (TCP MD5). It is in the
	// agent's namespace for secrets of BGP.
	// +optional
	AuthSecretRef *string `json:"authSecretRef,omitempty"`
	// How many hops an external peer is away.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	EBGPMultihopTTL *int32 `json:"eBGPMultihopTTL,omitempty"`
	// The time between two attempts to connect, in seconds.
	// +optional
	// +kubebuilder:default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	ConnectRetryTimeSeconds *int32 `json:"connectRetryTimeSeconds,omitempty"`
	// How long a silent peer is held for alive, in seconds.
	// +optional
	// +kubebuilder:default=90
	// +kubebuilder:validation:Minimum=3
	// +kubebuilder:validation:Maximum=65535
	HoldTimeSeconds *int32 `json:"holdTimeSeconds,omitempty"`
	// The time between two signs of life, in seconds.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	KeepAliveTimeSeconds *int32 `json:"keepAliveTimeSeconds,omitempty"`
	// What the peer does with our routes while we start anew.
	// +optional
	GracefulRestart *v2.BGPGracefulRestart `json:"gracefulRestart,omitempty"`
	// The families that are spoken of; IPv4 and IPv6 unicast if absent.
	// +optional
	// +listType=atomic
	Families []v2.BGPFamily `json:"families,omitempty"`
	// What is said of routes.
	// +optional
	// +listType=atomic
	AdvertisedPathAttributes []BGPPathAttributes `json:"advertisedPathAttributes,omitempty"`
}

// HostPrefix is a prefix of one address.
// +kubebuilder:validation:Format=cidr
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:Pattern=`^([0-9.]+/32|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/128)$`
type HostPrefix string

// BGPPathAttributes is what is said of some routes.
type BGPPathAttributes struct {
	// Which routes: those of pod ranges, of addresses from CiliumLoadBalancerIPPools, or of
	// CiliumPodIPPools.
	// +kubebuilder:validation:Enum=PodCIDR;CiliumLoadBalancerIPPool;CiliumPodIPPool
	SelectorType string `json:"selectorType"`
	// The pools, by their labels; all if absent.
	// +optional
	Selector *v2.LabelSelector `json:"selector,omitempty"`

	v2.BGPAttributes `json:",inline"`
}

// CiliumBGPPeeringStatus is how a session of a node with a peer is. The node's agent writes one for each
// session and removes it with the session.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgppeeringstatus,path=ciliumbgppeeringstatuses,scope=Cluster
// +kubebuilder:printcolumn:JSONPath=".status.node",name=Node,type=string
// +kubebuilder:printcolumn:JSONPath=".status.localASN",name=LocalASN,type=integer
// +kubebuilder:printcolumn:JSONPath=".status.peerASN",name=PeerASN,type=integer
// +kubebuilder:printcolumn:JSONPath=".status.peerAddress",name=PeerAddress,type=string
// +kubebuilder:printcolumn:JSONPath=".status.state",name=State,type=string
// +kubebuilder:printcolumn:JSONPath=".status.establishedTime",name=Uptime,type=date
// +kubebuilder:printcolumn:JSONPath=".status.received",name=Received,type=integer
// +kubebuilder:printcolumn:JSONPath=".status.advertised",name=Advertised,type=integer
// +kubebuilder:printcolumn:JSONPath=".status.lastError",name=LastError,type=string
// +kubebuilder:storageversion
type CiliumBGPPeeringStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// All that is said of the session.
	// +optional
	Status BGPPeeringStatus `json:"status,omitzero"`
}

// CiliumBGPPeeringStatusList is a list of sessions.
// +kubebuilder:object:root=true
type CiliumBGPPeeringStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPPeeringStatus `json:"items"`
}

// BGPPeeringStatus is how a session is.
type BGPPeeringStatus struct {
	// The node's name.
	Node string `json:"node"`
	// The number of the node's autonomous system.
	LocalASN int64 `json:"localASN"`
	// The number of the peer's autonomous system.
	// +optional
	PeerASN int64 `json:"peerASN,omitempty"`
	// The peer's address.
	PeerAddress v2.IP `json:"peerAddress"`
	// How far the session is.
	// +kubebuilder:validation:Enum=idle;connect;active;opensent;openconfirm;established
	State string `json:"state"`
	// Since when the session is established.
	// +optional
	EstablishedTime metav1.Time `json:"establishedTime,omitzero"`
	// How many routes came from the peer, all families together.
	// +optional
	Received int32 `json:"received"`
	// How many routes the peer got, all families together.
	// +optional
	Advertised int32 `json:"advertised"`
	// The routes by family.
	// +optional
	// +listType=atomic
	RouteCount []v2.BGPRouteCount `json:"routeCount,omitempty"`
	// Why the session ended or did not begin.
	// +optional
	LastError string `json:"lastError,omitempty"`
}
