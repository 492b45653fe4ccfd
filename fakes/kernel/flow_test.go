package kernel_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// The two directions of a TCP connection from web to db.
func forth(flags uint8) packet.Packet { return packet.TCP(at(web4, 1000), at(db4, 80), flags) }
func back(flags uint8) packet.Packet  { return packet.TCP(at(db4, 80), at(web4, 1000), flags) }

const second = time.Second

func TestStatesAndLifetimesOfTCP(t *testing.T) {
	w := newWorld(t)
	expires := func(want time.Duration) {
		t.Helper()
		require.Equal(t, want, w.flow(w.one).Expires)
	}
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	expires(60 * second)
	w.clock.Advance(10 * second)
	expires(50 * second)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	expires(60 * second)
	w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
	expires(8000 * second)
	w.fromWeb().passes(t, forth(ack), kernel.RedirectPeer)
	require.False(t, w.flow(w.one).SeenNonSYN)
	w.fromWeb().passes(t, forth(fin|ack), kernel.RedirectPeer)
	expires(8000 * second)
	require.False(t, w.flow(w.one).Closing, "one side only")
	w.fromWeb().passes(t, forth(fin|ack), kernel.RedirectPeer)
	require.False(t, w.flow(w.one).Closing)

	res := w.fromDB().passes(t, back(fin|ack), kernel.RedirectPeer)
	expires(10 * second)
	f := w.flow(w.one)
	require.True(t, f.Closing)
	require.Equal(t, [2]uint8{syn | ack | fin, syn | ack | fin}, f.TCPFlags)
	require.Equal(t, []datapath.EventType{datapath.EventClose}, eventTypes(res))
	e := res.Events[0]
	n := uint64(len(forth(syn).Bytes()))
	require.Equal(t, [2]uint64{5, 2}, e.Packets)
	require.Equal(t, [2]uint64{5 * n, 2 * n}, e.Bytes)
	require.True(t, e.Reply)
	require.Equal(t, at(db4, 80), e.Src, "the packet's source")
	require.Equal(t, datapath.PointToEndpoint, e.Point)

	res = w.fromWeb().passes(t, forth(ack), kernel.RedirectPeer)
	require.Empty(t, res.Events, "closing is reported once")
	require.Empty(t, w.fromWeb().passes(t, forth(rst), kernel.RedirectPeer).Events)
	expires(10 * second)
}

func TestResetCloses(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	res := w.fromDB().passes(t, back(rst|ack), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventClose}, eventTypes(res))
	require.True(t, w.flow(w.one).Closing)
	require.Equal(t, 10*second, w.flow(w.one).Expires)
}

func TestSynOnAClosingEntryOpensAnew(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.fromDB().passes(t, back(rst), kernel.RedirectPeer)
	w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
	require.True(t, w.flow(w.one).Closing, "SYN with ACK opens nothing")

	w.policyOf(w.one, epDB, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: 1}})
	w.fromWeb().refuses(t, forth(syn), datapath.ReasonPolicyDenied)
	require.False(t, w.flow(w.one).Denied, "a refused new flow leaves the old entry alone")
	w.enforce(w.one, epDB, polOpen)

	res := w.fromDB().passes(t, back(syn), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	f := w.flow(w.one)
	require.Equal(t, at(db4, 80), f.Src, "whoever sends the SYN is the initiator")
	require.Equal(t, [2]uint64{1, 0}, f.Packets)
	require.False(t, f.Closing)
}

func TestFlowWithoutSyn(t *testing.T) {
	w := newWorld(t)
	res := w.fromWeb().passes(t, forth(ack), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	require.True(t, w.flow(w.one).SeenNonSYN)
	w.one.FlushFlows()
	w.enforce(w.one, epDB, polClosed)
	w.fromWeb().refuses(t, forth(ack), datapath.ReasonPolicyDenied)
	w.noFlows(w.one)
	w.enforce(w.one, epDB, polOpen)
	res = w.fromWeb().passes(t, forth(rst), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew, datapath.EventClose}, eventTypes(res))
}

