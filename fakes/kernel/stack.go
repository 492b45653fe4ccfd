package kernel

import (
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/packet"
)

// party is anything that has addresses and a stack: a pod, a node, a machine outside.
type party struct {
	f       *Fabric
	name    string
	node    *fabricNode // nil: outside the cluster
	pod     bool
	ifindex uint32
	mac     datapath.MAC
	nodeMAC datapath.MAC
	addrs   []netip.Addr
	routers []netip.Addr // of a node: the addresses it uses towards other nodes' pods
	netns   uint64

	listening map[listener]bool
	sockets   map[socketKey]*socket
}

type listener struct {
	proto uint8
	port  uint16
}

// socketKey names a socket by both ends; remote is invalid for sockets that are not connected. Pings
// have their identifier as local port.
type socketKey struct {
	proto         uint8
	local, remote netip.AddrPort
}

type socket struct {
	established bool
	refused     bool
	server      bool
	seq, ack    uint32
	inbox       []message
}

type message struct {
	from netip.AddrPort
	data string
}

func (p *party) has(a netip.Addr) bool {
	for _, own := range p.addrs {
		if own == a {
			return true
		}
	}
	return false
}

// source picks the address to talk to dst from; invalid if there is none of its family.
func (p *party) source(dst netip.Addr) netip.Addr {
	candidates := p.addrs
	if to := p.f.at(dst); to != nil && to.pod && to.node != p.node && p.node != nil && p.node.k.direct == 0 {
		candidates = append(append([]netip.Addr(nil), p.routers...), p.addrs...)
	}
	for _, a := range candidates {
		if a.Is4() == dst.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// send puts a packet on its way.
func (p *party) send(pkt packet.Packet) {
	switch {
	case p.pod:
		pkt.SrcMAC, pkt.DstMAC = p.mac, p.nodeMAC
		frame := pkt.Bytes()
		p.f.later(func() { p.f.fromPod(p, frame) })
	case p.node != nil:
		frame := pkt.Bytes()
		p.f.later(func() { p.f.stack(p.node, frame) })
	default:
		frame := pkt.Bytes()
		if n := p.f.announced[pkt.Dst]; n != nil {
			p.f.later(func() { p.f.arrive(n, frame) })
			return
		}
		to := p.f.at(pkt.Dst)
		if to == nil {
			p.f.lost(p.name, frame, "nobody has the address "+pkt.Dst.String())
			return
		}
		if to.node == nil {
			p.f.later(func() { to.receive(frame) })
			return
		}
		p.f.later(func() { p.f.arrive(to.node, frame) })
	}
}

// receive is the bottom of the stack.
func (p *party) receive(frame []byte) {
	pkt, err := packet.Read(frame)
	switch {
	case err != nil:
		p.f.lost(p.name, frame, err.Error())
	case p.pod && (pkt.DstMAC != p.mac || pkt.SrcMAC != p.nodeMAC):
		p.f.lost(p.name, frame, "Ethernet addresses "+pkt.SrcMAC.String()+" > "+pkt.DstMAC.String()+" are not the link's")
	case !p.has(pkt.Dst):
		p.f.lost(p.name, frame, "not my address")
	case pkt.Frag != nil:
		p.f.lost(p.name, frame, "fragment")
	case pkt.Proto == datapath.ProtoTCP:
		p.receiveTCP(pkt)
	case pkt.Proto == datapath.ProtoUDP:
		p.receiveUDP(pkt, frame)
	case pkt.Proto == datapath.ProtoICMP, pkt.Proto == datapath.ProtoICMPv6:
		p.receiveICMP(pkt)
	default:
		p.f.lost(p.name, frame, "protocol unreachable")
	}
}

// ends names the socket that a packet is for.
func ends(pkt packet.Packet) socketKey {
	return socketKey{pkt.Proto, netip.AddrPortFrom(pkt.Dst, pkt.DPort), netip.AddrPortFrom(pkt.Src, pkt.SPort)}
}

func (p *party) receiveTCP(pkt packet.Packet) {
	key := ends(pkt)
	s := p.sockets[key]
	isSyn := pkt.Flags&(datapath.TCPSyn|datapath.TCPAck) == datapath.TCPSyn
	switch {
	case pkt.Flags&datapath.TCPRst != 0:
		if s != nil {
			s.refused, s.established = true, false
			delete(p.sockets, key)
		}
		return
	case isSyn && p.listening[listener{pkt.Proto, pkt.DPort}]:
		s = &socket{server: true, seq: 1000, ack: pkt.Seq + 1}
		p.sockets[key] = s
		p.sendTCP(key, s, datapath.TCPSyn|datapath.TCPAck, "")
		return
	case s == nil || isSyn:
		reset := &socket{seq: pkt.Ack, ack: pkt.Seq + 1}
		p.sendTCP(key, reset, datapath.TCPRst|datapath.TCPAck, "")
		return
	}
	if pkt.Flags&datapath.TCPSyn != 0 { // the answer to ours
		s.established, s.ack = true, pkt.Seq+1
		p.sendTCP(key, s, datapath.TCPAck, "")
		return
	}
	s.established = true
	if len(pkt.Payload) > 0 {
		s.ack = pkt.Seq + uint32(len(pkt.Payload))
		s.inbox = append(s.inbox, message{key.remote, string(pkt.Payload)})
		if s.server {
			p.sendTCP(key, s, datapath.TCPAck|datapath.TCPPsh, p.name+": "+string(pkt.Payload))
		} else {
			p.sendTCP(key, s, datapath.TCPAck, "")
		}
	}
	if pkt.Flags&datapath.TCPFin != 0 {
		s.ack = pkt.Seq + uint32(len(pkt.Payload)) + 1
		delete(p.sockets, key)
		if s.server {
			p.sendTCP(key, s, datapath.TCPFin|datapath.TCPAck, "")
		}
	}
}

// sendTCP sends a segment from a socket and moves its sequence number on.
func (p *party) sendTCP(key socketKey, s *socket, flags uint8, data string) {
	pkt := packet.TCP(key.local, key.remote, flags)
	pkt.Seq, pkt.Payload = s.seq, []byte(data)
	if flags&datapath.TCPAck != 0 {
		pkt.Ack = s.ack
	}
	s.seq += uint32(len(data))
	if flags&(datapath.TCPSyn|datapath.TCPFin) != 0 {
		s.seq++
	}
	p.send(pkt)
}

func (p *party) receiveUDP(pkt packet.Packet, frame []byte) {
	key := ends(pkt)
	s := p.sockets[key]
	if s == nil {
		s = p.sockets[socketKey{proto: pkt.Proto, local: key.local}]
	}
	switch {
	case s != nil:
		s.inbox = append(s.inbox, message{key.remote, string(pkt.Payload)})
	case p.listening[listener{pkt.Proto, pkt.DPort}]:
		p.send(packet.UDP(key.local, key.remote, p.name+": "+string(pkt.Payload)))
	default:
		typ, code := uint8(3), uint8(3)
		if pkt.Src.Is6() {
			typ, code = 1, 4
		}
		p.send(packet.ICMPError(pkt.Dst, pkt.Src, typ, code, frame, 8))
	}
}

func (p *party) receiveICMP(pkt packet.Packet) {
	v6 := pkt.Proto == datapath.ProtoICMPv6
	switch {
	case pkt.ICMPType == 8 && !v6, pkt.ICMPType == 128 && v6:
		answer := packet.Echo(pkt.Dst, pkt.Src, pkt.ICMPID, true)
		answer.ICMPSeq, answer.Payload = pkt.ICMPSeq, pkt.Payload
		p.send(answer)
	case pkt.ICMPType == 0 && !v6, pkt.ICMPType == 129 && v6:
		if s := p.sockets[socketKey{proto: pkt.Proto, local: netip.AddrPortFrom(pkt.Dst, pkt.ICMPID)}]; s != nil {
			s.inbox = append(s.inbox, message{netip.AddrPortFrom(pkt.Src, 0), string(pkt.Payload)})
		}
	default:
		p.receiveError(pkt)
	}
}

// receiveError marks the socket whose packet was refused, if the quoted head names one.
func (p *party) receiveError(pkt packet.Packet) {
	message := reading{v6: pkt.Src.Is6(), l4: append(make([]byte, 8), pkt.Payload...)}
	inner, ok := message.quoted()
	if !ok || inner.src != pkt.Dst {
		return
	}
	local, remote := netip.AddrPortFrom(inner.src, inner.sport), netip.AddrPortFrom(inner.dst, inner.dport)
	for _, key := range []socketKey{{inner.proto, local, remote}, {proto: inner.proto, local: local}} {
		if s := p.sockets[key]; s != nil {
			s.refused = true
			return
		}
	}
}
