package lb_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/lb"
)

// A table maps hashes of connections to backends; taking one backend away moves hardly any of the
// other backends' connections.
func ExampleNewTable() {
	backends := []lb.MaglevBackend{
		{Name: "10.0.1.7:8080", Weight: 1},
		{Name: "10.0.2.4:8080", Weight: 1},
		{Name: "10.0.2.9:8080", Weight: 2},
	}
	table, err := lb.NewTable(backends, lb.DefaultSize, lb.DefaultSeed)
	if err != nil {
		fmt.Println(err)
		return
	}
	share := make([]int, len(backends))
	for _, e := range table {
		share[e]++
	}
	for i, b := range backends {
		fmt.Printf("%s has %d of %d slots\n", b.Name, share[i], len(table))
	}
	_, err = lb.NewTable(backends, 1000, lb.DefaultSeed)
	fmt.Println(err)
	// Output:
	// 10.0.1.7:8080 has 4095 of 16381 slots
	// 10.0.2.4:8080 has 4095 of 16381 slots
	// 10.0.2.9:8080 has 8191 of 16381 slots
	// maglev table of 1000 slots: maglev table size not supported; allowed are the primes [251 509 1021 2039 4093 8191 16381 32749 65521 65537 131071]
}

func ExampleCompiler() {
	name := lb.Name{Namespace: "shop", Name: "backend"}
	c := lb.NewCompiler(lb.Settings{Node: "n1"})
	c.UpsertService(lb.Service{Name: name, Frontends: []lb.Frontend{{
		Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Proto: datapath.ProtoTCP, PortName: "http", Type: lb.ClusterIP,
	}}})
	endpoint := func(addr string, s lb.State) lb.Backend {
		return lb.Backend{Addr: netip.MustParseAddr(addr), Port: 8080, Proto: datapath.ProtoTCP, PortName: "http", Weight: 1, State: s}
	}
	c.UpsertSlice(lb.Slice{Service: name, Name: "backend-1", Backends: []lb.Backend{
		endpoint("10.0.1.7", lb.Active), endpoint("10.0.2.4", lb.Active),
	}})
	fmt.Println("at first:")
	for _, op := range c.Flush() {
		fmt.Printf("  %T\n", op)
	}

	c.UpsertSlice(lb.Slice{Service: name, Name: "backend-1", Backends: []lb.Backend{
		endpoint("10.0.1.7", lb.Terminating), endpoint("10.0.2.4", lb.Active),
	}})
	fmt.Println("one terminates:")
	for _, op := range c.Flush() {
		fmt.Printf("  %T\n", op)
	}
	for _, f := range c.Frontends() {
		for _, b := range f.Backends {
			fmt.Printf("%s: %s (%s)\n", f.Key(), b.Backend.Addr, b.Backend.State)
		}
	}
	// Output:
	// at first:
	//   lb.PutBackend
	//   lb.PutBackend
	//   lb.PutSlot
	//   lb.PutSlot
	//   lb.PutService
	// one terminates:
	//   lb.PutSlot
	//   lb.PutService
	//   lb.DeleteSlot
	//   lb.DeleteBackend
	// 10.96.0.10:80/TCP: 10.0.1.7 (terminating)
	// 10.96.0.10:80/TCP: 10.0.2.4 (active)
}

func ExampleAffinity() {
	backends := []uint32{11, 12, 13}
	random := rand.New(rand.NewPCG(1, 1))
	choose := func() (uint32, bool) {
		slot, ok := lb.Pick(uint32(len(backends)), random)
		if !ok {
			return 0, false
		}
		return backends[slot-1], true
	}
	serves := func(uint32) bool { return true }

	table := lb.NewAffinity[netip.Addr]()
	client, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	first, _ := table.Select(1, client, 3*time.Hour, now, serves, choose)
	same := true
	for range 20 {
		now = now.Add(time.Hour)
		again, _ := table.Select(1, client, 3*time.Hour, now, serves, choose)
		same = same && again == first
	}
	fmt.Println("stays:", same)
	// Output: stays: true
}
