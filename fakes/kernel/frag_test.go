package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// bigDatagrams are datagrams from web to db, cut into three.
func bigDatagrams() map[string][]packet.Packet {
	body := strings.Repeat("0123456789abcdef", 8)
	return map[string][]packet.Packet{
		"IPv4": packet.UDP(at(web4, 5000), at(db4, 53), body).Fragments(0xbeef, 56),
		"IPv6": packet.UDP(at(web6, 5000), at(db6, 53), body).Fragments(0xdeadbeef, 56),
		"IPv6 with options behind the fragment header": packet.Packet{
			Src: web6, Dst: db6, Proto: packet.ExtDestOptions,
			L4: append([]byte{datapath.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, packet.UDP(at(web6, 5000), at(db6, 53), body).Bytes()[l4v6:]...),
		}.Fragments(5, 56),
	}
}

func TestFragmentsFollowTheirFirst(t *testing.T) {
	for name, pieces := range bigDatagrams() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			require.Len(t, pieces, 3)
			w.fromWeb().refuses(t, pieces[1], datapath.ReasonFragmentNotFound)
			w.noFlows(w.one)
			for _, p := range pieces {
				w.fromWeb().passes(t, p, kernel.RedirectPeer)
			}
			f := w.flow(w.one)
			require.Equal(t, at(pieces[0].Src, 5000), f.Src)
			require.Equal(t, at(pieces[0].Dst, 53), f.Dst)
			require.Equal(t, datapath.ProtoUDP, f.Proto)
			require.Equal(t, [2]uint64{3, 0}, f.Packets)

			otherID := pieces[1].With(func(p *packet.Packet) { p.Frag = &packet.Frag{ID: 1, Offset: 56, More: true} })
			w.fromWeb().refuses(t, otherID, datapath.ReasonFragmentNotFound)
		})
	}
}

func TestLaterFragmentsAreJudgedByTheirPorts(t *testing.T) {
	w := newWorld(t)
	pieces := bigDatagrams()["IPv4"]
	w.fromWeb().passes(t, pieces[0], kernel.RedirectPeer)
	n, err := w.one.FlushFlows()
	w.ok(err)
	require.Equal(t, 1, n)
	w.policyOf(w.one, epDB, newPolicy(1), rows{{Proto: udp, Port: 53, PortBits: 16}: {Allow: true, Cookie: 3}})
	res := w.fromWeb().passes(t, pieces[1], kernel.RedirectPeer)
	require.Equal(t, datapath.Cookie(3), res.Ingress)
	w.policyOf(w.one, epDB, newPolicy(2), rows{{Proto: udp, Port: 54, PortBits: 16}: {Allow: true}})
	w.fromWeb().refuses(t, pieces[2], datapath.ReasonPolicyDenied)
}

func TestFirstFragmentIsNotedOnlyWhenAllowed(t *testing.T) {
	w := newWorld(t)
	pieces := bigDatagrams()["IPv6"]
	w.enforce(w.one, epDB, polClosed)
	w.fromWeb().refuses(t, pieces[0], datapath.ReasonPolicyDenied)
	w.fromWeb().refuses(t, pieces[1], datapath.ReasonFragmentNotFound)
}

func TestFirstFragmentHoldsTheL4Header(t *testing.T) {
	w := newWorld(t)
	pieces := packet.TCP(at(web4, 1), at(db4, 2), syn).With(func(p *packet.Packet) { p.Payload = make([]byte, 30) }).Fragments(9, 16)
	w.fromWeb().refuses(t, pieces[0], datapath.ReasonTruncatedL4)
}

