package walks

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// TestCrossNode replays docs/walks/cross-node.md.
func TestCrossNode(t *testing.T) {
	c := newCluster(t, podA, strings.ReplaceAll(podB, "NODE", "node2"), letAIn)
	one, two := c.Node("node1"), c.Node("node2")
	a, b := c.Pod("walk/a"), c.Pod("walk/b")

	// 1. On node1 B is no endpoint; ipcache has its identity and node2.
	absent(t, one.Kernel.Tables().Endpoints, b.IPs[0])
	known := get(t, one.Kernel.Tables().IPCache, host(b.IPs[0]))
	require.Equal(t, b.Identity, known.Identity)
	require.Equal(t, two.Addresses[0], known.Tunnel)
	// 3. On node2 node1 may tunnel.
	get(t, two.Kernel.Tables().Nodes, one.Addresses[0])

	conn, answer, trace := c.Open("walk/a", "walk/b", 8080, tcp)
	require.True(t, answer.Connected, "%s", trace)
	require.Equal(t, []step{
		{"node1", kernel.FromPod, kernel.Tunnel, isNew}, {"node2", kernel.FromOverlay, kernel.RedirectPeer, isNew},
		{"node2", kernel.FromPod, kernel.Tunnel, nil}, {"node1", kernel.FromOverlay, kernel.RedirectPeer, nil},
	}, stepsOf(trace)[:4], "%s", trace)
	for _, s := range stepsOf(trace)[4:] {
		require.Empty(t, s.events, "4. the entries answer")
	}
	out := trace.Steps[0].Result
	require.EqualValues(t, a.Identity, out.VNI)
	require.Equal(t, two.Addresses[0], out.Remote)
	require.Equal(t, datapath.OverlayMAC[:], out.Frame[:6])
	require.EqualValues(t, b.Identity, trace.Steps[2].Result.VNI)
	events := eventsOf(trace)
	require.True(t, events[0].EgressJudged && !events[0].IngressJudged, "node1 judges A's egress only")
	require.Equal(t, datapath.PointToOverlay, events[0].Point)
	require.True(t, !events[1].EgressJudged && events[1].IngressJudged, "node2 judges B's ingress only")
	require.Equal(t, datapath.PointToEndpoint, events[1].Point)
	near, far := flowOf(t, one.Kernel, 8080), flowOf(t, two.Kernel, 8080)
	require.NotZero(t, near.SrcEndpoint)
	require.Zero(t, near.DstEndpoint)
	require.Zero(t, far.SrcEndpoint)
	require.NotZero(t, far.DstEndpoint)
	require.Equal(t, a.Identity, far.SrcIdentity)

	// A pod relabelled sends with another VNI, and node2 judges the flow anew.
	apply(t, c, strings.Replace(podA, "app: a", "app: other", 1))
	require.NotEqual(t, a.Identity, c.Pod("walk/a").Identity)
	answer, trace = conn.Send("me again")
	require.False(t, answer.Connected, "%s", trace)
	drop := trace.Drop()
	require.Equal(t, "node2", drop.Node)
	require.Equal(t, kernel.FromOverlay, drop.Hook)
	require.Equal(t, datapath.ReasonPolicyDenied, drop.Reason)
	require.Equal(t, c.Pod("walk/a").Identity, drop.Event.SrcIdentity)
}

// The overlay's source is who the VNI says: node2 need not have heard of A.
func TestCrossNodeTables(t *testing.T) {
	c := newCluster(t, podA, strings.ReplaceAll(podB, "NODE", "node2"), letAIn)
	two := c.Node("node2").Kernel
	a := c.Pod("walk/a")
	require.NoError(t, two.Tables().IPCache.Delete(host(a.IPs[0])))
	answer, trace := c.Dial("walk/a", "walk/b", 8080, tcp)
	require.True(t, answer.Connected, "%s", trace)

	// Whose tunnelled packets are not accepted is not asked who sent them.
	empty(t, two.Tables().Nodes)
	_, trace = c.Dial("walk/a", "walk/b", 8080, tcp)
	require.Equal(t, datapath.ReasonUnknownSender, trace.Drop().Reason)
	res := two.Inject(kernel.FromOverlay, 2, trace.Steps[0].Result.Frame, kernel.Meta{VNI: 1, Remote: netip.Addr{}})
	require.Equal(t, datapath.ReasonTunnelKey, res.Reason)
}
