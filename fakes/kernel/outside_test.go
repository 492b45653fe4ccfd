package kernel_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

const outsideDevice = 30

// newOutsideWorld is a world whose services take packets from the network.
func newOutsideWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldWith(t, kernel.Options{Outside: kernel.Outside{
		Outside: ports.Outside{Devices: []uint32{outsideDevice}, Addresses: []netip.Addr{node1v4, node1v6}},
	}})
	for _, name := range []string{"db", "job", "web"} {
		w.fabric.Listen(name, tcp, 8080)
		w.fabric.Listen(name, udp, 8080)
	}
	return w
}

func external(a netip.Addr, port uint16, proto uint8) datapath.ServiceKey {
	return datapath.ServiceKey{Addr: a, Port: port, Proto: proto, Scope: datapath.External}
}

func (w *world) fromOutside() door {
	return door{w.one, kernel.FromNetwork, outsideDevice, kernel.Meta{}}
}

func (w *world) translations(k *kernel.Kernel) map[datapath.Tuple]datapath.Translation {
	w.t.Helper()
	rows, err := k.Translations()
	w.ok(err)
	out := map[datapath.Tuple]datapath.Translation{}
	for _, r := range rows {
		out[r.From] = r
	}
	return out
}

func TestServicesFromOutside(t *testing.T) {
	w := newOutsideWorld(t)
	balancer := ip("203.0.113.80")
	w.fabric.Announce(balancer, "one")
	for n, proto := range []uint8{tcp, udp} {
		id := uint32(n) * 10
		w.service(w.one, id+1, external(netip.IPv4Unspecified(), 30080, proto), 0, at(db4, 8080))
		w.service(w.one, id+2, external(netip.IPv6Unspecified(), 30080, proto), 0, at(db6, 8080))
		w.service(w.one, id+3, external(netip.IPv4Unspecified(), 30081, proto), 0, at(job4, 8080))
		w.service(w.one, id+4, external(netip.IPv6Unspecified(), 30081, proto), 0, at(job6, 8080))
		w.service(w.one, id+5, external(balancer, 80, proto), 0, at(db4, 8080), at(job4, 8080))
	}
	for _, proto := range []uint8{tcp, udp} {
		for _, node := range []netip.Addr{node1v4, node1v6} {
			for port, server := range map[uint16]string{30080: "db", 30081: "job"} {
				c, a, trace := w.fabric.Open("outside", proto, node, port)
				require.True(t, a.Connected, "%s", trace)
				require.Equal(t, server, a.By)
				a, trace = c.Send("again")
				require.True(t, a.Connected, "%s", trace)
				if proto == tcp {
					w.fabric.Emit("outside", packet.TCP(c.Local(), c.Remote(), fin|ack))
				}
			}
			_, refused, _ := w.fabric.Open("outside", proto, node, 30082)
			require.False(t, refused.Connected)
		}
		by := map[string]bool{}
		for range 30 {
			_, a, trace := w.fabric.Open("outside", proto, balancer, 80)
			require.True(t, a.Connected, "%s", trace)
			by[a.By] = true
		}
		require.Equal(t, map[string]bool{"db": true, "job": true}, by)
	}
	flows, err := w.one.Flows()
	w.ok(err)
	require.NotEmpty(t, flows)
	for _, f := range flows {
		require.Contains(t, []netip.Addr{outside4, outside6}, f.Src.Addr(), "a pod here sees who the client is")
	}
	flows, err = w.two.Flows()
	w.ok(err)
	for _, f := range flows {
		require.Contains(t, []netip.Addr{node1v4, node1v6}, f.Src.Addr(), "elsewhere the client is the node")
		require.Contains(t, []identity.ID{identity.WorldIPv4, identity.WorldIPv6}, f.SrcIdentity, "but for policy it is the world")
		require.GreaterOrEqual(t, f.Src.Port(), uint16(datapath.NATPortFirst))
		require.Less(t, f.Src.Port(), uint16(datapath.NATPortFirst+datapath.NATPortCount))
	}
}

