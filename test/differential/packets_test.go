package differential_test

import (
	"bytes"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// talk is a conversation: what the one who begins it sends.
type talk struct {
	from, to *party
	proto    uint8
	sport    uint16
	dport    uint16 // ICMP: type and code of what is neither echo request nor reply
	id       uint16
	hook     kernel.Hook // by which the beginner's packets enter
}

// step is the next packet or two.
func (g *gen) step() {
	if len(g.pieces) > 0 && g.chance(50) {
		i := g.IntN(len(g.pieces))
		g.send(g.pieces[i])
		if g.chance(80) {
			g.pieces = append(g.pieces[:i], g.pieces[i+1:]...)
		}
		return
	}
	switch n := g.IntN(100); {
	case n < 8 && len(g.sent) > 0:
		g.icmpError()
	case n < 10 && !g.calm:
		g.nonsense()
	case n < 12 && len(g.talks) > 0:
		g.cut()
	case n < 15 && len(g.sent) > 0: // the same again, perhaps elsewhere
		i := g.sent[g.IntN(len(g.sent))]
		g.misdirect(&i)
		g.send(i)
	default:
		if len(g.talks) == 0 || g.chance(15) {
			g.talks = append(g.talks, g.talk())
		}
		i := g.IntN(len(g.talks))
		if last := len(g.talks) - 1; g.chance(50) {
			i = max(0, last-g.IntN(3)) // rather one of late
		}
		g.say(g.talks[i])
	}
}

// cut lets policy refuse a conversation that goes on, and look who tries to begin anew.
func (g *gen) cut() {
	t := g.talks[max(0, len(g.talks)-1-g.IntN(3))]
	pod := t.to
	if pod.kind != localPod || g.chance(30) {
		pod = t.from
	}
	if pod.kind != localPod {
		return
	}
	g.say(t)
	g.serials++
	id := datapath.NewPolicyID(uint8(g.IntN(datapath.GenerationCount)), g.serials)
	for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
		key := datapath.PolicyKey{Policy: id, Direction: d, AnyProto: true}
		g.add(op{Policy: put(key, datapath.PolicyRow{Cookie: datapath.Cookie(g.IntN(3)) | 1<<31, Allow: g.chance(30)})})
	}
	g.epochs[pod.id]++
	g.add(op{Word: put(pod.id, datapath.EndpointPolicy{Policy: id, Epoch: g.epochs[pod.id]})})
	for range 1 + g.IntN(4) {
		g.say(t)
		if len(g.sent) > 0 && g.chance(30) {
			again := g.sent[len(g.sent)-1]
			g.misdirect(&again)
			g.send(again)
		}
	}
	if g.chance(70) {
		g.enforce(pod.id)
	}
}

func (g *gen) talk() talk {
	f := g.IntN(2)
	t := talk{from: g.any(f), to: g.any(f)}
	for range 3 { // rather somebody near
		if t.from.kind != localPod && t.to.kind != localPod {
			t.from, t.to = g.any(f), g.any(f)
		}
	}
	switch {
	case g.chance(4):
		t.to = t.from
	case g.chance(5):
		t.from, t.to = g.anyOf(f, host), g.anyOf(f, oneOf(g, remotePod, remotePod, outside))
	case g.direct && g.chance(35):
		t.from, t.to = g.anyOf(f, localPod), g.anyOf(f, remotePod)
		if g.chance(30) {
			t.from, t.to = t.to, t.from
		}
	}
	t.proto = oneOf[uint8](g, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP,
		datapath.ProtoUDP, datapath.ProtoSCTP, 1, 1, 1, 1, protoGRE, packet.ESP, protoOSPF, packet.NoNext, 0, 255, uint8(g.IntN(256)))
	if t.proto == 1 && f == 1 && g.chance(90) {
		t.proto = datapath.ProtoICMPv6
	}
	if (t.from.direct || t.to.direct) && g.chance(60) { // for shortcuts past the stack
		t.proto = oneOf[uint8](g, datapath.ProtoTCP, datapath.ProtoUDP)
	}
	t.sport, t.dport = oneOf[uint16](g, 1000, 1001, 80, 0, 65535), g.port()
	t.id = oneOf[uint16](g, 0, 1, 7, 0x0300, 0x8000, 0xffff)
	if isICMP(t.proto) && g.chance(60) {
		t.dport = 8 << 8
		if t.proto == datapath.ProtoICMPv6 {
			t.dport = 128 << 8
		}
	} else if isICMP(t.proto) {
		t.dport = uint16(g.IntN(256))<<8 | uint16(g.IntN(3))
		switch {
		case t.proto == datapath.ProtoICMPv6 && g.chance(25): // neighbours
			t.dport = uint16(135+g.IntN(2)) << 8
		case t.proto == datapath.ProtoICMPv6 && g.chance(50):
			t.dport = uint16(127+g.IntN(20))<<8 | uint16(g.IntN(2))
		}
	}
	t.hook = g.hookOf(t.from, t.to)
	return t
}

