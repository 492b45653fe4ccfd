package kernel_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

const network = 9 // the device on which the nodes are neighbours

// newDirectWorld is a world without encapsulation.
func newDirectWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldWith(t, kernel.Options{Direct: network})
	w.neighbour()
	return w
}

// neighbour lets node one send to node two directly from now on.
func (w *world) neighbour() {
	w.t.Helper()
	for a, hop := range map[netip.Addr]netip.Addr{job4: node2v4, job6: node2v6, router2: node2v4} {
		id := idJob
		if a == router2 {
			id = identity.RemoteNode
		}
		w.ok(w.one.Tables().IPCache.Put(netip.PrefixFrom(a, a.BitLen()), datapath.IPCache{Identity: id, NextHop: hop}))
		w.ok(w.one.BumpAddr(a))
	}
}

func (w *world) fromNetwork() door {
	return door{w.one, kernel.FromNetwork, network, kernel.Meta{}}
}

// leaves asks for a packet that the hook does nothing with.
func (d door) leaves(t *testing.T, p packet.Packet) {
	t.Helper()
	before, err := d.k.Counters()
	require.NoError(t, err)
	res := d.send(p)
	require.Equal(t, kernel.Pass, res.Action, "%s", p)
	require.Equal(t, p.Bytes(), res.Frame)
	require.Empty(t, res.Events)
	after, err := d.k.Counters()
	require.NoError(t, err)
	require.Equal(t, before, after, "not counted either")
}

func TestNeighboursAreSentToDirectly(t *testing.T) {
	w := newDirectWorld(t)
	for _, c := range []struct{ web, job, hop netip.Addr }{{web4, job4, node2v4}, {web6, job6, node2v6}} {
		res := w.fromWeb().passes(t, packet.TCP(at(c.web, 4000), at(c.job, 80), syn), kernel.Direct)
		require.Equal(t, uint32(network), res.Ifindex)
		require.Equal(t, c.hop, res.Remote)
		require.Equal(t, datapath.PointToNetwork, res.Events[0].Point)

		answer := packet.TCP(at(c.job, 80), at(c.web, 4000), syn|ack)
		res = w.fromNetwork().passes(t, answer, kernel.RedirectPeer)
		require.Equal(t, uint32(ifWeb), res.Ifindex)
		dst, _ := ethernet(res.Frame)
		require.Equal(t, podMAC(epWeb), dst)

		end := w.fromNetwork().passes(t, packet.TCP(at(c.job, 80), at(c.web, 4000), rst), kernel.RedirectPeer)
		require.Equal(t, []datapath.EventType{datapath.EventClose}, eventTypes(end))
		require.True(t, end.Events[0].Reply)
		again := w.fromNetwork().passes(t, packet.TCP(at(c.job, 80), at(c.web, 4000), syn), kernel.RedirectPeer)
		require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(again), "the old flow is over")
		require.False(t, again.Events[0].Reply)
	}
	w.host().passes(t, packet.UDP(at(router1, 1), at(job4, 53), ""), kernel.Pass)
}

func TestFromNetworkLeavesWhatIsNotPlain(t *testing.T) {
	w := newDirectWorld(t)
	w.fromWeb().passes(t, packet.UDP(at(web4, 4000), at(job4, 53), ""), kernel.Direct)
	w.fromWeb().passes(t, packet.Echo(web4, job4, 7, false), kernel.Direct)
	answer := packet.UDP(at(job4, 53), at(web4, 4000), "0123456789abcdef")
	for _, f := range answer.Fragments(3, 16) {
		w.fromNetwork().leaves(t, f)
	}
	w.fromNetwork().leaves(t, answer.With(func(p *packet.Packet) { p.Options = make([]byte, 4) }))
	w.fromNetwork().leaves(t, packet.Echo(job4, web4, 7, true))
	for _, m := range []kernel.Meta{{Stray: true}, {VLAN: true}} {
		d := w.fromNetwork()
		d.meta = m
		d.leaves(t, answer)
	}
	w.fromNetwork().passes(t, answer, kernel.RedirectPeer)
}

