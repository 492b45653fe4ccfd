package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumBGPAdvertisement says what is advertised. CiliumBGPPeerConfigs select it by its labels.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumbgp},singular=ciliumbgpadvertisement,path=ciliumbgpadvertisements,scope=Cluster,shortName={cbgpadvert}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumBGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// What is advertised.
	Spec BGPAdvertisementSpec `json:"spec"`
}

// CiliumBGPAdvertisementList is a list of advertisements.
// +kubebuilder:object:root=true
type CiliumBGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumBGPAdvertisement `json:"items"`
}

// BGPAdvertisementSpec is what is advertised.
type BGPAdvertisementSpec struct {
	// The advertisements.
	// +listType=atomic
	Advertisements []BGPAdvertisement `json:"advertisements"`
}

// BGPAdvertisement is one kind of routes.
//
// +kubebuilder:validation:XValidation:rule="self.advertisementType != 'Service' || has(self.service)",message="advertisementType Service needs service"
// +kubebuilder:validation:XValidation:rule="self.advertisementType == 'Service' || !has(self.service)",message="only advertisementType Service takes service"
// +kubebuilder:validation:XValidation:rule="self.advertisementType != 'Interface' || has(self.interface)",message="advertisementType Interface needs interface"
// +kubebuilder:validation:XValidation:rule="self.advertisementType == 'Interface' || !has(self.interface)",message="only advertisementType Interface takes interface"
// +kubebuilder:validation:XValidation:rule="self.advertisementType != 'PodCIDR' || !has(self.selector)",message="advertisementType PodCIDR takes no selector"
type BGPAdvertisement struct {
	// PodCIDR: the node's pod ranges. CiliumPodIPPool: its ranges of the pools selected. Service: the
	// addresses of the services selected. Interface: the addresses of an interface.
	// +kubebuilder:validation:Enum=PodCIDR;CiliumPodIPPool;Service;Interface
	AdvertisementType string `json:"advertisementType"`

	// Which addresses of services.
	// +optional
	Service *BGPServiceOptions `json:"service,omitempty"`

	// Which interface.
	// +optional
	Interface *BGPInterfaceOptions `json:"interface,omitempty"`

	// The services or pools, by their labels; none if absent.
	// +optional
	Selector *LabelSelector `json:"selector,omitempty"`

	// What is said of the routes.
	// +optional
	Attributes *BGPAttributes `json:"attributes,omitempty"`
}

// BGPServiceOptions says which addresses of services.
type BGPServiceOptions struct {
	// The kinds of addresses.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	Addresses []BGPServiceAddress `json:"addresses"`
	// The length of the IPv4 prefixes that addresses are joined to; single addresses if absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31
	AggregationLengthIPv4 *int16 `json:"aggregationLengthIPv4,omitempty"`
	// The length of the IPv6 prefixes that addresses are joined to; single addresses if absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=127
	AggregationLengthIPv6 *int16 `json:"aggregationLengthIPv6,omitempty"`
}

// BGPServiceAddress is a kind of addresses of services.
// +kubebuilder:validation:Enum=LoadBalancerIP;ClusterIP;ExternalIP
type BGPServiceAddress string

// BGPInterfaceOptions says which interface.
type BGPInterfaceOptions struct {
	// The interface's name.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
}

// BGPAttributes is what is said of routes.
type BGPAttributes struct {
	// Marks of the routes.
	// +optional
	Communities *BGPCommunities `json:"communities,omitempty"`
	// How much internal peers prefer the routes; more is better.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference *int64 `json:"localPreference,omitempty"`
}

// BGPCommunities are marks of routes.
type BGPCommunities struct {
	// Marks of 32 bits, as a number or as two of 16 bits with ':' between.
	// +optional
	// +listType=atomic
	Standard []BGPStandardCommunity `json:"standard,omitempty"`
	// Marks by their names.
	// +optional
	// +listType=atomic
	WellKnown []BGPWellKnownCommunity `json:"wellKnown,omitempty"`
	// Marks of three numbers of 32 bits with ':' between.
	// +optional
	// +listType=atomic
	Large []BGPLargeCommunity `json:"large,omitempty"`
}

// BGPStandardCommunity is a mark of 32 bits.
// +kubebuilder:validation:Pattern=`^((6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9]?[0-9]{1,3}):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9]?[0-9]{1,3})|429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9]?[0-9]{1,8})$`
type BGPStandardCommunity string

// BGPWellKnownCommunity is a mark by its name.
// +kubebuilder:validation:Enum=internet;planned-shut;accept-own;route-filter-translated-v4;route-filter-v4;route-filter-translated-v6;route-filter-v6;llgr-stale;no-llgr;blackhole;no-export;no-advertise;no-export-subconfed;no-peer
type BGPWellKnownCommunity string

// BGPLargeCommunity is a mark of three numbers of 32 bits.
// +kubebuilder:validation:Pattern=`^(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9]?[0-9]{1,8}):(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9]?[0-9]{1,8}):(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9]?[0-9]{1,8})$`
type BGPLargeCommunity string
