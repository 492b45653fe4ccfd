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

func TestNodePortsOfSockets(t *testing.T) {
	const netns, elsewhere = 5, 7
	w := newWorld(t)
	host4, host6 := ip("192.0.2.98"), ip("2001:db8:1::98")
	k := kernel.New(kernel.Options{Netns: netns})
	other4, pod4, stranger4 := ip("192.0.2.99"), ip("10.1.0.44"), ip("198.51.100.77")
	other6 := ip("2001:db8:1::99")
	for _, a := range []netip.Addr{host4, host6} {
		w.ok(k.Tables().Endpoints.Put(a, datapath.Endpoint{Identity: 1, Host: true}))
	}
	w.ok(k.Tables().Endpoints.Put(pod4, datapath.Endpoint{ID: 4, Identity: 1004, Ifindex: 9}))
	for _, a := range []netip.Addr{other4, other6} {
		w.ok(k.Tables().Nodes.Put(a, datapath.Node{ID: 2}))
	}
	b4, b6 := at(db4, 8080), at(ip("fd00:1::22"), 8080)
	w.service(k, 1, frontend(netip.IPv4Unspecified(), 30080, tcp), 0, b4)
	w.service(k, 2, frontend(netip.IPv6Unspecified(), 30080, tcp), 0, b6)
	w.service(k, 3, frontend(netip.IPv4Unspecified(), 8000, tcp), 0, b4)
	w.ok(k.Tables().Services.Put(frontend(netip.IPv4Unspecified(), 8000, tcp), datapath.Service{ID: 3, Count: 1, Local: true}))
	exact := at(ip("10.1.0.33"), 1)
	w.service(k, 4, frontend(host4, 30081, tcp), 0, exact)
	w.service(k, 5, frontend(netip.IPv4Unspecified(), 30081, tcp), 0, b4)
	external := frontend(vip4, 80, tcp)
	external.Scope = datapath.External
	w.service(k, 6, external, 0, b4)
	w.service(k, 7, frontend(ip("127.0.0.1"), 8001, tcp), 0, exact)
	w.service(k, 8, frontend(netip.IPv6Loopback(), 8001, tcp), 0, b6)
	cookie := uint64(0)
	for _, c := range []struct {
		dst      netip.AddrPort
		netns    uint64
		real     netip.AddrPort // invalid: as it is
		question string
	}{
		{at(host4, 30080), elsewhere, b4, "this node's"},
		{at(host6, 30080), elsewhere, b6, "this node's"},
		{at(other4, 30080), elsewhere, b4, "another node's"},
		{at(other6, 30080), elsewhere, b6, "another node's"},
		{at(pod4, 30080), elsewhere, netip.AddrPort{}, "a pod's"},
		{at(stranger4, 30080), elsewhere, netip.AddrPort{}, "nobody's"},
		{at(host4, 30079), elsewhere, netip.AddrPort{}, "another port"},
		{at(host4, 8000), elsewhere, b4, "a host port"},
		{at(other4, 8000), netns, netip.AddrPort{}, "a host port of another node"},
		{at(ip("127.0.0.1"), 30080), netns, b4, "loopback of the node"},
		{at(ip("127.0.0.2"), 30080), netns, netip.AddrPort{}, "another loopback address"},
		{at(ip("::1"), 30080), netns, b6, "loopback of the node"},
		{at(ip("127.0.0.1"), 8000), netns, b4, "a host port by loopback"},
		{at(ip("127.0.0.1"), 30080), elsewhere, netip.AddrPort{}, "loopback of a pod"},
		{at(ip("::1"), 30080), elsewhere, netip.AddrPort{}, "loopback of a pod"},
		{at(ip("127.0.0.1"), 8001), netns, exact, "loopback of the node has a row of its own"},
		{at(ip("127.0.0.1"), 8001), elsewhere, netip.AddrPort{}, "a row of loopback is not for pods"},
		{at(ip("::1"), 8001), netns, b6, "loopback of the node has a row of its own"},
		{at(ip("::1"), 8001), elsewhere, netip.AddrPort{}, "a row of loopback is not for pods"},
		{at(netip.IPv4Unspecified(), 30080), netns, b4, "the node itself"},
		{at(netip.IPv4Unspecified(), 30080), elsewhere, netip.AddrPort{}, "a pod itself"},
		{at(netip.IPv6Unspecified(), 30080), elsewhere, netip.AddrPort{}, "a pod itself"},
		{at(host4, 30081), elsewhere, exact, "the row of the very address"},
		{at(vip4, 80), elsewhere, netip.AddrPort{}, "a row for packets from the network"},
	} {
		cookie++
		s := kernel.Socket{Netns: c.netns, Cookie: cookie, Proto: tcp}
		if !c.real.IsValid() {
			c.real = c.dst
		}
		real, err := k.Connect(s, c.dst)
		w.ok(err)
		require.Equal(t, c.real, real, "%s: %s", c.dst, c.question)
		require.Equal(t, c.dst, k.Getpeername(s, real), "%s: %s", c.dst, c.question)
	}
	s := kernel.Socket{Netns: elsewhere, Cookie: 1000, Proto: tcp}
	real, err := k.Connect(s, at(host4, 30080))
	w.ok(err)
	w.service(k, 9, frontend(host4, 30080, tcp), 0, b4)
	w.ok(k.Tables().Services.Delete(frontend(netip.IPv4Unspecified(), 30080, tcp)))
	require.Equal(t, b4, k.Getpeername(s, real), "its row is gone; the new one is another")
}
