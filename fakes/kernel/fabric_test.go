package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
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
