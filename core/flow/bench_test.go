package flow_test

import (
	"net/netip"
	"testing"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// Goal: at least a million events a second on one processor, from the datapath's event to the ring.
func BenchmarkIngest(b *testing.B) {
	src, dst := netip.MustParseAddr("10.244.0.7"), netip.MustParseAddr("10.244.0.8")
	labels := []string{"k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop"}
	known := quick{
		src: {Identity: 300, Namespace: "shop", Pod: "web", Labels: labels},
		dst: {Identity: 301, Namespace: "shop", Pod: "db", Labels: labels},
	}
	builder, ring := flow.NewBuilder("node1", 1, known), flow.NewRing(0)
	ev := event()
	ev.Src, ev.Dst = netip.AddrPortFrom(src, 40000), netip.AddrPortFrom(dst, 80)
	b.ReportAllocs()
	for b.Loop() {
		ring.Push(flow.Entry{Flow: builder.Build(ev)})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
}

// quick is a Lookup that costs next to nothing.
type quick map[netip.Addr]flow.AddressInfo

func (q quick) Address(a netip.Addr) (flow.AddressInfo, bool) { i, ok := q[a]; return i, ok }
func (q quick) Identity(identity.ID) ([]string, bool)         { return nil, false }
func (q quick) Rule(datapath.Cookie) (policy.Verdict, bool) {
	return policy.Verdict{Allowed: true}, true
}
func (q quick) Frontend(netip.AddrPort, uint8) (flow.Service, bool) { return flow.Service{}, false }