func TestLifetimeOfOthersAndExpiry(t *testing.T) {
	w := newWorld(t)
	question, answer := packet.UDP(at(web4, 1), at(db4, 53), ""), packet.UDP(at(db4, 53), at(web4, 1), "")
	w.fromWeb().passes(t, question, kernel.RedirectPeer)
	w.clock.Advance(59 * second)
	require.Empty(t, w.fromDB().passes(t, answer, kernel.RedirectPeer).Events)
	w.clock.Advance(60*second - 1)
	require.Empty(t, w.fromWeb().passes(t, question, kernel.RedirectPeer).Events)
	w.clock.Advance(60 * second)
	require.Zero(t, w.flow(w.one).Expires)
	res := w.fromDB().passes(t, answer, kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res), "an expired entry counts as absent")
	require.False(t, res.Events[0].Reply)
	require.Equal(t, at(db4, 53), w.flow(w.one).Src)

	w.clock.Advance(59 * second)
	n, err := w.one.CollectFlows()
	w.ok(err)
	require.Zero(t, n)
	w.clock.Advance(2 * second)
	require.Equal(t, -second, w.flow(w.one).Expires)
	n, err = w.one.CollectFlows()
	w.ok(err)
	require.Equal(t, 1, n)
	w.noFlows(w.one)
}

func TestEveryEpochMakesStale(t *testing.T) {
	w := newWorld(t)
	local, away := packet.UDP(at(web4, 1), at(db4, 53), ""), packet.UDP(at(web6, 1), at(job6, 53), "")
	w.fromWeb().passes(t, local, kernel.RedirectPeer)
	w.fromWeb().passes(t, away, kernel.Tunnel)
	n := datapath.Cookie(100)
	// stale tells whether the flow is judged anew: policy has another cookie, but no new epoch.
	stale := func(p packet.Packet) bool {
		t.Helper()
		n++
		w.allow(w.one, datapath.PolicyKey{Policy: polOpen, Direction: datapath.Egress, AnyProto: true}, n)
		res := w.fromWeb().send(p)
		require.NotEqual(t, kernel.Drop, res.Action)
		if len(res.Events) == 0 {
			return false
		}
		require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
		require.Equal(t, n, res.Egress)
		return true
	}
	require.False(t, stale(local))
	require.False(t, stale(away))
	w.enforce(w.one, epWeb, polOpen)
	require.True(t, stale(local))
	require.True(t, stale(away))
	w.enforce(w.one, epDB, polOpen)
	require.True(t, stale(local))
	require.False(t, stale(away))
	w.ok(w.one.BumpAddr(job6))
	require.False(t, stale(local))
	require.True(t, stale(away))
	w.ok(w.one.BumpAddr(db4))
	require.False(t, stale(local), "local endpoints have a word of their own")
	w.ok(w.one.BumpAll())
	require.True(t, stale(local))
	require.True(t, stale(away))
	require.False(t, stale(local))
}