func TestFromNetworkLeavesWhatNoEntryServes(t *testing.T) {
	w := newDirectWorld(t)
	answer := packet.UDP(at(job4, 53), at(web4, 4000), "")
	w.fromWeb().passes(t, packet.UDP(at(web4, 4000), at(job4, 53), ""), kernel.Direct)
	w.fromNetwork().passes(t, answer, kernel.RedirectPeer)

	w.ok(w.one.BumpAll())
	w.fromNetwork().leaves(t, answer)
	w.toWeb().passes(t, answer, kernel.Pass)
	w.fromNetwork().passes(t, answer, kernel.RedirectPeer)

	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Ingress, AnyProto: true}: {Allow: true}})
	w.fromWeb().refuses(t, packet.UDP(at(web4, 4000), at(job4, 53), ""), datapath.ReasonPolicyDenied)
	w.fromNetwork().leaves(t, answer)
}

// What from_network opens is what to_pod would have opened.
func TestFromNetworkOpensFlowsOfNeighbours(t *testing.T) {
	for name, p := range map[string]packet.Packet{
		"IPv4 TCP": packet.TCP(at(job4, 4000), at(web4, 80), syn), "IPv6 TCP": packet.TCP(at(job6, 4000), at(web6, 80), syn),
		"IPv4 UDP": packet.UDP(at(job4, 4000), at(web4, 53), "x"), "middle": packet.TCP(at(job4, 4000), at(web4, 80), ack),
	} {
		t.Run(name, func(t *testing.T) {
			w, stack := newDirectWorld(t), newDirectWorld(t)
			res, same := w.fromNetwork().passes(t, p, kernel.RedirectPeer), stack.toWeb().passes(t, p, kernel.Pass)
			require.Equal(t, uint32(ifWeb), res.Ifindex)
			dst, src := ethernet(res.Frame)
			require.Equal(t, [2]datapath.MAC{podMAC(epWeb), nodeMAC(epWeb)}, [2]datapath.MAC{dst, src})
			require.Equal(t, p.Bytes()[12:], res.Frame[12:])
			require.Equal(t, cookieOpen, res.Ingress)

			same.Events[0].Ifindex = network
			require.Equal(t, same.Events, res.Events)
			require.Equal(t, datapath.EventNew, res.Events[0].Type)
			require.Equal(t, stack.flow(stack.one), w.flow(w.one))
			one, err := w.one.Counters()
			w.ok(err)
			other, err := stack.one.Counters()
			w.ok(err)
			require.Equal(t, other, one)

			require.Empty(t, w.fromNetwork().passes(t, p, kernel.RedirectPeer).Events)
			answer := p.With(func(p *packet.Packet) { p.Src, p.Dst, p.SPort, p.DPort, p.Flags = p.Dst, p.Src, p.DPort, p.SPort, ack })
			require.Empty(t, w.fromWeb().passes(t, answer, kernel.Direct).Events)
		})
	}
}

