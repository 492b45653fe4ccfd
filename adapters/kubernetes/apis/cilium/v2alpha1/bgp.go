package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumBGPClusterConfig says which nodes speak BGP, as which autonomous systems, and with which peers. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpclusterconfig,path=ciliumbgpclusterconfigs,scope=Cluster,shortName={cbgpcluster}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion
type CiliumBGPClusterConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The nodes and what they speak.
	Spec v2.BGPClusterConfigSpec `json:"spec"`

	// What is wrong with it, as conditions: cilium.io/NoMatchingNode, cilium.io/MissingPeerConfigs,
	// cilium.io/ConflictingClusterConfig.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumBGPClusterConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPClusterConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPClusterConfig `json:"items"`
}

// CiliumBGPPeerConfig is what peers have in common: timers, password, families. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgppeerconfig,path=ciliumbgppeerconfigs,scope=Cluster,shortName={cbgppeer}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion
type CiliumBGPPeerConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What the peers have in common.
	Spec v2.BGPPeerConfigSpec `json:"spec"`

	// What is wrong with it, as conditions: cilium.io/MissingAuthSecret.
	// +optional
	Status v2.ConditionsStatus `json:"status,omitzero"`
}

// CiliumBGPPeerConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPPeerConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPPeerConfig `json:"items"`
}

// CiliumBGPAdvertisement says what is advertised. CiliumBGPPeerConfigs select it by its labels. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpadvertisement,path=ciliumbgpadvertisements,scope=Cluster,shortName={cbgpadvert}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:deprecatedversion
type CiliumBGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What is advertised.
	Spec v2.BGPAdvertisementSpec `json:"spec"`
}

// CiliumBGPAdvertisementList is a list of advertisements.
// +kubebuilder:object:root=true
type CiliumBGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPAdvertisement `json:"items"`
}

// CiliumBGPNodeConfig is what one node speaks, and how its sessions are. The operator writes it of
// CiliumBGPClusterConfigs and CiliumBGPNodeConfigOverrides, the node's agent its status. It has the
// node's name. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpnodeconfig,path=ciliumbgpnodeconfigs,scope=Cluster,shortName={cbgpnode}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion
type CiliumBGPNodeConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What the node speaks.
	Spec v2.BGPNodeSpec `json:"spec"`

	// How its sessions are.
	// +optional
	Status v2.BGPNodeStatus `json:"status,omitzero"`
}

// CiliumBGPNodeConfigList is a list of configurations.
// +kubebuilder:object:root=true
type CiliumBGPNodeConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPNodeConfig `json:"items"`
}

// CiliumBGPNodeConfigOverride is what differs on one node from the CiliumBGPClusterConfig that selects
// it. It has the node's name. Write it as cilium.io/v2: this
// is the same under the older version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpnodeconfigoverride,path=ciliumbgpnodeconfigoverrides,scope=Cluster,shortName={cbgpnodeoverride}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:deprecatedversion
type CiliumBGPNodeConfigOverride struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What differs.
	Spec v2.BGPNodeConfigOverrideSpec `json:"spec"`
}

// CiliumBGPNodeConfigOverrideList is a list of overrides.
// +kubebuilder:object:root=true
type CiliumBGPNodeConfigOverrideList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPNodeConfigOverride `json:"items"`
}
