package crds

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
)

// published is what agents write, with every part filled and with as little as may be.
func published(t *testing.T) [][]byte {
	var out [][]byte
	add := func(doc []byte, err error) {
		require.NoError(t, err)
		out = append(out, doc)
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	set := labels.NewSet(labels.Label{Source: "k8s", Key: "app", Value: "a"}, labels.Label{Source: "k8s", Key: labels.KeyNamespacePrefix + "kubernetes.io/metadata.name", Value: "shop"})
	add(manifest.EncodeIdentity(4711, set))
	add(manifest.EncodeNode(cluster.Node{Name: "node-a"}))
	add(manifest.EncodeNode(cluster.Node{Name: "node-b", Labels: map[string]string{"zone": "a"}, Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
		Routers: []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}, PodCIDRs: []netip.Prefix{prefix("10.0.0.0/24"), prefix("fd00::/112")}}))
	add(manifest.EncodeEndpoint(cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "a"}}, labels.Set{}))
	add(manifest.EncodeEndpoint(cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "b"}, Node: "node-a", NodeIP: addr("192.0.2.1"), ID: 65535, Identity: 4711,
		IPs:   []netip.Addr{addr("10.0.0.2"), addr("fd00::2"), addr("10.0.0.3")},
		Ports: []policy.NamedPort{{Name: "http", Proto: datapath.ProtoTCP, Port: 80}}}, set))
	return out
}