func TestRenewalKeepsWhatIsTheFlows(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
	w.enforce(w.one, epDB, polOpen)
	res := w.fromDB().passes(t, back(ack), kernel.RedirectPeer)
	require.Empty(t, res.Events, "the same rules decide")
	f := w.flow(w.one)
	require.Equal(t, at(web4, 1000), f.Src)
	require.Equal(t, [2]uint64{1, 2}, f.Packets)
	require.Equal(t, 8000*second, f.Expires)

	w.policyOf(w.one, epDB, newPolicy(1), rows{{Proto: tcp, Port: 80, PortBits: 16}: {Allow: true, Cookie: 5}})
	res = w.fromDB().passes(t, back(ack), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	e := res.Events[0]
	require.True(t, e.Reply)
	require.Equal(t, datapath.Cookie(5), e.IngressCookie, "db's ingress, although db sent the packet")
	require.Equal(t, at(db4, 80), e.Src)
	require.Equal(t, idDB, e.SrcIdentity)
	require.Equal(t, [2]uint64{1, 3}, w.flow(w.one).Packets)
}

func TestRenewalFindsNewRoutes(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(web4, 1), at(job4, 53), "")
	w.fromWeb().passes(t, p, kernel.Tunnel)
	tb := w.one.Tables()
	w.ok(tb.IPCache.Put(pfx("10.2.0.21/32"), datapath.IPCache{Identity: 555, Tunnel: ip("192.0.2.3")}))
	require.Equal(t, node2v4, w.fromWeb().passes(t, p, kernel.Tunnel).Remote, "until it is bumped")
	w.ok(w.one.BumpAddr(job4))
	require.Equal(t, ip("192.0.2.3"), w.fromWeb().passes(t, p, kernel.Tunnel).Remote)
	require.EqualValues(t, 555, w.flow(w.one).DstIdentity)
	w.ok(tb.IPCache.Delete(pfx("10.2.0.21/32")))
	w.ok(w.one.BumpAddr(job4))
	w.fromWeb().passes(t, p, kernel.Pass)
	// The address becomes a pod of this node.
	w.ok(tb.Endpoints.Put(job4, datapath.Endpoint{ID: epDB, Identity: idDB, Ifindex: ifDB, MAC: podMAC(epDB)}))
	w.ok(w.one.BumpAddr(job4))
	res := w.fromWeb().passes(t, p, kernel.RedirectPeer)
	require.Equal(t, uint32(ifDB), res.Ifindex)
	require.Equal(t, cookieOpen, res.Ingress, "and is asked for its ingress")
}

