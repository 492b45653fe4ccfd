package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumBGPNodeConfig is what one node speaks, and how its sessions are. The operator writes it of
// CiliumBGPClusterConfigs and CiliumBGPNodeConfigOverrides, the node's agent its status. It has the
// node's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpnodeconfig,path=ciliumbgpnodeconfigs,scope=Cluster,shortName={cbgpnode}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumBGPNodeConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What the node speaks.
	Spec BGPNodeSpec `json:"spec"`

	// How its sessions are.
	// +optional
	Status BGPNodeStatus `json:"status,omitzero"`
}

// CiliumBGPNodeConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPNodeConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPNodeConfig `json:"items"`
}

// BGPNodeSpec is what a node speaks.
type BGPNodeSpec struct {
	// The node's instances.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	BGPInstances []BGPNodeInstance `json:"bgpInstances"`
}

// BGPNodeInstance is an instance on a node.
type BGPNodeInstance struct {
	// The instance's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// The number of its autonomous system.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN *int64 `json:"localASN,omitempty"`
	// Its id, written as an IPv4 address.
	// +optional
	// +kubebuilder:validation:Format=ipv4
	RouterID *string `json:"routerID,omitempty"`
	// The port that it listens on; it does not listen if absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	LocalPort *int32 `json:"localPort,omitempty"`
	// Its peers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []BGPNodePeer `json:"peers,omitempty"`
}

// BGPNodePeer is a peer of an instance on a node.
type BGPNodePeer struct {
	// The peer's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// The peer's address.
	// +optional
	PeerAddress *PeerIP `json:"peerAddress,omitempty"`
	// The interface that leads to a peer with a link-local address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	PeerInterface *string `json:"peerInterface,omitempty"`
	// The number of the peer's autonomous system; 0 takes the one that it names.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN *int64 `json:"peerASN,omitempty"`
	// How to find the peer's address.
	// +optional
	AutoDiscovery *BGPAutoDiscovery `json:"autoDiscovery,omitempty"`
	// The address that the connection comes from.
	// +optional
	LocalAddress *PeerIP `json:"localAddress,omitempty"`
	// The CiliumBGPPeerConfig with the rest.
	// +optional
	PeerConfigRef *PeerConfigReference `json:"peerConfigRef,omitempty"`
}

// BGPNodeStatus is how a node's sessions are.
type BGPNodeStatus struct {
	// The node's instances.
	// +optional
	// +listType=map
	// +listMapKey=name
	BGPInstances []BGPNodeInstanceStatus `json:"bgpInstances,omitempty"`
	// What is wrong, as conditions: cilium.io/BGPReconcileError.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPNodeInstanceStatus is how an instance's sessions are.
type BGPNodeInstanceStatus struct {
	// The instance's name.
	Name string `json:"name"`
	// The number of its autonomous system.
	// +optional
	LocalASN *int64 `json:"localASN,omitempty"`
	// Its peers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []BGPNodePeerStatus `json:"peers,omitempty"`
}

// BGPNodePeerStatus is how a session is.
type BGPNodePeerStatus struct {
	// The peer's name.
	Name string `json:"name"`
	// The peer's address.
	PeerAddress string `json:"peerAddress"`
	// The number of the peer's autonomous system.
	// +optional
	PeerASN *int64 `json:"peerASN,omitempty"`
	// How far the session is: idle, connect, active, opensent, openconfirm, established.
	// +optional
	PeeringState *string `json:"peeringState,omitempty"`
	// The times that both sides agreed on.
	// +optional
	Timers *BGPTimersStatus `json:"timers,omitempty"`
	// Since when the session is established.
	// +optional
	EstablishedTime *string `json:"establishedTime,omitempty"`
	// How many routes went each way.
	// +optional
	// +listType=atomic
	RouteCount []BGPRouteCount `json:"routeCount,omitempty"`
}

// BGPTimersStatus are times that both sides agreed on, in seconds.
type BGPTimersStatus struct {
	// How long a silent peer is held for alive.
	// +optional
	AppliedHoldTimeSeconds *int32 `json:"appliedHoldTimeSeconds,omitempty"`
	// The time between two signs of life.
	// +optional
	AppliedKeepaliveSeconds *int32 `json:"appliedKeepaliveSeconds,omitempty"`
}

// BGPRouteCount is how many routes of a family went each way.
type BGPRouteCount struct {
	BGPFamily `json:",inline"`
	// How many came from the peer.
	// +optional
	Received *int32 `json:"received,omitempty"`
	// How many the peer got.
	// +optional
	Advertised *int32 `json:"advertised,omitempty"`
}

// CiliumBGPNodeConfigOverride is what differs on one node from the CiliumBGPClusterConfig that selects
// it. It has the node's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpnodeconfigoverride,path=ciliumbgpnodeconfigoverrides,scope=Cluster,shortName={cbgpnodeoverride}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumBGPNodeConfigOverride struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What differs.
	Spec BGPNodeConfigOverrideSpec `json:"spec"`
}

// CiliumBGPNodeConfigOverrideList is a list of overrides.
// +kubebuilder:object:root=true
type CiliumBGPNodeConfigOverrideList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPNodeConfigOverride `json:"items"`
}

// BGPNodeConfigOverrideSpec is what differs on a node.
type BGPNodeConfigOverrideSpec struct {
	// The instances, by their names.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	BGPInstances []BGPInstanceOverride `json:"bgpInstances"`
}

// BGPInstanceOverride is what differs in an instance.
type BGPInstanceOverride struct {
	// The instance's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// Its id, written as an IPv4 address.
	// +optional
	// +kubebuilder:validation:Format=ipv4
	RouterID *string `json:"routerID,omitempty"`
	// The port that it listens on.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	LocalPort *int32 `json:"localPort,omitempty"`
	// The number of its autonomous system.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN *int64 `json:"localASN,omitempty"`
	// Its peers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []BGPPeerOverride `json:"peers,omitempty"`
}

// BGPPeerOverride is what differs for a peer.
type BGPPeerOverride struct {
	// The peer's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`
	// The address that the connection comes from.
	// +optional
	LocalAddress *PeerIP `json:"localAddress,omitempty"`
	// The interface that leads to a peer with a link-local address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	PeerInterface *string `json:"peerInterface,omitempty"`
	// The port that the connection comes from.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	LocalPort *int32 `json:"localPort,omitempty"`
}