func TestServicesFromOutsideLeaveOthersAlone(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, tcp), 0, at(db4, 8080))
	w.service(w.one, 2, frontend(netip.IPv4Unspecified(), 30081, tcp), 0, at(db4, 8080))
	for what, p := range map[string]packet.Packet{
		"another port":       packet.TCP(at(outside4, 1), at(node1v4, 30082), syn),
		"a row for sockets":  packet.TCP(at(outside4, 1), at(node1v4, 30081), syn),
		"another protocol":   packet.UDP(at(outside4, 1), at(node1v4, 30080), ""),
		"another node":       packet.TCP(at(outside4, 1), at(node2v4, 30080), syn),
		"a pod":              packet.TCP(at(outside4, 1), at(web4, 30080), syn),
		"no ports":           packet.Echo(outside4, node1v4, 7, false),
		"the other family":   packet.TCP(at(outside6, 1), at(node1v6, 30080), syn),
		"nobody's fragments": packet.UDP(at(outside4, 1), at(node1v4, 30080), "0123456789abcdef").Fragments(7, 8)[1],
	} {
		w.fromOutside().leaves(t, p)
		require.Empty(t, w.translations(w.one), what)
	}
	stray := w.fromOutside()
	stray.meta.Stray = true
	stray.leaves(t, packet.TCP(at(outside4, 1), at(node1v4, 30080), syn))
}

func TestServicesFromOutsideDrop(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, tcp), 0)
	w.service(w.one, 2, external(netip.IPv4Unspecified(), 30080, datapath.ProtoSCTP), 0, at(db4, 8080))
	bare := kernel.New(kernel.Options{Outside: kernel.Outside{
		Outside: ports.Outside{Devices: []uint32{outsideDevice}}, Route: func(netip.Addr) uint32 { return 0 },
	}})
	w.service(bare, 1, external(vip4, 80, tcp), 0, at(job4, 8080))
	stuck := kernel.New(kernel.Options{Outside: kernel.Outside{
		Outside: ports.Outside{Devices: []uint32{outsideDevice}, Addresses: []netip.Addr{node1v4}}, Route: func(netip.Addr) uint32 { return 0 },
	}})
	w.service(stuck, 1, external(vip4, 80, tcp), 0, at(job4, 8080))
	sctp := packet.Packet{Src: outside4, Dst: node1v4, SPort: 1, DPort: 30080, Proto: datapath.ProtoSCTP}
	for _, c := range []struct {
		k      *kernel.Kernel
		p      packet.Packet
		reason datapath.Reason
	}{
		{w.one, packet.TCP(at(outside4, 1), at(node1v4, 30080), syn), datapath.ReasonNoBackend},
		{w.one, sctp, datapath.ReasonNATProtocol},
		{bare, packet.TCP(at(outside4, 1), at(vip4, 80), syn), datapath.ReasonNATNoMapping},
		{stuck, packet.TCP(at(outside4, 1), at(vip4, 80), syn), datapath.ReasonNoRoute},
	} {
		e := door{c.k, kernel.FromNetwork, outsideDevice, kernel.Meta{}}.refuses(t, c.p, c.reason)
		require.Equal(t, datapath.PointFromNetwork, e.Point)
		require.Equal(t, datapath.Ingress, e.Direction)
	}
}

func TestTranslationsLiveAndEnd(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, tcp), 0, at(db4, 8080))
	key := datapath.Tuple{Src: at(outside4, 4000), Dst: at(node1v4, 30080), Proto: tcp}
	state := func(s datapath.NATState, seconds int) {
		t.Helper()
		rows := w.translations(w.one)
		require.Len(t, rows, 2)
		reply := rows[rows[key].To.Reverse()]
		require.True(t, reply.Reply)
		require.Equal(t, key.Reverse(), reply.To)
		for _, r := range []datapath.Translation{rows[key], reply} {
			require.Equal(t, s, r.State)
			require.Equal(t, time.Duration(seconds)*time.Second, r.Expires)
			require.True(t, r.Here)
		}
	}
	request := func(flags uint8) kernel.Result {
		res := w.fromOutside().send(packet.TCP(key.Src, key.Dst, flags))
		require.Equal(t, kernel.Pass, res.Action)
		p, err := packet.Read(res.Frame)
		w.ok(err)
		require.Equal(t, at(db4, 8080), netip.AddrPortFrom(p.Dst, p.DPort))
		toDB := door{w.one, kernel.ToPod, ifDB, kernel.Meta{}}
		require.Equal(t, kernel.Pass, toDB.send(p).Action)
		return res
	}
	answer := func(flags uint8) kernel.Result {
		return door{w.one, kernel.FromPod, ifDB, kernel.Meta{}}.send(packet.TCP(at(db4, 8080), key.Src, flags))
	}
	request(syn)
	state(datapath.NATNew, 60)
	w.clock.Advance(10 * time.Second)
	request(syn)
	state(datapath.NATNew, 60)
	res := answer(syn | ack)
	require.Equal(t, kernel.Direct, res.Action)
	require.EqualValues(t, outsideDevice, res.Ifindex)
	p, err := packet.Read(res.Frame)
	w.ok(err)
	require.Equal(t, key.Dst, netip.AddrPortFrom(p.Src, p.SPort), "the answer comes from the node port")
	state(datapath.NATAnswered, 8000)
	w.clock.Advance(time.Hour)
	request(ack)
	state(datapath.NATAnswered, 8000)
	answer(fin | ack)
	state(datapath.NATClosing, 120)
	request(ack)
	state(datapath.NATClosing, 120)
	request(syn)
	state(datapath.NATNew, 60)
	w.clock.Advance(60 * time.Second)
	answer(syn | ack) // the flow is over, too
	_, err = w.one.CollectFlows()
	w.ok(err)
	require.Empty(t, w.translations(w.one), "expired rows are collected")
}

