package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumBGPClusterConfig says which nodes speak BGP, as which autonomous systems, and with which peers.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpclusterconfig,path=ciliumbgpclusterconfigs,scope=Cluster,shortName={cbgpcluster}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumBGPClusterConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The nodes and what they speak.
	Spec BGPClusterConfigSpec `json:"spec"`

	// What is wrong with it, as conditions: cilium.io/NoMatchingNode, cilium.io/MissingPeerConfigs,
	// cilium.io/ConflictingClusterConfig.
	// +optional
	Status ConditionsStatus `json:"status,omitzero"`
}

// CiliumBGPClusterConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPClusterConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPClusterConfig `json:"items"`
}

// BGPClusterConfigSpec is who speaks BGP.
type BGPClusterConfigSpec struct {
	// The nodes, by their labels; all if absent.
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`

	// The instances that each of the nodes runs.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	BGPInstances []BGPInstance `json:"bgpInstances"`
}

// BGPInstance is a speaker of BGP.
type BGPInstance struct {
	// The instance's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`

	// The number of its autonomous system.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN *int64 `json:"localASN,omitempty"`

	// The port that it listens on; it does not listen if absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	LocalPort *int32 `json:"localPort,omitempty"`

	// Its peers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Peers []BGPPeer `json:"peers,omitempty"`
}

// BGPPeer is a peer of an instance.
type BGPPeer struct {
	// The peer's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name"`

	// The peer's address. Link-local ones name their interface after a '%', or in peerInterface.
	// +optional
	PeerAddress *PeerIP `json:"peerAddress,omitempty"`

	// The interface that leads to a peer with a link-local address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	PeerInterface *string `json:"peerInterface,omitempty"`

	// The number of the peer's autonomous system; 0 takes the one that it names.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN *int64 `json:"peerASN,omitempty"`

	// How to find the peer's address.
	// +optional
	AutoDiscovery *BGPAutoDiscovery `json:"autoDiscovery,omitempty"`

	// The CiliumBGPPeerConfig with the rest; the defaults hold if absent.
	// +optional
	PeerConfigRef *PeerConfigReference `json:"peerConfigRef,omitempty"`
}

// BGPAutoDiscovery is how a peer is found.
// +kubebuilder:validation:XValidation:rule="self.mode != 'DefaultGateway' || has(self.defaultGateway)",message="mode DefaultGateway needs defaultGateway"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Unnumbered' || has(self.unnumbered) != has(self.defaultGateway)",message="mode Unnumbered needs unnumbered or defaultGateway, and not both"
type BGPAutoDiscovery struct {
	// DefaultGateway: the peer is the node's default gateway. Unnumbered: it is the neighbor on an
	// interface, by its link-local address.
	// +kubebuilder:validation:Enum=DefaultGateway;Unnumbered
	Mode string `json:"mode"`
	// Which default gateway; with mode Unnumbered, the interface that leads there.
	// +optional
	DefaultGateway *BGPDefaultGateway `json:"defaultGateway,omitempty"`
	// Which interface.
	// +optional
	Unnumbered *BGPUnnumbered `json:"unnumbered,omitempty"`
}

// BGPUnnumbered says which interface.
type BGPUnnumbered struct {
	// The interface's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Interface string `json:"interface"`
}

// PeerIP is an IPv4 or IPv6 address, with the interface after a '%' if it is link-local.
// +kubebuilder:validation:Format=peer-ip
// +kubebuilder:validation:MaxLength=64
type PeerIP string

// BGPDefaultGateway says which default gateway.
type BGPDefaultGateway struct {
	// The gateway's family.
	// +kubebuilder:validation:Enum=ipv4;ipv6
	AddressFamily string `json:"addressFamily"`
}

// PeerConfigReference names a CiliumBGPPeerConfig.
type PeerConfigReference struct {
	// The object's group; cilium.io. Kept for objects that hold it.
	// +optional
	Group string `json:"group,omitempty"`
	// The object's kind; CiliumBGPPeerConfig. Kept for objects that hold it.
	// +optional
	Kind string `json:"kind,omitempty"`
	// The object's name.
	Name string `json:"name"`
}