func isICMP(proto uint8) bool {
	return proto == datapath.ProtoICMP || proto == datapath.ProtoICMPv6
}

// hook is any of them.
func (g *gen) hook() kernel.Hook { return kernel.Hook(g.IntN(int(kernel.ToNetwork) + 1)) }

// hookOf is where packets of somebody meet a program.
func (g *gen) hookOf(from, to *party) kernel.Hook {
	switch {
	case from.kind == localPod:
		return kernel.FromPod
	case from.kind != host && from.direct && g.chance(80):
		if g.chance(70) {
			return kernel.FromNetwork
		}
		return kernel.ToPod
	case from.kind == remotePod || from.kind == remoteHost:
		if to.kind == localPod && g.chance(12) {
			return kernel.ToPod
		}
		return kernel.FromOverlay
	case to.kind == localPod:
		if from.kind == outside && g.chance(25) {
			return kernel.FromOverlay
		}
		return kernel.ToPod
	case from.kind == host:
		return kernel.FromHost
	}
	return g.hook()
}

// say sends a packet of a conversation from either side.
func (g *gen) say(t talk) {
	reply := g.chance(40)
	p := packet.Packet{Src: t.from.addr, Dst: t.to.addr, Proto: t.proto, SPort: t.sport, DPort: t.dport}
	from, to, hook := t.from, t.to, t.hook
	if reply {
		from, to, hook = t.to, t.from, g.hookOf(t.to, t.from)
		p.Src, p.Dst, p.SPort, p.DPort = p.Dst, p.Src, p.DPort, p.SPort
	}
	switch {
	case t.proto == datapath.ProtoTCP:
		p.Flags = g.tcpFlags(reply)
	case isICMP(t.proto):
		p.ICMPType, p.ICMPCode, p.ICMPID = uint8(t.dport>>8), uint8(t.dport), t.id
		p.SPort, p.DPort = 0, 0
		request, answer := uint8(8), uint8(0)
		if t.proto == datapath.ProtoICMPv6 {
			request, answer = 128, 129
		}
		if p.ICMPType == request && reply && g.chance(85) {
			p.ICMPType = answer
		}
		if g.chance(40) {
			p.TTL = 255
		}
	}
	p.Payload = make([]byte, oneOf(g, 0, 0, 4, 8, 20, 100))
	for i := range p.Payload {
		p.Payload[i] = byte(g.Uint32())
	}
	if g.rarely(6) { // less than a header, or just one
		p.L4 = make([]byte, g.IntN(21))
	}
	if hook == kernel.FromNetwork && g.chance(8) {
		p.TTL = oneOf[uint8](g, 1, 1, 2, 255)
	}
	g.decorate(&p)
	i := injection{Hook: hook, Note: "packet"}
	g.place(&i, from, to)
	if len(p.Payload) >= 8 && g.chance(15) || g.chance(3) {
		g.fragments(p, i)
		return
	}
	i.Frame = g.ethernet(p)
	if hook == kernel.FromOverlay && g.rarely(2) {
		i.Remote = netip.Addr{} // no tunnel key
	}
	if g.rarely(8) {
		g.spoil(&i, p)
	}
	if g.rarely(4) {
		g.misdirect(&i)
	}
	g.send(i)
}

