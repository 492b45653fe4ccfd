package porttest

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// PublisherHarness is a publisher with a source that sees what it publishes.
type PublisherHarness struct {
	Publisher ports.Publisher
	Source    ports.Source
}

// Publisher is the contract suite of ports.Publisher. start makes one on an empty cluster.
func Publisher(t *testing.T, start func(t *testing.T) PublisherHarness) {
	ctx := context.Background()
	node := cluster.Node{Name: "n1", Labels: map[string]string{"zone": "a"},
		Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd01::1")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
		Routers:   []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	ep := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 7, Identity: 300, Node: "n1",
		NodeIP: netip.MustParseAddr("192.168.0.1"), IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
		Ports: []policy.NamedPort{{Name: "http", Proto: 6, Port: 8080}}}

	t.Run("node", func(t *testing.T) {
		h := start(t)
		w := WatchSource(t, h.Source)
		require.NoError(t, h.Publisher.PublishNode(ctx, node))
		k := w.Eventually(t, "the node", func(k Known) bool { return len(k.Nodes) == 1 })
		assert.Equal(t, node, k.Nodes["n1"])
		require.NoError(t, h.Publisher.PublishNode(ctx, node))
		changed := node
		changed.Routers = changed.Routers[:1]
		require.NoError(t, h.Publisher.PublishNode(ctx, changed))
		w.Eventually(t, "the changed node", func(k Known) bool { return len(k.Nodes["n1"].Routers) == 1 })
		assert.Error(t, h.Publisher.PublishNode(ctx, cluster.Node{Name: "../n1"}))
	})

	t.Run("endpoint", func(t *testing.T) {
		h := start(t)
		w := WatchSource(t, h.Source)
		require.NoError(t, h.Publisher.PublishEndpoint(ctx, ep))
		k := w.Eventually(t, "the endpoint", func(k Known) bool { return len(k.Endpoints) == 1 })
		assert.Equal(t, ep, k.Endpoints["shop/web"])

		moved := ep
		moved.Node, moved.NodeIP, moved.IPs = "n2", netip.MustParseAddr("192.168.0.2"), []netip.Addr{netip.MustParseAddr("10.0.1.5")}
		require.NoError(t, h.Publisher.PublishEndpoint(ctx, moved))
		k = w.Eventually(t, "the endpoint on another node", func(k Known) bool { return k.Endpoints["shop/web"].Node == "n2" })
		assert.Equal(t, moved, k.Endpoints["shop/web"])

		require.NoError(t, h.Publisher.WithdrawEndpoint(ctx, ep.Name, "n1"), "it is not n1's any more")
		other := ep
		other.Name.Name = "db"
		require.NoError(t, h.Publisher.PublishEndpoint(ctx, other))
		k = w.Eventually(t, "a second endpoint", func(k Known) bool { _, ok := k.Endpoints["shop/db"]; return ok })
		assert.Contains(t, k.Endpoints, "shop/web")

		require.NoError(t, h.Publisher.WithdrawEndpoint(ctx, ep.Name, "n2"))
		w.Eventually(t, "the endpoint gone", func(k Known) bool { _, ok := k.Endpoints["shop/web"]; return !ok })
		require.NoError(t, h.Publisher.WithdrawEndpoint(ctx, ep.Name, "n2"), "absent is no error")
		assert.Error(t, h.Publisher.PublishEndpoint(ctx, cluster.Endpoint{Name: cluster.Name{Namespace: "..", Name: "x"}}))
	})
}
