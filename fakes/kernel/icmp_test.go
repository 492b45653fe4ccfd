package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

func TestNeighbourDiscoveryPasses(t *testing.T) {
	w := newWorld(t)
	linkLocal, allNodes := ip("fe80::1"), ip("ff02::1")
	for _, typ := range []uint8{135, 136} {
		p := packet.ICMP(linkLocal, allNodes, typ, 0)
		near, far := p.With(func(p *packet.Packet) { p.TTL = 255 }), p.With(func(p *packet.Packet) { p.TTL = 254 })
		for _, d := range []door{w.fromWeb(), w.toWeb()} {
			res := d.passes(t, near, kernel.Pass)
			require.Empty(t, res.Events)
			require.Equal(t, near.Bytes(), res.Frame)
		}
		w.fromWeb().refuses(t, far, datapath.ReasonInvalidSource)
		w.toWeb().refuses(t, far, datapath.ReasonUnknownTarget)
		w.tunnelled(idJob).refuses(t, near, datapath.ReasonUnknownTarget)
	}
	w.noFlows(w.one)
}

func TestForbiddenICMPv6(t *testing.T) {
	w := newWorld(t)
	for _, typ := range []uint8{130, 131, 132, 133, 134, 137, 143} {
		p := packet.ICMP(ip("fe80::1"), ip("ff02::2"), typ, 0).With(func(p *packet.Packet) { p.TTL = 255 })
		e := w.fromWeb().refuses(t, p, datapath.ReasonForbiddenICMPv6)
		require.Equal(t, typ, e.ICMPType)
		w.fromWeb().refuses(t, packet.ICMP(web6, db6, typ, 0), datapath.ReasonForbiddenICMPv6)
	}
	for _, typ := range []uint8{129, 138, 142, 144} {
		w.fromWeb().passes(t, packet.ICMP(web6, db6, typ, 0), kernel.RedirectPeer)
	}
	w.fromWeb().passes(t, packet.ICMP(web4, db4, 133, 0), kernel.RedirectPeer)
}

// udpFlow opens a flow from web to dst and returns its first packet.
func udpFlow(t *testing.T, w *world, src, dst netip.Addr, action kernel.Action) packet.Packet {
	t.Helper()
	p := packet.UDP(at(src, 5000), at(dst, 53), "question")
	w.fromWeb().passes(t, p, action)
	return p
}

func TestErrorsOfAnAllowedFlowPass(t *testing.T) {
	for name, c := range map[string]struct {
		web, db netip.Addr
		types   []uint8
	}{
		"IPv4": {web4, db4, []uint8{3, 4, 5, 11, 12}},
		"IPv6": {web6, db6, []uint8{1, 2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := udpFlow(t, w, c.web, c.db, kernel.RedirectPeer)
			// Nobody may start anything towards web; what belongs to its own flow still arrives.
			w.enforce(w.one, epWeb, polOpen)
			w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: cookieOpen}})
			for _, typ := range c.types {
				e := packet.ICMPError(c.db, c.web, typ, 0, p.Bytes(), 8)
				res := w.fromDB().passes(t, e, kernel.RedirectPeer)
				require.Empty(t, res.Events, "type %d", typ)
				require.Equal(t, uint32(ifWeb), res.Ifindex)
			}
			require.Equal(t, [2]uint64{1, 0}, w.flow(w.one).Packets, "counters are untouched, and there is no other entry")
			other := packet.ICMP(c.db, c.web, 200, 0).With(func(q *packet.Packet) { q.Payload = p.Bytes()[l3:] })
			w.fromDB().refuses(t, other, datapath.ReasonPolicyDenied)
		})
	}
}

func TestErrorsFromARouterInBetween(t *testing.T) {
	w := newWorld(t)
	p := udpFlow(t, w, web4, outside4, kernel.Pass)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
	tooBig := packet.ICMPError(ip("203.0.113.1"), web4, 3, 4, p.Bytes(), 8)
	w.toWeb().passes(t, tooBig, kernel.Pass)
	w.toDB().refuses(t, tooBig, datapath.ReasonUnknownTarget)

	remote := udpFlow(t, w, web4, job4, kernel.Tunnel)
	w.tunnelled(idJob).passes(t, packet.ICMPError(job4, web4, 3, 3, remote.Bytes(), 8), kernel.RedirectPeer)
}

func TestErrorsTravelToTheInitiatorBehindTheOverlay(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(job4, 5000), at(web4, 53), "question")
	w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{AnyProto: true}: {Allow: true, Cookie: cookieOpen}})
	res := w.fromWeb().passes(t, packet.ICMPError(web4, job4, 3, 3, p.Bytes(), 8), kernel.Tunnel)
	require.Equal(t, uint32(idWeb), res.VNI)
	require.Equal(t, node2v4, res.Remote)
	spoofed := packet.ICMPError(db4, job4, 3, 3, p.Bytes(), 8)
	w.fromWeb().refuses(t, spoofed, datapath.ReasonInvalidSource)
}