func (g *gen) tcpFlags(reply bool) uint8 {
	switch {
	case g.chance(12):
		return uint8(g.IntN(256))
	case reply:
		return oneOf(g, datapath.TCPSyn|datapath.TCPAck, datapath.TCPAck, datapath.TCPAck, datapath.TCPFin|datapath.TCPAck, datapath.TCPRst)
	}
	return oneOf(g, datapath.TCPSyn, datapath.TCPAck, datapath.TCPAck, datapath.TCPAck|datapath.TCPPsh, datapath.TCPFin|datapath.TCPAck, datapath.TCPRst|datapath.TCPAck)
}

// place finds the interface of a hook, and the tunnel key.
func (g *gen) place(i *injection, from, to *party) {
	switch i.Hook {
	case kernel.FromPod:
		i.Slot = from.slot
	case kernel.ToPod:
		i.Slot = to.slot
	case kernel.FromHost:
		i.Slot = slotHost
	case kernel.FromNetwork, kernel.ToNetwork:
		i.Slot = slotNetwork
	case kernel.FromOverlay:
		i.Slot, i.VNI, i.Remote = slotOverlay, uint32(from.ident), from.tunnel
		if from.ident == identity.KubeAPIServer && g.mostly(90) { // what nodes send
			i.VNI = uint32(identity.RemoteNode)
		}
		if !i.Remote.Is4() {
			i.Remote = nodeA
		}
		if from.ident == 0 {
			i.VNI = oneOf[uint32](g, 0, 1, 6, 9, 2001)
		}
	}
}

// misdirect lets a packet come from where it should not.
func (g *gen) misdirect(i *injection) {
	switch g.IntN(4) {
	case 0:
		i.Hook = g.hook()
		i.Slot = g.IntN(podSlots)
		if i.Hook == kernel.FromNetwork {
			i.Slot = slotNetwork
		}
		if i.Hook == kernel.FromOverlay {
			i.Slot, i.Remote = slotOverlay, oneOf(g, nodeA, nodeB)
			i.VNI = uint32(g.identity())
		}
	case 1:
		if i.Hook != kernel.FromOverlay {
			i.Slot = g.IntN(slots)
		}
	case 2:
		i.VNI = uint32(g.identity())
		if g.chance(20) {
			i.VNI = g.Uint32N(1 << 24)
		}
	case 3:
		i.Remote = oneOf(g, nodeA, nodeB, nodeB, stranger, netip.Addr{})
	}
}

func (g *gen) send(i injection) {
	if len(i.Frame) < minFrame || len(i.Frame) > maxFrame {
		return
	}
	i.Frame = bytes.Clone(i.Frame)
	if g.chance(2) {
		i.Wire = true
	}
	if len(i.Frame) > 4096 && g.chance(60) { // what is shorter is always in one piece
		i.Linear = oneOf(g, packet.EthernetLen, packet.EthernetLen+10, 34, 54, 60, 100, 1500)
	}
	g.sent = append(g.sent, i)
	g.add(op{Packet: &i})
}

// Test runs take no frames without a byte behind the Ethernet header; the wire carries none that are larger.
const (
	minFrame = packet.EthernetLen + 1
	maxFrame = packet.EthernetLen + wireMTU
)

// Lengths of payloads that are worth a thought: near the largest of test runs, frames of 9,000 bytes and somewhat more, and
// nearly as much as an IP header can say.
var longPayloads = []int{2000, 2800, 3400, 8000, 8932, 8952, 8972, 9000, 9200, 12000, 16300, 40000, 65300, 65400}

func (g *gen) ethernet(p packet.Packet) []byte {
	p.SrcMAC, p.DstMAC = datapath.MAC{2, 0xcc, 1}, datapath.MAC{2, 0xcc, 2}
	if g.chance(5) {
		p.DstMAC = oneOf(g, datapath.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, datapath.MAC{1, 0, 0x5e, 0, 0, 1}, datapath.OverlayMAC)
	}
	return p.Bytes()
}

// decorate adds what headers may carry besides.
func (g *gen) decorate(p *packet.Packet) {
	if g.chance(8) {
		p.Padding = oneOf(g, 1, 6, 18, 200)
	}
	if g.chance(2) {
		p.Payload = make([]byte, oneOf(g, longPayloads...)+g.IntN(16))
	}
	if p.Src.Is4() {
		if g.chance(8) {
			p.Options = make([]byte, 4*(1+g.IntN(10)))
		}
		return
	}
	if g.rarely(12) {
		for range 1 + g.IntN(oneOf(g, 2, 4, 10)) {
			p.Ext = append(p.Ext, g.extension())
		}
	}
}

