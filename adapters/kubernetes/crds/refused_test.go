package crds

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestRefused has objects of the kinds besides policies that are wrong: the spec, and what the API server
// says of it.
func TestRefused(t *testing.T) {
	ctx, _, client := installed(t)
	peer := func(more string) string {
		return "virtualRouters: [{localASN: 1, neighbors: [{peerASN: 2, " + more + "}]}]"
	}
	redirect := func(frontend, port string) string {
		return fmt.Sprintf("{redirectFrontend: {%s}, redirectBackend: {localEndpointSelector: {}, toPorts: [%s]}}", frontend, port)
	}
	const address, port = "addressMatcher: {ip: 10.0.0.1, toPorts: []}", `{port: "80", protocol: TCP}`
	for _, c := range []struct{ kind, spec, says string }{
		{"CiliumCIDRGroup", "{}", "externalCIDRs"},
		{"CiliumCIDRGroup", "externalCIDRs: [10.0.0.0]", "externalCIDRs[0]"},
		{"CiliumLoadBalancerIPPool", "blocks: [{}]", "blocks[0]"},
		{"CiliumLoadBalancerIPPool", "blocks: [{cidr: 10.0.0.0/8, start: 10.0.0.1}]", "blocks[0]"},
		{"CiliumLoadBalancerIPPool", "blocks: [{stop: 10.0.0.1}]", "blocks[0]"},
		{"CiliumLoadBalancerIPPool", "blocks: [{start: 10.0.0}]", "blocks[0].start"},
		{"CiliumLoadBalancerIPPool", "cidrs: [{cidr: 10.0.0.0/99}]", "cidrs[0].cidr"},
		{"CiliumLoadBalancerIPPool", "allowFirstLastIPs: Maybe", "allowFirstLastIPs"},
		{"CiliumLoadBalancerIPPool", "serviceSelector: {matchExpressions: [{key: a, operator: In}]}", "values"},
		{"CiliumPodIPPool", "ipv4: {cidrs: [], maskSize: 24}", "cidrs"},
		{"CiliumPodIPPool", "ipv4: {cidrs: [10.0.0.0/8], maskSize: 33}", "maskSize"},
		{"CiliumBGPClusterConfig", "bgpInstances: []", "bgpInstances"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a}, {name: a}]", "Duplicate"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a, localASN: 4294967296}]", "localASN"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a, peers: [{name: b, peerAddress: 10.0.0.1/32}]}]", "peerAddress"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a, peers: [{name: b, autoDiscovery: {mode: DefaultGateway}}]}]", "needs defaultGateway"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a, peers: [{name: b, autoDiscovery: {mode: Unnumbered}}]}]", "mode Unnumbered needs"},
		{"CiliumBGPClusterConfig", `bgpInstances: [{name: a, peers: [{name: b, peerAddress: "fd00::1%eth0"}]}]`, "peerAddress"},
		{"CiliumBGPPeerConfig", "timers: {holdTimeSeconds: 9, keepAliveTimeSeconds: 10}", "keepAliveTimeSeconds can not be larger"},
		{"CiliumBGPClusterConfig", "bgpInstances: [{name: a, peers: [{name: b, autoDiscovery: {mode: Unnumbered}}]}]", "mode Unnumbered needs"},
		{"CiliumBGPClusterConfig", `bgpInstances: [{name: a, peers: [{name: b, peerAddress: "fd00::1%eth0"}]}]`, "peerAddress"},
		{"CiliumBGPPeerConfig", "timers: {holdTimeSeconds: 9}", "keepAliveTimeSeconds can not be larger"},
		{"CiliumBGPPeerConfig", "families: [{afi: ipv5, safi: unicast}]", "afi"},
		{"CiliumBGPPeerConfig", "gracefulRestart: {enabled: true, restartTimeSeconds: 4096}", "restartTimeSeconds"},
		{"CiliumBGPAdvertisement", "advertisements: [{advertisementType: Service}]", "needs service"},
		{"CiliumBGPAdvertisement", "advertisements: [{advertisementType: PodCIDR, service: {addresses: [ClusterIP]}}]", "only advertisementType Service"},
		{"CiliumBGPAdvertisement", "advertisements: [{advertisementType: PodCIDR, selector: {}}]", "takes no selector"},
		{"CiliumBGPAdvertisement", "advertisements: [{advertisementType: Interface}]", "needs interface"},
		{"CiliumBGPAdvertisement", "advertisements: [{advertisementType: PodCIDR, interface: {name: lo}}]", "only advertisementType Interface"},
		{"CiliumBGPAdvertisement", `advertisements: [{advertisementType: PodCIDR, attributes: {communities: {standard: ["65536:1"]}}}]`, "standard[0]"},
		{"CiliumBGPAdvertisement", `advertisements: [{advertisementType: PodCIDR, attributes: {communities: {standard: ["4294967296"]}}}]`, "standard[0]"},
		{"CiliumBGPAdvertisement", `advertisements: [{advertisementType: PodCIDR, attributes: {communities: {large: ["1:2:3:"]}}}]`, "large[0]"},
		{"CiliumBGPNodeConfigOverride", `bgpInstances: [{name: a, routerID: "fd00::1"}]`, "routerID"},
		{"CiliumBGPPeeringPolicy", "virtualRouters: []", "virtualRouters"},
		{"CiliumBGPPeeringPolicy", peer("peerAddress: 10.0.0.1"), "peerAddress"},
		{"CiliumBGPPeeringPolicy", peer("peerAddress: 10.0.0.0/24"), "peerAddress"},
		{"CiliumBGPPeeringPolicy", peer(`peerAddress: "fd00::1/32"`), "peerAddress"},
		{"CiliumBGPPeeringPolicy", peer("peerAddress: 10.0.0.1/32, holdTimeSeconds: 20"), "keepAliveTimeSeconds can not be larger"},
		{"CiliumBGPPeeringPolicy", peer("peerAddress: 10.0.0.1/32, peerPort: 0"), "peerPort"},
		{"CiliumLocalRedirectPolicy", redirect("", port), "want addressMatcher or serviceMatcher"},
		{"CiliumLocalRedirectPolicy", redirect(address+", serviceMatcher: {serviceName: a, namespace: b}", port), "want addressMatcher or serviceMatcher"},
		{"CiliumLocalRedirectPolicy", redirect(address, `{port: "80", protocol: SCTP}`), "protocol"},
		{"CiliumLocalRedirectPolicy", redirect(address, `{port: http, protocol: TCP}`), "port"},
		{"CiliumEgressGatewayPolicy", "{selectors: [], destinationCIDRs: []}", "want egressGateway"},
		{"CiliumEgressGatewayPolicy", "{selectors: [], destinationCIDRs: [], egressGateway: {nodeSelector: {}, interface: a, egressIP: 10.0.0.1}}", "exclude one another"},
		{"CiliumEgressGatewayPolicy", "{selectors: [], destinationCIDRs: [], egressGateways: [{interface: a}]}", "nodeSelector"},
		{"CiliumGatewayClassConfig", "service: {type: ExternalName}", "type"},
		{"CiliumHTTPRetryPolicy", "attempts: 11", "attempts"},
		{"CiliumHTTPRetryPolicy", "timeout: 2 s", "timeout"},
		{"CiliumHTTPRetryPolicy", "{timeout: 1s, perTryTimeout: 1500ms}", "can not be longer than timeout"},
		{"CiliumHTTPRetryPolicy", "retryOn: [sometimes]", "retryOn[0]"},
		{"CiliumHTTPRetryPolicy", "statusCodes: [503]", "needs retriable-status-codes"},
		{"CiliumHTTPRetryPolicy", "{retryOn: [retriable-status-codes], statusCodes: [200]}", "statusCodes[0]"},
		{"CiliumHTTPRetryPolicy", "backoff: {baseInterval: 1s, maxInterval: 10ms}", "can not be longer than maxInterval"},
	} {
		t.Run(c.kind+" "+c.spec, func(t *testing.T) {
			u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cilium.io/" + storageVersion(c.kind), "kind": c.kind, "metadata": map[string]any{"name": "a"}}}
			for _, k := range kinds {
				if k.name == c.kind && k.scope == "Namespaced" {
					u.SetNamespace("shop")
				}
			}
			var spec map[string]any
			require.NoError(t, yaml.UnmarshalStrict([]byte(c.spec), &spec))
			u.Object["spec"] = spec
			dry := strict
			dry.DryRun = []string{metav1.DryRunAll}
			_, err := of(t, client, u).Create(ctx, u, dry)
			assert.True(t, apierrors.IsInvalid(err), "%v", err)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// TestRedirectIsForGood changes a local redirect policy after the fact.
func TestRedirectIsForGood(t *testing.T) {
	ctx, _, client := installed(t)
	for _, u := range documents(t, "testdata/policies.yaml") {
		if u.GetKind() != "CiliumLocalRedirectPolicy" || u.GetName() != "metadata" {
			continue
		}
		u.SetName("for-good")
		got, err := of(t, client, u).Create(ctx, u, strict)
		require.NoError(t, err)
		require.NoError(t, unstructured.SetNestedField(got.Object, "10.0.0.1", "spec", "redirectFrontend", "addressMatcher", "ip"))
		_, err = of(t, client, u).Update(ctx, got, metav1.UpdateOptions{})
		assert.ErrorContains(t, err, "redirectFrontend can't be changed")
		require.NoError(t, of(t, client, u).Delete(ctx, u.GetName(), metav1.DeleteOptions{}))
		return
	}
	require.Fail(t, "no such document")
}

// TestLargestPolicy has one that fills the API server's limits for a request: what it costs to check must
// stay within the budget.
func TestLargestPolicy(t *testing.T) {
	ctx, _, client := installed(t)
	rules := make([]any, 3000)
	for i := range rules {
		rules[i] = map[string]any{"fromCIDRSet": []any{map[string]any{"cidr": fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "except": []any{fmt.Sprintf("10.%d.%d.1/32", i/256, i%256)}}},
			"toPorts": []any{map[string]any{"ports": []any{map[string]any{"port": "80", "endPort": int64(90), "protocol": "TCP"}, map[string]any{"port": "443", "protocol": "TCP"}}}}}
	}
	for _, fields := range []string{"spec", "specs"} {
		rule := map[string]any{"endpointSelector": map[string]any{}, "description": strings.Repeat("x", 400_000), "ingress": rules}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": map[string]any{"name": "large", "namespace": "shop"}, fields: rule}}
		if fields == "specs" {
			u.Object[fields] = []any{rule}
		}
		_, err := of(t, client, u).Create(ctx, u, strict)
		require.NoError(t, err, fields)
		require.NoError(t, of(t, client, u).Delete(ctx, "large", metav1.DeleteOptions{}))
	}
}
