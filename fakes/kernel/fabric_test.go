package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

func TestEverybodyReachesEverybody(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"web", "db", "job", "one", "two", "outside"} {
		w.fabric.Listen(name, tcp, 80)
		w.fabric.Listen(name, udp, 53)
	}
	for _, c := range []struct {
		from, to string
		dst      netip.Addr
	}{
		{"web", "db", db4}, {"web", "db", db6},
		{"web", "job", job4}, {"web", "job", job6}, {"job", "db", db4}, {"job", "db", db6},
		{"web", "one", router1}, {"web", "one", node1v4}, {"web", "one", node1v6},
		{"one", "web", web4}, {"one", "web", web6},
		{"web", "two", router2}, {"two", "web", web4},
		{"web", "outside", outside4}, {"web", "outside", outside6}, {"outside", "web", web4}, {"outside", "job", job6},
		{"web", "two", node2v4},
	} {
		t.Run(c.from+" to "+c.to+" at "+c.dst.String(), func(t *testing.T) {
			for _, proto := range []uint8{tcp, udp} {
				port := uint16(80)
				if proto == udp {
					port = 53
				}
				a, trace := w.fabric.Dial(c.from, proto, c.dst, port)
				require.True(t, a.Connected, "%s", trace)
				require.Equal(t, c.to, a.By)
				require.Equal(t, c.to+": hello", a.Data)
				require.Equal(t, netip.AddrPortFrom(c.dst, port), a.Peer)
				require.Nil(t, trace.Drop())
			}
			a, trace := w.fabric.Ping(c.from, c.dst)
			require.True(t, a.Connected, "%s", trace)
			require.Equal(t, c.to, a.By)
			a, trace = w.fabric.SendTo(c.from, c.dst, 53, "who")
			require.Equal(t, c.to+": who", a.Data, "%s", trace)
			a, trace = w.fabric.Dial(c.from, tcp, c.dst, 81)
			require.False(t, a.Connected)
			require.True(t, a.Refused, "%s", trace)
			a, trace = w.fabric.Dial(c.from, udp, c.dst, 54)
			require.False(t, a.Connected)
			require.True(t, a.Refused, "port unreachable comes back: %s", trace)
		})
	}
	require.Empty(t, w.one.Violations())
	require.Empty(t, w.two.Violations())
}

func TestPolicyReachesAnOpenConnection(t *testing.T) {
	w := newWorld(t)
	w.fabric.Listen("db", tcp, 5432)
	conn, a, trace := w.fabric.Open("web", tcp, db4, 5432)
	require.True(t, a.Connected, "%s", trace)
	a, _ = conn.SendBack("news")
	require.True(t, a.Connected)

	w.enforce(w.one, epDB, polClosed)
	a, trace = conn.Send("again")
	require.False(t, a.Connected)
	drop := trace.Drop()
	require.NotNil(t, drop)
	require.Equal(t, datapath.ReasonPolicyDenied, drop.Reason)
	require.Equal(t, kernel.FromPod, drop.Hook)
	a, trace = conn.SendBack("news")
	require.False(t, a.Connected, "%s", trace)

	w.enforce(w.one, epDB, polOpen)
	a, trace = conn.Send("again")
	require.True(t, a.Connected, "%s", trace)
	conn.Close()
	require.True(t, w.flow(w.one).Closing)
}