func (g *gen) extension() packet.Ext {
	switch g.IntN(7) {
	case 0:
		return packet.HopByHop(1 + g.IntN(3))
	case 1, 2:
		return packet.DestOptions(oneOf(g, 1, 1, 2, 5))
	case 3:
		return packet.Routing(oneOf[uint8](g, 0, 2, 2, 2, 3, 4), uint8(g.IntN(2)))
	case 4:
		return packet.AH()
	case 5: // an atomic fragment, or a header that says more
		return packet.FragmentHeader(packet.Frag{ID: g.fragID(), More: g.chance(20)})
	}
	return packet.DestOptions(1)
}

func (g *gen) fragID() uint32 { return oneOf[uint32](g, 1, 2, 3, 0x10001, 0xffffffff) }

// fragments cuts a packet up; its pieces come later, in any order, some never, some twice.
func (g *gen) fragments(p packet.Packet, i injection) {
	i.Note = "fragment"
	all := p.Fragments(g.fragID(), oneOf(g, 8, 16, 24, 64))
	if len(all) == 1 && g.chance(70) {
		all[0].Frag.More = true // more is announced than comes
	}
	if len(all) > 5 {
		all = append(all[:4], all[len(all)-1])
	}
	for n, f := range all {
		if f.Src.Is6() && g.chance(6) {
			f.Ext = append(f.Ext, packet.DestOptions(1))
		}
		piece := i
		piece.Frame = g.ethernet(f)
		if g.chance(3) {
			g.spoil(&piece, f)
		}
		if n == 0 && g.chance(60) {
			g.send(piece)
			continue
		}
		g.pieces = append(g.pieces, piece)
	}
	if len(g.pieces) > 12 {
		g.pieces = g.pieces[len(g.pieces)-12:]
	}
}

// icmpError complains about a packet that was sent.
func (g *gen) icmpError() {
	about := g.sent[g.IntN(len(g.sent))]
	quoted := about.Frame
	var f int
	var src, dst netip.Addr
	switch {
	case len(quoted) >= 54 && quoted[12] == 0x86 && quoted[13] == 0xdd:
		f, src, dst = 1, netip.AddrFrom16([16]byte(quoted[22:38])), netip.AddrFrom16([16]byte(quoted[38:54]))
	case len(quoted) >= 34 && quoted[12] == 8 && quoted[13] == 0:
		src, dst = netip.AddrFrom4([4]byte(quoted[26:30])), netip.AddrFrom4([4]byte(quoted[30:34]))
	default:
		return
	}
	if g.chance(6) { // of the other direction
		src, dst = dst, src
	}
	to, from := g.party(f, src), g.party(f, dst)
	if g.chance(30) {
		from = *g.any(f) // a router on the way
	}
	if g.chance(5) {
		to = *g.any(f)
	}
	typ := oneOf[uint8](g, 3, 3, 3, 4, 5, 11, 12, 13)
	if f == 1 {
		typ = oneOf[uint8](g, 1, 1, 2, 3, 4, 5, 128)
	}
	p := packet.ICMP(from.addr, to.addr, typ, uint8(g.IntN(16)))
	rest := quoted[packet.EthernetLen:]
	if g.chance(60) {
		rest = rest[:min(len(rest), oneOf(g, 28, 27, 20, 8, 48, 47, 40, 56, 60, 0, g.IntN(100)))]
	}
	p.Payload = bytes.Clone(rest)
	if len(p.Payload) > 0 && g.chance(6) {
		p.Payload[g.IntN(min(len(p.Payload), 60))] ^= 1 << g.IntN(8)
	}
	g.decorate(&p)
	i := injection{Hook: g.hookOf(&from, &to), Note: "ICMP error"}
	g.place(&i, &from, &to)
	i.Frame = g.ethernet(p)
	if g.chance(5) {
		g.spoil(&i, p)
	}
	if g.chance(5) {
		g.misdirect(&i)
	}
	g.send(i)
}

// party finds who has an address.
func (g *gen) party(f int, a netip.Addr) party {
	for _, p := range g.parties[f] {
		if p.addr == a {
			return p
		}
	}
	return party{kind: outside, addr: a}
}
