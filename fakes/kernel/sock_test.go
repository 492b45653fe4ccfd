package kernel_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

var (
	vip4, vip6 = ip("10.96.0.10"), ip("fd00:96::10")
	client     = kernel.Socket{Netns: 7, Cookie: 1, Proto: tcp}
)

// service writes a service with backends in the order that the contract asks for.
func (w *world) service(k *kernel.Kernel, id uint32, frontend datapath.ServiceKey, affinity uint32, backends ...netip.AddrPort) {
	w.t.Helper()
	tb := k.Tables()
	for i, b := range backends {
		n := id*100 + uint32(i) + 1
		w.ok(tb.Backends.Put(n, datapath.Backend{Addr: b.Addr(), Port: b.Port(), Proto: frontend.Proto}))
		w.ok(tb.Slots.Put(datapath.SlotKey{Service: id, Slot: uint32(i) + 1}, n))
	}
	w.ok(tb.Services.Put(frontend, datapath.Service{ID: id, Count: uint32(len(backends)), AffinityTimeout: affinity}))
}

func frontend(a netip.Addr, port uint16, proto uint8) datapath.ServiceKey {
	return datapath.ServiceKey{Addr: a, Port: port, Proto: proto}
}

func TestConnectPicksABackend(t *testing.T) {
	w := newWorld(t)
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 8080), at(job4, 8080))
	seen := map[netip.AddrPort]int{}
	for i := range 200 {
		s := kernel.Socket{Netns: 7, Cookie: uint64(i), Proto: tcp}
		real, err := w.one.Connect(s, at(vip4, 80))
		w.ok(err)
		seen[real]++
		require.Equal(t, at(vip4, 80), w.one.Getpeername(s, real))
		require.Equal(t, at(vip4, 80), w.one.Recvmsg(s, real))
		require.Equal(t, real, w.one.Getpeername(kernel.Socket{Cookie: 1 << 40, Proto: tcp}, real), "another socket")
	}
	require.Len(t, seen, 2)
	require.Greater(t, seen[at(db4, 8080)], 60)
	require.Greater(t, seen[at(job4, 8080)], 60)
	require.Empty(t, w.one.Violations())
}

func TestConnectLeavesOthersAlone(t *testing.T) {
	w := newWorld(t)
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 8080))
	for _, dst := range []netip.AddrPort{at(vip4, 81), at(db4, 80), at(vip6, 80)} {
		real, err := w.one.Connect(client, dst)
		w.ok(err)
		require.Equal(t, dst, real)
	}
	real, err := w.one.Connect(kernel.Socket{Cookie: 1, Proto: udp}, at(vip4, 80))
	w.ok(err)
	require.Equal(t, at(vip4, 80), real, "another protocol")
	w.service(w.one, 2, frontend(vip4, 80, datapath.ProtoSCTP), 0, at(db4, 8080))
	real, err = w.one.Connect(kernel.Socket{Cookie: 1, Proto: datapath.ProtoSCTP}, at(vip4, 80))
	w.ok(err)
	require.Equal(t, at(vip4, 80), real, "SCTP sockets are not translated")
}

func TestSameSeedSameChoice(t *testing.T) {
	choices := func(seed uint64) (out []string) {
		w := newWorldWith(t, kernel.Options{Seed: seed})
		w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 1), at(db4, 2), at(db4, 3), at(db4, 4))
		for range 20 {
			real, err := w.one.Connect(client, at(vip4, 80))
			w.ok(err)
			out = append(out, real.String())
		}
		return out
	}
	require.Equal(t, choices(1), choices(1))
	require.NotEqual(t, choices(1), choices(2))
}

func TestChoiceCanBeGiven(t *testing.T) {
	slot := uint32(0)
	w := newWorldWith(t, kernel.Options{Choose: func(n uint32) uint32 {
		require.Equal(t, uint32(3), n)
		return slot
	}})
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 1), at(db4, 2), at(db4, 3))
	for _, slot = range []uint32{2, 0, 1, 1} {
		real, err := w.one.Connect(client, at(vip4, 80))
		w.ok(err)
		require.Equal(t, at(db4, uint16(slot+1)), real)
	}
}

func TestRefusedWithoutBackend(t *testing.T) {
	w := newWorld(t)
	tb := w.one.Tables()
	key := frontend(vip4, 80, tcp)
	refusedBy := func() {
		t.Helper()
		_, err := w.one.Connect(client, at(vip4, 80))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorContains(t, err, "10.96.0.10:80/TCP")
		_, err = w.one.Sendmsg(client, at(vip4, 80))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	w.ok(tb.Services.Put(key, datapath.Service{ID: 1}))
	refusedBy()
	w.ok(tb.Services.Put(key, datapath.Service{ID: 1, Count: 1}))
	refusedBy() // no slot
	w.ok(tb.Slots.Put(datapath.SlotKey{Service: 1, Slot: 1}, 5))
	refusedBy() // no backend
	w.ok(tb.Backends.Put(5, datapath.Backend{Addr: db6, Port: 1, Proto: tcp}))
	refusedBy() // of the other family
	w.ok(tb.Backends.Put(5, datapath.Backend{Addr: db4, Port: 1, Proto: tcp}))
	real, err := w.one.Connect(client, at(vip4, 80))
	w.ok(err)
	require.Equal(t, at(db4, 1), real)
}

func TestHolesAmongTheSlotsAreSkipped(t *testing.T) {
	w := newWorld(t)
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 1), at(db4, 2))
	w.ok(w.one.Tables().Backends.Delete(102))
	refusedCount := 0
	const tries = 2000
	for range tries {
		real, err := w.one.Connect(client, at(vip4, 80))
		if err != nil {
			refusedCount++
			continue
		}
		require.Equal(t, at(db4, 1), real)
	}
	require.InDelta(t, tries/32, refusedCount, 30, "five picks: one in 32 finds only the hole")
}

