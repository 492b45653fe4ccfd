package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of this package's kinds.
var GroupVersion = schema.GroupVersion{Group: "cilium.io", Version: "v2"}

var builder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, Kinds()...)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme makes a scheme know this package's kinds.
func AddToScheme(s *runtime.Scheme) error { return builder.AddToScheme(s) }

// Kinds returns an empty object of each kind of this package and of each kind's list.
func Kinds() []runtime.Object {
	return []runtime.Object{
		&CiliumNetworkPolicy{}, &CiliumNetworkPolicyList{},
		&CiliumClusterwideNetworkPolicy{}, &CiliumClusterwideNetworkPolicyList{},
		&CiliumCIDRGroup{}, &CiliumCIDRGroupList{},
		&CiliumIdentity{}, &CiliumIdentityList{},
		&CiliumEndpoint{}, &CiliumEndpointList{},
		&CiliumNode{}, &CiliumNodeList{},
		&CiliumNodeConfig{}, &CiliumNodeConfigList{},
		&CiliumLoadBalancerIPPool{}, &CiliumLoadBalancerIPPoolList{},
		&CiliumPodIPPool{}, &CiliumPodIPPoolList{},
		&CiliumBGPClusterConfig{}, &CiliumBGPClusterConfigList{},
		&CiliumBGPPeerConfig{}, &CiliumBGPPeerConfigList{},
		&CiliumBGPAdvertisement{}, &CiliumBGPAdvertisementList{},
		&CiliumBGPNodeConfig{}, &CiliumBGPNodeConfigList{},
		&CiliumBGPNodeConfigOverride{}, &CiliumBGPNodeConfigOverrideList{},
		&CiliumEnvoyConfig{}, &CiliumEnvoyConfigList{},
		&CiliumClusterwideEnvoyConfig{}, &CiliumClusterwideEnvoyConfigList{},
		&CiliumLocalRedirectPolicy{}, &CiliumLocalRedirectPolicyList{},
		&CiliumEgressGatewayPolicy{}, &CiliumEgressGatewayPolicyList{},
	}
}