func TestFragmentsOfTCPAndICMP(t *testing.T) {
	w := newWorld(t)
	segment := packet.TCP(at(web4, 1), at(db4, 2), syn).With(func(p *packet.Packet) { p.Payload = make([]byte, 30) }).Fragments(9, 24)
	w.fromWeb().passes(t, segment[0], kernel.RedirectPeer)
	w.one.FlushFlows()
	res := w.fromWeb().passes(t, segment[1], kernel.RedirectPeer)
	require.Zero(t, res.Events[0].TCPFlags, "flags of later fragments are 0")
	require.False(t, w.flow(w.one).SeenNonSYN, "and do not count as a missing SYN")
	w.one.FlushFlows()

	ping := packet.Echo(web6, db6, 5, false).With(func(p *packet.Packet) { p.Payload = make([]byte, 100) }).Fragments(9, 64)
	w.policyOf(w.one, epDB, newPolicy(1), rows{{Proto: datapath.ProtoICMPv6, Port: 128, PortBits: 16}: {Allow: true, Cookie: 4}})
	w.fromWeb().passes(t, ping[0], kernel.RedirectPeer)
	w.one.FlushFlows()
	res = w.fromWeb().passes(t, ping[1], kernel.RedirectPeer)
	require.Equal(t, uint8(128), res.Events[0].ICMPType)
	require.Equal(t, datapath.Cookie(4), res.Ingress)
	require.Equal(t, at(web6, 5), w.flow(w.one).Src)
}

func TestFragmentsAtOtherHooks(t *testing.T) {
	w := newWorld(t)
	late := func(to packet.Packet) packet.Packet {
		return to.With(func(p *packet.Packet) { p.Payload = make([]byte, 100) }).Fragments(3, 64)[1]
	}
	toPod, toHost := packet.UDP(at(job4, 1), at(web4, 2), ""), packet.UDP(at(job4, 1), at(router1, 2), "")
	w.tunnelled(idJob).refuses(t, late(toPod), datapath.ReasonFragmentNotFound)
	w.tunnelled(idJob).passes(t, late(toHost), kernel.Pass)
	w.toWeb().refuses(t, late(toPod), datapath.ReasonFragmentNotFound)

	stranger := w.tunnelled(idJob)
	stranger.meta.Remote = outside4
	stranger.refuses(t, late(toPod), datapath.ReasonUnknownSender)
	w.tunnelled(idJob).refuses(t, late(packet.UDP(at(job4, 1), at(ip("10.1.0.99"), 2), "")), datapath.ReasonUnknownTarget)

	res := w.host().passes(t, late(packet.UDP(at(router1, 1), at(job4, 2), "")), kernel.Tunnel)
	require.Equal(t, uint32(identity.RemoteNode), res.VNI)
}

func TestFragmentTableForgetsTheOldest(t *testing.T) {
	w := newWorldWith(t, kernel.Options{Capacities: kernel.Capacities{Frags: 1}})
	pieces := bigDatagrams()
	w.fromWeb().passes(t, pieces["IPv4"][0], kernel.RedirectPeer)
	w.fromWeb().passes(t, pieces["IPv6"][0], kernel.RedirectPeer)
	w.fromWeb().refuses(t, pieces["IPv4"][1], datapath.ReasonFragmentNotFound)
	w.fromWeb().passes(t, pieces["IPv6"][1], kernel.RedirectPeer)
}

func TestDropsOfLaterFragmentsNameTheirPorts(t *testing.T) {
	w := newWorld(t)
	pieces := bigDatagrams()["IPv4"]
	unread := w.host().refuses(t, pieces[1], datapath.ReasonInvalidSource)
	require.Zero(t, unread.Src.Port())
	w.fromWeb().passes(t, pieces[0], kernel.RedirectPeer)
	noKey := w.tunnelled(idJob)
	noKey.meta.Remote = netip.Addr{}
	for _, e := range []datapath.Event{
		w.host().refuses(t, pieces[1], datapath.ReasonInvalidSource),
		noKey.refuses(t, pieces[1], datapath.ReasonTunnelKey),
	} {
		require.Equal(t, at(web4, 5000), e.Src)
		require.Equal(t, at(db4, 53), e.Dst)
	}
}