func TestCutFlow(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
	w.policyOf(w.one, epDB, newPolicy(1), rows{
		{Proto: tcp, Port: 80, PortBits: 16}:         {Cookie: 1<<31 | 9},
		{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: 2},
	})
	e := w.fromDB().refuses(t, back(ack), datapath.ReasonPolicyDeny)
	require.True(t, e.Reply)
	require.Equal(t, datapath.Ingress, e.Direction, "the policy that refused is db's ingress")
	require.EqualValues(t, 1<<31|9, e.IngressCookie)
	f := w.flow(w.one)
	require.True(t, f.Denied)
	require.Equal(t, [2]uint64{1, 1}, f.Packets, "refused packets do not count for the flow")
	require.Equal(t, 60*second, f.Expires)

	w.clock.Advance(20 * second)
	e = w.fromWeb().refuses(t, forth(ack), datapath.ReasonPolicyDeny)
	require.EqualValues(t, 1<<31|9, e.IngressCookie)
	require.Equal(t, idWeb, e.SrcIdentity)
	// db may open connections to web, but not by answering on this one.
	w.fromDB().refuses(t, back(ack), datapath.ReasonPolicyDeny)
	w.fromDB().refuses(t, back(syn|ack), datapath.ReasonPolicyDeny)
	require.Equal(t, 40*second, w.flow(w.one).Expires, "refused packets do not extend it")

	w.enforce(w.one, epWeb, polOpen)
	w.fromDB().refuses(t, back(ack), datapath.ReasonPolicyDeny)
	require.Equal(t, 40*second, w.flow(w.one).Expires, "nor does being refused anew")

	w.fromWeb().refuses(t, forth(syn), datapath.ReasonPolicyDeny)
	require.True(t, w.flow(w.one).Denied, "a refused SYN leaves the entry")
	res := w.fromDB().passes(t, back(syn), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	require.Equal(t, at(db4, 80), w.flow(w.one).Src, "db opened a flow of its own")
}

func TestCutFlowComesBackWithPolicyOrExpires(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
	w.enforce(w.one, epDB, polClosed)
	w.fromWeb().refuses(t, forth(ack), datapath.ReasonPolicyDenied)
	w.enforce(w.one, epDB, polOpen)
	res := w.fromWeb().passes(t, forth(ack), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	f := w.flow(w.one)
	require.False(t, f.Denied)
	require.Equal(t, [2]uint64{2, 1}, f.Packets)
	require.Equal(t, 8000*second, f.Expires)

	w.enforce(w.one, epDB, polClosed)
	w.fromWeb().refuses(t, forth(ack), datapath.ReasonPolicyDenied)
	w.clock.Advance(60 * second)
	// As if there were no entry: db's own policy decides about db's packet.
	w.fromDB().refuses(t, back(ack), datapath.ReasonPolicyDenied)
	w.policyOf(w.one, epDB, newPolicy(3), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
	w.fromDB().passes(t, back(ack), kernel.RedirectPeer)
	require.True(t, w.flow(w.one).SeenNonSYN)
}

func TestSynThroughAWrongDoorDoesNotReviveACutFlow(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.policyOf(w.one, epDB, newPolicy(1), rows{{Proto: tcp, Port: 81, PortBits: 16}: {Allow: true}})
	w.fromWeb().refuses(t, forth(ack), datapath.ReasonPolicyDenied)
	w.fromDB().refuses(t, forth(syn), datapath.ReasonPolicyDenied)
	w.toDB().refuses(t, forth(syn), datapath.ReasonPolicyDenied)
	require.True(t, w.flow(w.one).Denied)
}

func TestDeletedInitiator(t *testing.T) {
	for name, door := range map[string]func(*world) (door, packet.Packet){
		"its own packet":    func(w *world) (door, packet.Packet) { return w.fromWeb(), forth(ack) },
		"an answer":         func(w *world) (door, packet.Packet) { return w.fromDB(), back(ack) },
		"through the stack": func(w *world) (door, packet.Packet) { return w.toWeb(), back(ack) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
			w.ok(w.one.Tables().Endpoints.Delete(web4))
			w.ok(w.one.Tables().EndpointPolicy.Delete(epWeb))
			d, p := door(w)
			d.refuses(t, p, datapath.ReasonUnknownTarget)
			w.noFlows(w.one)
		})
	}
}

func TestAddressGivenToANewPod(t *testing.T) {
	w := newWorld(t)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
	w.ok(w.one.Tables().EndpointPolicy.Delete(epWeb))
	w.ok(w.one.Tables().Endpoints.Put(web4, datapath.Endpoint{ID: 150, Identity: idJob, Ifindex: 15, MAC: podMAC(150), NodeMAC: nodeMAC(150)}))
	w.enforce(w.one, 150, polOpen)
	newPod := door{w.one, kernel.FromPod, 15, kernel.Meta{}}
	newPod.passes(t, forth(ack), kernel.RedirectPeer)
	require.Equal(t, idJob, w.flow(w.one).SrcIdentity)
	res := w.fromDB().passes(t, back(ack), kernel.RedirectPeer)
	require.Equal(t, uint32(15), res.Ifindex)
	w.fromWeb().refuses(t, forth(ack), datapath.ReasonInvalidSource)
}

func TestWrongDoors(t *testing.T) {
	t.Run("a pod's address from the stack has no say in its flow", func(t *testing.T) {
		w := newWorld(t)
		w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
		w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
		w.fromWeb().passes(t, forth(ack), kernel.RedirectPeer)
		w.toWeb().refuses(t, back(syn|ack), datapath.ReasonPolicyDenied)
		w.tunnelled(idDB).refuses(t, back(syn|ack), datapath.ReasonPolicyDenied)
		w.fromDB().passes(t, back(syn|ack), kernel.RedirectPeer)
		require.Equal(t, [2]uint64{2, 1}, w.flow(w.one).Packets)
	})
	t.Run("whoever answers for a pod is judged as that pod", func(t *testing.T) {
		w := newWorld(t)
		w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer)
		w.enforce(w.one, epDB, polClosed)
		w.toWeb().refuses(t, back(syn|ack), datapath.ReasonPolicyDenied)
		require.True(t, w.flow(w.one).Denied)
	})
	t.Run("a reply through the overlay is still a reply", func(t *testing.T) {
		w := newWorld(t)
		p := packet.UDP(at(web4, 1), at(node2v4, 53), "")
		w.fromWeb().passes(t, p, kernel.Pass)
		w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: cookieOpen}})
		w.fromWeb().passes(t, p, kernel.Pass)
		reply := packet.UDP(at(node2v4, 53), at(web4, 1), "")
		for range 3 {
			res := w.tunnelled(1).passes(t, reply, kernel.RedirectPeer)
			require.Empty(t, res.Events)
			w.fromWeb().passes(t, p, kernel.Pass)
		}
	})
}

