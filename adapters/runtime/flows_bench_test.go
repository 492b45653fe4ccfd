package runtime

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// BenchmarkObserve takes an event of the kernel into the record of flows, as the agent's loop does: two pods
// with labels, a rule on either side.
func BenchmarkObserve(b *testing.B) {
	a := newAgent(Config{Node: "node1"}, Deps{Clock: SystemClock{}, Log: slog.New(slog.DiscardHandler)})
	a.engine = engine.New("node1", engine.Adopted{}, time.Now())
	a.builder = flow.NewBuilder("node1", 1, lookups{&a})
	ips := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for i, name := range []string{"client", "server"} {
		ls := labels.NewSet(
			labels.Label{Source: "k8s", Key: "app", Value: name}, labels.Label{Source: "k8s", Key: "tier", Value: "web"},
			labels.Label{Source: "k8s", Key: "io.kubernetes.pod.namespace", Value: "production"})
		a.engine.Apply(time.Now(), cluster.IdentityUpsert{ID: identity.ID(1000 + i), Labels: ls})
		a.engine.Apply(time.Now(), cluster.EndpointUpsert{Endpoint: cluster.Endpoint{
			Name: cluster.Name{Namespace: "production", Name: name}, Node: "node2", Identity: identity.ID(1000 + i), IPs: ips[i : i+1],
		}})
	}
	ev := datapath.Event{
		Type: datapath.EventNew, Point: datapath.PointToEndpoint, Proto: datapath.ProtoTCP, TCPFlags: datapath.TCPSyn,
		Src: netip.AddrPortFrom(ips[0], 40000), Dst: netip.AddrPortFrom(ips[1], 80), SrcIdentity: 1000, DstIdentity: 1001,
		EgressJudged: true, IngressJudged: true, Time: time.Now(),
	}
	b.ReportAllocs()
	for b.Loop() {
		a.observe(ev)
	}
}