func TestAffinity(t *testing.T) {
	w := newWorld(t)
	var backends []netip.AddrPort
	for i := range 50 {
		backends = append(backends, at(db4, uint16(1000+i)))
	}
	w.service(w.one, 1, frontend(vip4, 80, tcp), 60, backends...)
	connect := func(netns uint64) netip.AddrPort {
		t.Helper()
		real, err := w.one.Connect(kernel.Socket{Netns: netns, Cookie: 9, Proto: tcp}, at(vip4, 80))
		w.ok(err)
		return real
	}
	first := connect(1)
	different := 0
	for ns := uint64(2); ns < 12; ns++ {
		if connect(ns) != first {
			different++
		}
	}
	require.Positive(t, different, "each client has its own")
	for range 5 {
		w.clock.Advance(59 * time.Second)
		require.Equal(t, first, connect(1), "each use refreshes it")
	}
	changed := 0
	for range 5 {
		was := connect(1)
		w.clock.Advance(60 * time.Second)
		if connect(1) != was {
			changed++
		}
	}
	require.Positive(t, changed, "it ends when it is as old as the timeout")

	was := connect(1)
	w.ok(w.one.Tables().Backends.Delete(uint32(100 + was.Port() - 999)))
	require.NotEqual(t, was, connect(1), "its backend is gone")
}

func TestMappedAddressesOfIPv6Sockets(t *testing.T) {
	w := newWorld(t)
	w.service(w.one, 1, frontend(vip4, 53, udp), 0, at(db4, 5353))
	w.service(w.one, 2, frontend(vip6, 53, udp), 0, at(db6, 5353))
	mapped := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
	s := kernel.Socket{Netns: 1, Cookie: 1, Proto: udp, V6: true}
	real, err := w.one.Sendmsg(s, at(mapped(vip4), 53))
	w.ok(err)
	require.Equal(t, at(mapped(db4), 5353), real)
	require.Equal(t, at(mapped(vip4), 53), w.one.Recvmsg(s, real))
	real, err = w.one.Sendmsg(s, at(vip6, 53))
	w.ok(err)
	require.Equal(t, at(db6, 5353), real)
	require.Equal(t, at(vip6, 53), w.one.Recvmsg(s, real))
}

func TestAnswersOfADeletedServiceShowTheBackend(t *testing.T) {
	w := newWorld(t)
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 8080))
	real, err := w.one.Connect(client, at(vip4, 80))
	w.ok(err)
	other := client
	other.Proto = udp
	require.Equal(t, real, w.one.Getpeername(other, real))
	w.ok(w.one.Tables().Services.Delete(frontend(vip4, 80, tcp)))
	require.Equal(t, real, w.one.Getpeername(client, real))
}

func TestSocketTablesForgetTheOldest(t *testing.T) {
	w := newWorldWith(t, kernel.Options{Capacities: kernel.Capacities{SockRev: 1}})
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 8080))
	one, two := client, client
	two.Cookie = 2
	real, err := w.one.Connect(one, at(vip4, 80))
	w.ok(err)
	_, err = w.one.Connect(two, at(vip4, 80))
	w.ok(err)
	require.Equal(t, real, w.one.Getpeername(one, real))
	require.Equal(t, at(vip4, 80), w.one.Getpeername(two, real))
}

func TestServicesThroughTheFabric(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"db", "job"} {
		w.fabric.Listen(name, tcp, 8080)
		w.fabric.Listen(name, udp, 8080)
	}
	w.service(w.one, 1, frontend(vip4, 80, tcp), 0, at(db4, 8080), at(job4, 8080))
	w.service(w.one, 2, frontend(vip6, 80, tcp), 0, at(db6, 8080), at(job6, 8080))
	w.service(w.one, 3, frontend(vip4, 53, udp), 0, at(job4, 8080))
	seen := map[string]bool{}
	for _, vip := range []netip.Addr{vip4, vip6} {
		for _, from := range []string{"web", "one"} {
			for range 20 {
				conn, a, trace := w.fabric.Open(from, tcp, vip, 80)
				require.True(t, a.Connected, "%s", trace)
				require.Equal(t, at(vip, 80), a.Peer)
				seen[fmt.Sprint(from, a.By)] = true
				require.NotEqual(t, vip, conn.Remote().Addr())
				a, _ = conn.SendBack("news")
				require.Equal(t, "news", a.Data)
			}
		}
	}
	require.Len(t, seen, 4, "both backends, from pod and node")
	a, trace := w.fabric.SendTo("web", vip4, 53, "q")
	require.Equal(t, "job: q", a.Data, "%s", trace)
	require.Equal(t, at(vip4, 53), a.Peer, "recvmsg shows the service")

	w.ok(w.one.Tables().Services.Put(frontend(vip4, 81, tcp), datapath.Service{ID: 9}))
	a, _ = w.fabric.Dial("web", tcp, vip4, 81)
	require.ErrorIs(t, a.Err, syscall.ECONNREFUSED)
	w.ok(w.one.Tables().Services.Put(frontend(vip4, 81, udp), datapath.Service{ID: 10}))
	a, _ = w.fabric.SendTo("web", vip4, 81, "q")
	require.ErrorIs(t, a.Err, syscall.ECONNREFUSED)
}