// A node is known by its address (here as an API server), but what it sends carries the VNI of any node.
func TestRepliesOfANodeAreServedByTheEntry(t *testing.T) {
	w := newWorld(t)
	w.ok(w.one.Tables().IPCache.Put(pfx("10.2.0.1/32"), datapath.IPCache{Identity: identity.KubeAPIServer, Tunnel: node2v4}))
	w.class(identity.KubeAPIServer, 7)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Class: 7, Direction: datapath.Egress, AnyProto: true}: {Allow: true, Cookie: 1}})
	question, answer := packet.UDP(at(web4, 1), at(router2, 443), ""), packet.UDP(at(router2, 443), at(web4, 1), "")
	w.fromWeb().passes(t, question, kernel.Tunnel)
	w.tunnelled(identity.Host).passes(t, answer, kernel.RedirectPeer)
	require.Equal(t, identity.KubeAPIServer, w.flow(w.one).DstIdentity)

	// Another cookie without a new epoch shows whether the slow path is taken.
	w.allow(w.one, datapath.PolicyKey{Policy: newPolicy(1), Class: 7, Direction: datapath.Egress, AnyProto: true}, 2)
	require.Empty(t, w.tunnelled(identity.Host).passes(t, answer, kernel.RedirectPeer).Events)
	w.ok(w.one.BumpAll())
	require.Len(t, w.fromWeb().passes(t, question, kernel.Tunnel).Events, 1)
	w.allow(w.one, datapath.PolicyKey{Policy: newPolicy(1), Class: 7, Direction: datapath.Egress, AnyProto: true}, 3)
	require.Empty(t, w.tunnelled(identity.Host).passes(t, answer, kernel.RedirectPeer).Events, "a renewal remembers the VNI")
}

func TestVNIOfAnotherIdentityRenews(t *testing.T) {
	w := newWorld(t)
	w.class(idJob, 1)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Class: 1, AnyProto: true}: {Allow: true, Cookie: 1}})
	p := packet.UDP(at(job4, 1), at(web4, 53), "")
	w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	e := w.tunnelled(idDB).refuses(t, p, datapath.ReasonPolicyDenied)
	require.Equal(t, idDB, e.SrcIdentity)
	require.True(t, w.flow(w.one).Denied)
	w.tunnelled(idJob).refuses(t, p, datapath.ReasonPolicyDenied)
}

func TestFlowTableEvictsAndRefuses(t *testing.T) {
	w := newWorldWith(t, kernel.Options{Capacities: kernel.Capacities{Flows: 2}})
	p := func(port uint16) packet.Packet { return packet.UDP(at(web4, port), at(db4, 53), "") }
	w.fromWeb().passes(t, p(1), kernel.RedirectPeer)
	w.fromWeb().passes(t, p(2), kernel.RedirectPeer)
	w.fromWeb().passes(t, p(1), kernel.RedirectPeer)
	w.fromWeb().passes(t, p(3), kernel.RedirectPeer)
	flows, err := w.one.Flows()
	w.ok(err)
	require.Len(t, flows, 2)
	require.Equal(t, at(web4, 3), flows[0].Src)
	require.Equal(t, at(web4, 1), flows[1].Src, "the one used longest ago went")

	w.one.Fail(func(op, table string, key any) error {
		if op == "insert" && table == "flows" && key.(datapath.FlowKey).Proto == udp {
			return errors.New("out of memory")
		}
		return nil
	})
	w.fromWeb().refuses(t, p(4), datapath.ReasonFlowInsert)
	w.fromWeb().passes(t, p(3), kernel.RedirectPeer)
	w.one.Fail(nil)
	w.fromWeb().passes(t, p(4), kernel.RedirectPeer)
}
