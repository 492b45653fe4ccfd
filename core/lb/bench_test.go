package lb

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weirnet/weir/core/datapath"
)

// bigCluster feeds 5,000 services of 10 endpoints.
func bigCluster(c *Compiler) {
	for i := range 5000 {
		n := Name{"bench", fmt.Sprintf("svc-%d", i)}
		c.UpsertService(Service{Name: n, Frontends: []Frontend{{
			Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Port: 80, Proto: datapath.ProtoTCP, Type: ClusterIP,
		}}})
		c.UpsertSlice(Slice{Service: n, Name: "s", Backends: bigEndpoints(i, 10)})
	}
}

func bigEndpoints(service, n int) []Backend {
	out := make([]Backend, n)
	for j := range out {
		k := service*10 + j
		out[j] = Backend{Addr: netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}), Port: 8080, Proto: datapath.ProtoTCP, Weight: 1}
	}
	return out
}

func BenchmarkCompileCold5000x10(b *testing.B) {
	b.ReportAllocs()
	ops := 0
	for b.Loop() {
		c := NewCompiler(Settings{Node: "n1", NodePorts: true})
		bigCluster(c)
		ops = len(c.Flush())
	}
	b.ReportMetric(float64(ops), "rows")
}

func BenchmarkOneEndpointChangesOf5000x10(b *testing.B) {
	c := NewCompiler(Settings{Node: "n1", NodePorts: true})
	bigCluster(c)
	c.Flush()
	b.ReportAllocs()
	n, ops := 0, 0
	for b.Loop() {
		// The last endpoint comes and goes.
		c.UpsertSlice(Slice{Service: Name{"bench", "svc-2500"}, Name: "s", Backends: bigEndpoints(2500, 9+n%2)})
		ops += len(c.Flush())
		n++
	}
	b.ReportMetric(float64(ops)/float64(n), "rows/op")
}