func TestAnswersWithoutTranslationAreDropped(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, udp), 0, at(db4, 8080))
	res := w.fromOutside().send(packet.UDP(at(outside4, 4000), at(node1v4, 30080), "hi"))
	p, err := packet.Read(res.Frame)
	w.ok(err)
	door{w.one, kernel.ToPod, ifDB, kernel.Meta{}}.send(p)
	w.clock.Advance(59 * time.Second)
	door{w.one, kernel.ToPod, ifDB, kernel.Meta{}}.send(p) // the flow goes on without from_network having seen it
	w.clock.Advance(time.Second)
	e := door{w.one, kernel.FromPod, ifDB, kernel.Meta{}}.refuses(t, packet.UDP(at(db4, 8080), at(outside4, 4000), "ho"), datapath.ReasonNATNoMapping)
	require.Equal(t, datapath.Egress, e.Direction)
}

func TestPortsOfClientsClash(t *testing.T) {
	w := newOutsideWorld(t)
	for n, port := range []uint16{30080, 30081} {
		w.service(w.one, uint32(n+1), external(netip.IPv4Unspecified(), port, udp), 0, at(db4, 8080))
	}
	for _, port := range []uint16{30080, 30081} {
		w.fromOutside().send(packet.UDP(at(outside4, 4000), at(node1v4, port), ""))
	}
	rows := w.translations(w.one)
	require.Len(t, rows, 4)
	first := rows[datapath.Tuple{Src: at(outside4, 4000), Dst: at(node1v4, 30080), Proto: udp}]
	second := datapath.Tuple{Src: at(outside4, 4000), Dst: at(node1v4, 30081), Proto: udp}
	require.Equal(t, at(outside4, 4000), first.To.Src)
	require.Equal(t, outside4, rows[second].To.Src.Addr())
	require.EqualValues(t, datapath.NATPortFirst+(second.Hash()+1)%datapath.NATPortCount, rows[second].To.Src.Port())
}

func TestAffinityOfClientsFromOutside(t *testing.T) {
	w := newOutsideWorld(t)
	key := external(netip.IPv4Unspecified(), 30080, udp)
	w.service(w.one, 1, key, 60, at(db4, 8080), at(web4, 8080), at(job4, 8080))
	to := func(port uint16) netip.AddrPort {
		t.Helper()
		tuple := datapath.Tuple{Src: at(outside4, port), Dst: at(node1v4, 30080), Proto: udp}
		w.fromOutside().send(packet.UDP(tuple.Src, tuple.Dst, ""))
		return w.translations(w.one)[tuple].To.Dst
	}
	first := to(1)
	for port := uint16(2); port < 30; port++ {
		require.Equal(t, first, to(port))
		w.clock.Advance(time.Second)
	}
	w.clock.Advance(60 * time.Second)
	others := map[netip.AddrPort]bool{}
	for port := uint16(100); port < 130; port++ {
		w.clock.Advance(60 * time.Second)
		others[to(port)] = true
	}
	require.Len(t, others, 3)
}