func TestFabricSaysWhyNot(t *testing.T) {
	w := newWorld(t)
	t.Run("no programs", func(t *testing.T) {
		w.ok(w.one.DetachPod(ifDB))
		a, trace := w.fabric.Ping("db", web4)
		require.False(t, a.Connected)
		require.Contains(t, trace.String(), "interface 12 carries no pod programs")
		a, trace = w.fabric.Ping("one", db4)
		require.False(t, a.Connected)
		require.Contains(t, trace.String(), "interface 12 carries no pod programs")
		w.ok(w.one.AttachPod(ifDB))
	})
	t.Run("policy of another node", func(t *testing.T) {
		w.policyOf(w.two, epJob, newPolicy(1), rows{{AnyProto: true}: {Cookie: 1<<31 | 5}})
		a, trace := w.fabric.Dial("web", tcp, job4, 80)
		require.False(t, a.Connected)
		drop := trace.Drop()
		require.NotNil(t, drop)
		require.Equal(t, "two", drop.Node)
		require.Equal(t, kernel.FromOverlay, drop.Hook)
		require.Equal(t, datapath.ReasonPolicyDeny, drop.Reason)
		require.EqualValues(t, 1<<31|5, drop.Cookie)
		require.Equal(t, idWeb, drop.Event.SrcIdentity)
		require.Contains(t, trace.String(), "two from_overlay 3: TCP S 10.1.0.11:")
		w.enforce(w.two, epJob, polOpen)
	})
	t.Run("egress policy", func(t *testing.T) {
		w.policyOf(w.one, epWeb, newPolicy(2), rows{{Direction: datapath.Egress, AnyProto: true}: {Cookie: 1<<31 | 6}})
		_, trace := w.fabric.Dial("web", tcp, job4, 80)
		require.EqualValues(t, 1<<31|6, trace.Drop().Cookie)
		w.enforce(w.one, epWeb, polOpen)
	})
	t.Run("a wrong MAC", func(t *testing.T) {
		ep, err := w.one.Tables().Endpoints.Get(db4)
		w.ok(err)
		wrong := ep
		wrong.MAC[5]++
		w.ok(w.one.Tables().Endpoints.Put(db4, wrong))
		w.ok(w.one.BumpAll())
		a, trace := w.fabric.Ping("web", db4)
		require.False(t, a.Connected)
		require.Contains(t, trace.String(), "are not the link's")
		w.ok(w.one.Tables().Endpoints.Put(db4, ep))
	})
	t.Run("a removed pod", func(t *testing.T) {
		w.fabric.RemovePod("job")
		w.fabric.RemovePod("job")
		a, trace := w.fabric.Ping("web", job4)
		require.False(t, a.Connected)
		require.Contains(t, trace.String(), "no pod behind interface 21")
		require.Panics(t, func() { w.fabric.Ping("job", web4) })
	})
	t.Run("an unknown underlay", func(t *testing.T) {
		w.ok(w.one.Tables().IPCache.Put(pfx("10.2.0.21/32"), datapath.IPCache{Identity: idJob, Tunnel: outside4}))
		w.ok(w.one.BumpAddr(job4))
		_, trace := w.fabric.Ping("web", job4)
		require.Contains(t, trace.String(), "no way through the underlay to 198.51.100.9")
	})
}

func TestSpoofedPacketsThroughTheFabric(t *testing.T) {
	w := newWorld(t)
	trace := w.fabric.Emit("web", packet.TCP(at(db4, 1), at(job4, 2), syn))
	require.Equal(t, datapath.ReasonInvalidSource, trace.Drop().Reason)
	trace = w.fabric.Emit("web", packet.TCP(at(web4, 1), at(job4, 2), syn))
	require.Nil(t, trace.Drop())
}

func TestClosingThroughTheFabric(t *testing.T) {
	for name, end := range map[string]func(*kernel.Conn) kernel.Trace{
		"close": (*kernel.Conn).Close, "reset": (*kernel.Conn).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fabric.Listen("job", tcp, 80)
			conn, a, trace := w.fabric.Open("web", tcp, job6, 80)
			require.True(t, a.Connected, "%s", trace)
			require.False(t, w.flow(w.one).Closing)
			end(conn)
			require.True(t, w.flow(w.one).Closing)
			require.True(t, w.flow(w.two).Closing)
			a, _ = conn.Send("still there?")
			require.False(t, a.Connected)
		})
	}
}

func TestIngressIsolationLetsAnswersIn(t *testing.T) {
	w := newWorld(t)
	// Nothing may open connections to web; web may open to anybody.
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: 1}})
	for name, addr := range map[string]netip.Addr{"db": db4, "job": job6, "two": node2v4, "outside": outside6, "one": router1} {
		w.fabric.Listen(name, tcp, 80)
		a, trace := w.fabric.Dial("web", tcp, addr, 80)
		require.True(t, a.Connected, "%s: %s", name, trace)
		a, _ = w.fabric.Dial("web", udp, addr, 9)
		require.True(t, a.Refused, "port unreachable from %s", name)
		a, trace = w.fabric.Ping(name, web4)
		require.False(t, a.Connected, "%s: %s", name, trace)
		require.Equal(t, datapath.ReasonPolicyDenied, trace.Drop().Reason)
	}
}

// Ports come round again while a connection lasts; it keeps its own.
func TestPortsInUseAreNotGivenOutAgain(t *testing.T) {
	w := newWorld(t)
	w.fabric.Listen("db", tcp, 5432)
	lasting, a, trace := w.fabric.Open("web", tcp, db4, 5432)
	require.True(t, a.Connected, "%s", trace)
	seen := map[uint16]bool{}
	for round := false; !round; {
		other, a, _ := w.fabric.Open("web", tcp, db4, 5432)
		require.True(t, a.Connected)
		require.NotEqual(t, lasting.Local(), other.Local())
		other.Close()
		round = seen[other.Local().Port()]
		seen[other.Local().Port()] = true
	}
	require.Greater(t, len(seen), 20000)
	a, trace = lasting.Send("still there?")
	require.True(t, a.Connected, "%s", trace)
}
