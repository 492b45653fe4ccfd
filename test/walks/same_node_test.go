package walks

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// TestSameNode replays docs/walks/same-node.md.
func TestSameNode(t *testing.T) {
	c := newCluster(t, podA, strings.ReplaceAll(podB, "NODE", "node1"), letAIn)
	n := c.Node("node1")
	tables := n.Kernel.Tables()
	a, b := c.Pod("walk/a"), c.Pod("walk/b")

	// 2. endpoints names A's interface, so its source is genuine, and holds B: a local pod.
	epA, epB := get(t, tables.Endpoints, a.IPs[0]), get(t, tables.Endpoints, b.IPs[0])
	require.Equal(t, a.Identity, epA.Identity)
	require.Equal(t, b.Identity, epB.Identity)
	require.NotEqual(t, epA.Ifindex, epB.Ifindex)

	// 3. B's policy: its word, the class of A's identity, a row for TCP 8080 of that class.
	word := get(t, tables.EndpointPolicy, epB.ID)
	class := get(t, tables.Classes, datapath.ClassKey{Generation: word.Policy.Generation(), Identity: a.Identity})
	row := get(t, tables.Policy, datapath.PolicyKey{Policy: word.Policy, Class: class, Direction: datapath.Ingress, Proto: tcp, Port: 8080, PortBits: 16})
	require.True(t, row.Allow)

	conn, answer, trace := c.Open("walk/a", "walk/b", 8080, tcp)
	require.True(t, answer.Connected, "%s", trace)
	// 1 and 5. One program for each packet, from_pod of its sender, and redirect_peer to the other. Only
	// the first packet reports anything.
	for i, s := range stepsOf(trace) {
		want := step{node: "node1", hook: kernel.FromPod, action: kernel.RedirectPeer}
		if i == 0 {
			want.events = isNew
		}
		require.Equal(t, want, s, "%s", trace)
	}
	require.Equal(t, epA.Ifindex, trace.Steps[0].Ifindex)
	require.Equal(t, epB.Ifindex, trace.Steps[0].Result.Ifindex)
	require.Equal(t, epB.MAC[:], trace.Steps[0].Result.Frame[:6], "destination MAC: B's side of its link")
	require.Equal(t, epB.NodeMAC[:], trace.Steps[0].Result.Frame[6:12], "source MAC: the node's side")
	require.Equal(t, epB.Ifindex, trace.Steps[1].Ifindex, "the answer")
	require.Equal(t, epA.Ifindex, trace.Steps[1].Result.Ifindex)

	// 4. The entry knows both sides and both rules; the event says the same.
	first := eventsOf(trace)[0]
	require.True(t, first.EgressJudged && first.IngressJudged)
	require.Equal(t, row.Cookie, first.IngressCookie)
	require.Equal(t, datapath.PointToEndpoint, first.Point)
	entry := flowOf(t, n.Kernel, 8080)
	require.Equal(t, conn.Local(), entry.Src)
	require.Equal(t, a.Identity, entry.SrcIdentity)
	require.Equal(t, b.Identity, entry.DstIdentity)
	require.Equal(t, epA.ID, entry.SrcEndpoint)
	require.Equal(t, epB.ID, entry.DstEndpoint)
	require.Equal(t, row.Cookie, entry.IngressCookie)
	verdict := c.Probe("walk/a", "walk/b", 8080, "TCP")
	require.Equal(t, "NetworkPolicy walk/b ingress[0]", verdict.Ingress.String())

	// A policy for B changes: another policy id with a higher epoch, and the flow is judged as A to B even
	// when B speaks first. Both directions stop.
	apply(t, c, strings.Replace(letAIn, "app: a", "app: nobody", 1))
	next := get(t, tables.EndpointPolicy, epB.ID)
	require.NotEqual(t, word.Policy, next.Policy)
	require.Greater(t, next.Epoch, word.Epoch)
	answer, trace = conn.SendBack("still there?")
	require.False(t, answer.Connected)
	require.Equal(t, datapath.ReasonPolicyDenied, trace.Drop().Reason)
	require.Equal(t, datapath.Ingress, trace.Drop().Event.Direction, "of A to B, although B sent it")
	require.True(t, trace.Drop().Event.Reply)
	require.True(t, flowByPort(t, n.Kernel, conn.Local().Port()).Denied)
	answer, _ = conn.Send("hello?")
	require.False(t, answer.Connected)
}

func flowByPort(t *testing.T, k *kernel.Kernel, sport uint16) datapath.Flow {
	t.Helper()
	list, err := k.Flows()
	require.NoError(t, err)
	for _, f := range list {
		if f.Src.Port() == sport {
			return f
		}
	}
	t.Fatalf("no flow from port %d", sport)
	return datapath.Flow{}
}

// The tables that the walk says are read, on the first packet and later.
func TestSameNodeTables(t *testing.T) {
	c := newCluster(t, podA, strings.ReplaceAll(podB, "NODE", "node1"), letAIn)
	tables := c.Node("node1").Kernel.Tables()
	conn, answer, _ := c.Open("walk/a", "walk/b", 8080, tcp)
	require.True(t, answer.Connected)
	empty(t, tables.Policy)
	empty(t, tables.Classes)
	empty(t, tables.IPCache)
	empty(t, tables.Endpoints)
	empty(t, tables.Nodes)
	answer, trace := conn.Send("more")
	require.True(t, answer.Connected, "flows and ep_policy are enough: %s", trace)
	answer, trace = c.Dial("walk/a", "walk/b", 8080, tcp)
	require.False(t, answer.Connected)
	require.Equal(t, datapath.ReasonInvalidSource, trace.Drop().Reason, "a first packet needs endpoints")
	empty(t, tables.EndpointPolicy)
	answer, _ = conn.Send("more")
	require.False(t, answer.Connected, "ep_policy is read for every packet")
}