func TestErrorsThatBelongToNothingAreOrdinary(t *testing.T) {
	w := newWorld(t)
	p := udpFlow(t, w, web4, db4, kernel.RedirectPeer)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{
		{Direction: datapath.Egress, AnyProto: true}:        {Allow: true, Cookie: cookieOpen},
		{Proto: datapath.ProtoICMP, Port: 11, PortBits: 16}: {Allow: true, Cookie: 9},
	})
	quote := func(q packet.Packet, n int) packet.Packet { return packet.ICMPError(db4, web4, 3, 3, q.Bytes(), n) }
	for name, e := range map[string]packet.Packet{
		"another flow":             quote(packet.UDP(at(web4, 5001), at(db4, 53), ""), 8),
		"inner source is another":  quote(packet.UDP(at(db4, 53), at(web4, 5000), ""), 8),
		"too little is quoted":     quote(p, 7),
		"not even an inner header": quote(p, 8).With(func(q *packet.Packet) { q.Payload = q.Payload[:19] }),
		"an inner packet of the other family": quote(p, 8).With(func(q *packet.Packet) {
			q.Payload = packet.UDP(at(web6, 5000), at(db6, 53), "").Bytes()[l3:]
		}),
		"the error is a fragment": quote(p, 8).With(func(q *packet.Packet) { q.Frag = &packet.Frag{ID: 1, More: true} }),
	} {
		t.Run(name, func(t *testing.T) {
			w.fromDB().refuses(t, e, datapath.ReasonPolicyDenied)
		})
	}
	w.fromDB().passes(t, quote(p, 8), kernel.RedirectPeer)
	allowed := quote(packet.UDP(at(web4, 5001), at(db4, 53), ""), 8).With(func(q *packet.Packet) { q.ICMPType = 11 })
	res := w.fromDB().passes(t, allowed, kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	require.Equal(t, datapath.Cookie(9), res.Ingress)
}

func TestErrorsOfCutOrExpiredFlowsAreOrdinary(t *testing.T) {
	w := newWorld(t)
	p := udpFlow(t, w, web4, db4, kernel.RedirectPeer)
	e := packet.ICMPError(db4, web4, 3, 3, p.Bytes(), 8)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
	w.enforce(w.one, epDB, polClosed) // the flow is stale: the error renews it, to a denial
	w.fromDB().refuses(t, e, datapath.ReasonPolicyDenied)
	require.True(t, w.flow(w.one).Denied)
	w.fromDB().refuses(t, e, datapath.ReasonPolicyDenied)

	w.enforce(w.one, epDB, polOpen)
	res := w.fromDB().passes(t, e, kernel.RedirectPeer)
	require.Empty(t, res.Events)
	require.False(t, w.flow(w.one).Denied)

	w.clock.Advance(datapath.LifetimeOther * 1e9)
	w.fromDB().refuses(t, e, datapath.ReasonPolicyDenied)
}

func TestErrorsAboutDeletedPods(t *testing.T) {
	w := newWorld(t)
	p := udpFlow(t, w, web4, db4, kernel.RedirectPeer)
	w.ok(w.one.Tables().Endpoints.Delete(web4))
	w.ok(w.one.BumpAll())
	w.fromDB().passes(t, packet.ICMPError(db4, web4, 3, 3, p.Bytes(), 8), kernel.Pass)
	flows, err := w.one.Flows()
	w.ok(err)
	require.Len(t, flows, 1, "the flow of the deleted pod is gone; the error was judged for itself")
	require.Equal(t, datapath.ProtoICMP, flows[0].Proto)
}

func TestErrorsQuotingFragmentsAndExtensions(t *testing.T) {
	w := newWorld(t)
	pieces := bigDatagrams()["IPv6"]
	for _, p := range pieces {
		w.fromWeb().passes(t, p, kernel.RedirectPeer)
	}
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: cookieOpen}})
	for i, p := range pieces {
		frame := p.Bytes()
		e := packet.ICMPError(db6, web6, 3, 1, frame, 64)
		res := w.fromDB().passes(t, e, kernel.RedirectPeer)
		require.Empty(t, res.Events, "fragment %d", i)
	}
}

// Both directions of these messages have the same flow key: without care, whoever may be asked might ask.
func TestOnlyAnEchoReplyIsAnAnswer(t *testing.T) {
	for name, c := range map[string]struct{ ask, answer, counter packet.Packet }{
		"IPv4 echo with identifier 0": {packet.Echo(web4, db4, 0, false), packet.Echo(db4, web4, 0, true), packet.Echo(db4, web4, 0, false)},
		"IPv6 echo with identifier 0": {packet.Echo(web6, db6, 0, false), packet.Echo(db6, web6, 0, true), packet.Echo(db6, web6, 0, false)},
		"IPv4 timestamp":              {packet.ICMP(web4, db4, 13, 0), packet.Packet{}, packet.ICMP(db4, web4, 13, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
			w.fromWeb().passes(t, c.ask, kernel.RedirectPeer)
			require.Empty(t, w.fromWeb().passes(t, c.ask, kernel.RedirectPeer).Events)
			if c.answer.Src.IsValid() {
				require.Empty(t, w.fromDB().passes(t, c.answer, kernel.RedirectPeer).Events)
			}
			w.fromDB().refuses(t, c.counter, datapath.ReasonPolicyDenied)
			require.Equal(t, uint64(2), w.flow(w.one).Packets[0], "the flow is as it was")

			w.enforce(w.one, epWeb, polOpen)
			res := w.fromDB().passes(t, c.counter, kernel.RedirectPeer)
			require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
			require.False(t, res.Events[0].Reply)
			require.Equal(t, c.counter.Src, w.flow(w.one).Src.Addr(), "a flow of its own")
		})
	}
}

func TestPodMaySpeakOnlyOfPacketsThatItGot(t *testing.T) {
	w := newWorld(t)
	foreign := packet.UDP(at(db4, 53), at(outside4, 5000), "to another")
	w.fromDB().passes(t, foreign, kernel.Pass)
	w.enforce(w.one, epWeb, polClosed)
	w.fromWeb().refuses(t, packet.ICMPError(web4, db4, 3, 3, foreign.Bytes(), 28), datapath.ReasonPolicyDenied)
}
