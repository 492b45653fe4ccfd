package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumBGPPeerConfig is what peers have in common: timers, password, families.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgppeerconfig,path=ciliumbgppeerconfigs,scope=Cluster,shortName={cbgppeer}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumBGPPeerConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What the peers have in common.
	Spec BGPPeerConfigSpec `json:"spec"`

	// What is wrong with it, as conditions: cilium.io/MissingAuthSecret.
	// +optional
	Status ConditionsStatus `json:"status,omitzero"`
}

// CiliumBGPPeerConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPPeerConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPPeerConfig `json:"items"`
}

// BGPPeerConfigSpec is what peers have in common.
type BGPPeerConfigSpec struct {
	// The TCP connection.
	// +optional
	Transport *BGPTransport `json:"transport,omitempty"`

	// The times of the protocol.
	// +optional
	Timers *BGPTimers `json:"timers,omitempty"`

	// The secret whose field "password" signs the connection's segments (TCP MD5). It is in the
	// agent's namespace for secrets of BGP.
	// +optional
	AuthSecretRef *string `json:"authSecretRef,omitempty"`

	// What the peer does with our routes while we start anew.
	// +optional
	GracefulRestart *BGPGracefulRestart `json:"gracefulRestart,omitempty"`

	// How many hops an external peer is away.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`

	// The families that are spoken of and what is advertised in them; if absent, IPv4 and IPv6
	// unicast without advertisements.
	// +optional
	// +listType=atomic
	Families []BGPFamilyAdvertisements `json:"families,omitempty"`
}

// BGPTransport is the TCP connection to a peer.
type BGPTransport struct {
	// The port that the connection comes from. Kept for objects that hold it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	LocalPort *int32 `json:"localPort,omitempty"`
	// The peer's port.
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort *int32 `json:"peerPort,omitempty"`
	// The interface whose address the connection comes from.
	// +optional
	SourceInterface *string `json:"sourceInterface,omitempty"`
}

// BGPTimers are the times of the protocol, in seconds.
// +kubebuilder:validation:XValidation:rule="self.keepAliveTimeSeconds <= self.holdTimeSeconds",message="keepAliveTimeSeconds can not be larger than holdTimeSeconds"
type BGPTimers struct {
	// The time between two attempts to connect.
	// +optional
	// +kubebuilder:default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	ConnectRetryTimeSeconds *int32 `json:"connectRetryTimeSeconds,omitempty"`
	// How long a silent peer is held for alive.
	// +optional
	// +kubebuilder:default=90
	// +kubebuilder:validation:Minimum=3
	// +kubebuilder:validation:Maximum=65535
	HoldTimeSeconds *int32 `json:"holdTimeSeconds,omitempty"`
	// The time between two signs of life.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	KeepAliveTimeSeconds *int32 `json:"keepAliveTimeSeconds,omitempty"`
}

// BGPGracefulRestart is what a peer does with our routes while we start anew.
type BGPGracefulRestart struct {
	// Whether the peer is asked to keep them.
	Enabled bool `json:"enabled"`
	// How long it keeps them, in seconds.
	// +optional
	// +kubebuilder:default=120
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4095
	RestartTimeSeconds *int32 `json:"restartTimeSeconds,omitempty"`
}

// BGPFamily is an address family of BGP.
type BGPFamily struct {
	// The addresses.
	// +kubebuilder:validation:Enum=ipv4;ipv6;l2vpn;ls;opaque
	Afi string `json:"afi"`
	// What they are for.
	// +kubebuilder:validation:Enum=unicast;multicast;mpls_label;encapsulation;vpls;evpn;ls;sr_policy;mup;mpls_vpn;mpls_vpn_multicast;route_target_constraints;flowspec_unicast;flowspec_vpn;key_value
	Safi string `json:"safi"`
}

// BGPFamilyAdvertisements is a family and what is advertised in it.
type BGPFamilyAdvertisements struct {
	BGPFamily `json:",inline"`
	// The CiliumBGPAdvertisements, by their labels; none if absent.
	// +optional
	Advertisements *LabelSelector `json:"advertisements,omitempty"`
}
