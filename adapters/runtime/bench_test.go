package runtime

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

// discard is a network that has what it is asked for.
type discard struct{ ports.Network }

func (discard) SyncNodeRoutes([]ports.NodeRoute) error { return nil }

// benchAgent is the part of an agent that the loop runs, over a fake kernel, live, with services of 10 endpoints.
func benchAgent(b *testing.B, services int) *agent {
	now := time.Unix(1_800_000_000, 0)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	a := newAgent(Config{Node: "node1"}, Deps{Log: log, Clock: SystemClock{}})
	a.dp = kernel.New(kernel.Options{Capacities: kernel.Capacities{Backends: 1 << 20}})
	a.exec = newExecutor(a.dp, discard{}, log)
	a.builder = flow.NewBuilder("node1", 1, lookups{&a})
	a.engine = engine.New("node1", engine.Adopted{}, now)
	for i := range services {
		for _, ev := range benchService(i, 10) {
			a.apply(ev)
		}
	}
	a.apply(cluster.Synced{})
	a.exec.run(now)
	require.True(b, a.exec.settled())
	return &a
}

func benchService(i, endpoints int) [2]cluster.Event {
	name := lb.Name{Namespace: "bench", Name: fmt.Sprint("service-", i)}
	backends := make([]lb.Backend, endpoints)
	for j := range backends {
		k := 10*i + j
		backends[j] = lb.Backend{Addr: netip.AddrFrom4([4]byte{10, 128 + byte(k>>16), byte(k >> 8), byte(k)}), Port: 8080, Proto: datapath.ProtoTCP, Weight: 1}
	}
	return [2]cluster.Event{
		cluster.BackendsUpsert{Slice: lb.Slice{Service: name, Name: "slice", Backends: backends}},
		cluster.ServiceUpsert{Service: lb.Service{Name: name, Frontends: []lb.Frontend{
			{Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Port: 80, Proto: datapath.ProtoTCP, Type: lb.ClusterIP}}}},
	}
}

// One endpoint comes and goes: from the event to the tables of a fake kernel.
func BenchmarkEndpointChange(b *testing.B) {
	for _, n := range []int{50, 5000} {
		b.Run(fmt.Sprint(n, "Services"), func(b *testing.B) {
			a := benchAgent(b, n)
			now := time.Unix(1_800_000_000, 0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				a.apply(benchService(7, 9+i%2)[0])
				if next := a.exec.run(now); !next.IsZero() {
					b.Fatal("something waits")
				}
			}
		})
	}
}