// TestWalkNodePort replays docs/walks/node-port.md.
func TestWalkNodePort(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, tcp), 0, at(db4, 8080))
	w.service(w.one, 2, external(netip.IPv4Unspecified(), 30081, tcp), 0, at(job4, 8080))
	type step struct {
		node   string
		hook   kernel.Hook
		action kernel.Action
	}
	steps := func(trace kernel.Trace) (out []step) {
		for _, s := range trace.Steps {
			if s.Result != nil {
				out = append(out, step{s.Node, s.Hook, s.Result.Action})
			}
		}
		return out
	}
	_, a, trace := w.fabric.Open("outside", tcp, node1v4, 30080)
	require.True(t, a.Connected, "%s", trace)
	require.Equal(t, []step{
		{"one", kernel.FromNetwork, kernel.Pass}, {"one", kernel.ToPod, kernel.Pass}, // 1 to 3
		{"one", kernel.FromPod, kernel.Direct}, // 4
	}, steps(trace)[:3])
	require.EqualValues(t, outsideDevice, trace.Steps[2].Result.Ifindex)
	opened := trace.Steps[1].Result.Events[0]
	require.Equal(t, outside4, opened.Src.Addr())
	require.True(t, opened.IngressJudged)
	require.Equal(t, identity.WorldIPv4, opened.SrcIdentity)

	_, a, trace = w.fabric.Open("outside", tcp, node1v4, 30081)
	require.True(t, a.Connected, "%s", trace)
	require.Equal(t, []step{
		{"one", kernel.FromNetwork, kernel.Tunnel}, {"two", kernel.FromOverlay, kernel.RedirectPeer}, // 5
		{"two", kernel.FromPod, kernel.Tunnel}, {"one", kernel.FromOverlay, kernel.Direct}, // 6
	}, steps(trace)[:4])
	require.EqualValues(t, identity.WorldIPv4, trace.Steps[0].Result.VNI)
	require.Equal(t, node1v4, trace.Steps[1].Result.Events[0].Src.Addr())
}

// What the node itself answers, and what it and pods say about clients' packets, comes from the frontend.
func TestTheNodeAnswersAsTheService(t *testing.T) {
	w := newOutsideWorld(t)
	w.service(w.one, 1, external(netip.IPv4Unspecified(), 30080, udp), 0, at(node1v4, 53))
	w.service(w.one, 2, external(netip.IPv6Unspecified(), 30080, udp), 0, at(db6, 5353))
	w.service(w.one, 3, external(netip.IPv6Unspecified(), 30081, udp), 0, at(job6, 5353))
	out := door{w.one, kernel.ToNetwork, outsideDevice, kernel.Meta{Socket: true}}
	request := packet.UDP(at(outside4, 4000), at(node1v4, 30080), "hi")
	w.fromOutside().send(request)
	answer := packet.UDP(at(node1v4, 53), at(outside4, 4000), "ho")
	forwarded := out
	forwarded.meta.Socket = false
	require.Equal(t, answer.Bytes(), forwarded.send(answer).Frame, "only sockets' packets are changed")
	p, err := packet.Read(out.send(answer).Frame)
	w.ok(err)
	require.Equal(t, at(node1v4, 30080), netip.AddrPortFrom(p.Src, p.SPort))
	require.Equal(t, packet.UDP(at(node1v4, 30080), at(outside4, 4000), "ho").Bytes(), p.Bytes(), "checksums, too")
	other := packet.UDP(at(node1v4, 53), at(outside4, 4001), "ho")
	require.Equal(t, other.Bytes(), out.send(other).Frame)

	for port, by := range map[uint16]string{30080: "db", 30081: "job"} { // nobody listens on port 5353
		_, a, trace := w.fabric.Open("outside", udp, node1v6, port)
		require.True(t, a.Refused, "the error of %s reaches the client as one about its own packet\n%s", by, trace)
	}

	// The node itself says that a packet is too big for the way to the pod.
	big := packet.UDP(at(outside6, 4000), at(node1v6, 30080), "a datagram")
	res := w.fromOutside().send(big)
	tooBig := packet.ICMPError(node1v6, outside6, 2, 0, res.Frame, 18)
	got, err := packet.Read(out.send(tooBig).Frame)
	w.ok(err)
	want := packet.ICMPError(node1v6, outside6, 2, 0, big.Bytes(), 18)
	copy(want.Payload[46:48], got.Payload[46:48]) // the quoted checksum stays that of the changed packet
	require.Equal(t, want.Bytes(), got.Bytes())
}