func TestFromNetworkOpensNothingElse(t *testing.T) {
	first := packet.TCP(at(job4, 4000), at(web4, 80), syn)
	to := func(a netip.Addr) packet.Packet { return first.With(func(p *packet.Packet) { p.Dst = a }) }
	from := func(a netip.Addr) packet.Packet { return first.With(func(p *packet.Packet) { p.Src = a }) }
	for name, c := range map[string]struct {
		packet  packet.Packet
		prepare func(w *world)
	}{
		"to the node":            {packet: to(router1)},
		"to nobody":              {packet: to(ip("10.1.0.77"))},
		"from a pod here":        {packet: from(db4)},
		"from the node":          {packet: from(router1)},
		"from outside":           {packet: from(outside4)},
		"with no hop left":       {packet: first.With(func(p *packet.Packet) { p.TTL = 1 })},
		"that is an ICMP echo":   {packet: packet.Echo(job4, web4, 7, false)},
		"from behind the tunnel": {first, func(w *world) { w.know(job4, datapath.IPCache{Identity: idJob, Tunnel: node2v4}) }},
		"from behind the stack":  {first, func(w *world) { w.know(job4, datapath.IPCache{Identity: idJob}) }},
		"from a pod that came here and has its old row": {first, func(w *world) {
			w.ok(w.one.Tables().Endpoints.Put(job4, datapath.Endpoint{ID: epJob, Identity: idJob, Ifindex: ifJob}))
		}},
		"that policy refuses": {first, func(w *world) {
			w.policyOf(w.one, epWeb, newPolicy(1), rows{{Direction: datapath.Egress, AnyProto: true}: {Allow: true}})
		}},
		"before there is a policy": {first, func(w *world) { w.enforce(w.one, epWeb, 0) }},
		"that finds no memory": {first, func(w *world) {
			w.one.Fail(func(op, table string, _ any) error {
				if op == "insert" && table == "flows" {
					return errors.New("out of memory")
				}
				return nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newDirectWorld(t)
			if c.prepare != nil {
				c.prepare(w)
			}
			w.fromNetwork().leaves(t, c.packet)
			w.noFlows(w.one)
		})
	}
}

func (w *world) know(a netip.Addr, row datapath.IPCache) {
	w.t.Helper()
	w.ok(w.one.Tables().IPCache.Put(netip.PrefixFrom(a, a.BitLen()), row))
}

func TestFromNetworkAsksForHops(t *testing.T) {
	w := newDirectWorld(t)
	p := packet.UDP(at(job4, 4000), at(web4, 53), "")
	w.fromNetwork().passes(t, p, kernel.RedirectPeer)
	w.fromNetwork().leaves(t, p.With(func(p *packet.Packet) { p.TTL = 1 }))
	w.fromNetwork().passes(t, p.With(func(p *packet.Packet) { p.TTL = 2 }), kernel.RedirectPeer)
}

func TestFromNetworkBelievesNobodyToBeThisNode(t *testing.T) {
	w := newDirectWorld(t)
	for _, src := range []netip.Addr{node1v4, outside4} {
		p := packet.UDP(at(src, 4000), at(web4, 53), "")
		w.toWeb().passes(t, p, kernel.Pass)
		w.fromNetwork().leaves(t, p)
	}
	p := packet.UDP(at(db4, 4000), at(web4, 53), "")
	w.fromDB().passes(t, p, kernel.RedirectPeer)
	w.fromNetwork().leaves(t, p)
}

func TestWhatCameThroughTheOverlayIsAnsweredThere(t *testing.T) {
	w := newWorldWith(t, kernel.Options{Direct: network})
	p, answer := packet.UDP(at(job4, 4000), at(web4, 53), ""), packet.UDP(at(web4, 53), at(job4, 4000), "")
	w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	w.fromWeb().passes(t, answer, kernel.Tunnel)
	w.neighbour()
	res := w.fromWeb().passes(t, answer, kernel.Tunnel)
	require.Equal(t, node2v4, res.Remote)
	w.fromNetwork().leaves(t, p)
}

func TestNextHopsAreOfThePrefixsFamily(t *testing.T) {
	w := newWorld(t)
	for prefix, hop := range map[string]netip.Addr{"10.9.0.0/16": node2v6, "fd00:9::/64": node2v4} {
		err := w.one.Tables().IPCache.Put(pfx(prefix), datapath.IPCache{Identity: 300, NextHop: hop})
		require.ErrorContains(t, err, "family")
	}
	w.fromWeb().passes(t, packet.UDP(at(web4, 1), at(job4, 2), ""), kernel.Tunnel)
}

func TestWithoutADeviceNeighboursAreLeftToTheStack(t *testing.T) {
	w := newWorld(t)
	w.neighbour()
	res := w.fromWeb().passes(t, packet.UDP(at(web4, 1), at(job4, 2), ""), kernel.Pass)
	require.Equal(t, datapath.PointToStack, res.Events[0].Point)
}
