package kernel

import (
	"encoding/binary"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// Lengths of headers and the numbers of the wire that reading needs.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	etherIPv6 = 0x86dd

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAH          = 51
	extDestOptions = 60
	maxExt         = 8
)

// fragment says what part of a datagram a packet is.
type fragment uint8

const (
	whole fragment = iota
	firstFragment
	laterFragment
)

// reading is what reading a packet finds. Ports are those of the flow key (see datapath.NewFlowKey).
type reading struct {
	arp      bool
	v6       bool
	extended bool // IPv4 options or IPv6 extension headers
	src, dst netip.Addr
	proto    uint8
	hopLimit uint8

	fragment  fragment
	fragID    uint32
	fragProto uint8 // of what the fragment header stands before

	l4                 []byte // from the L4 header to the end of the IP payload; nil for later fragments
	sport, dport       uint16
	flags              uint8
	icmpType, icmpCode uint8
}

func (p *reading) isICMP() bool {
	return p.proto == datapath.ProtoICMP || p.proto == datapath.ProtoICMPv6
}

// plain says whether the packet may take the shortcut of from_network: TCP or UDP without options or extension
// headers, whole.
func (p *reading) plain() bool {
	return !p.extended && p.fragment == whole && (p.proto == datapath.ProtoUDP || p.proto == datapath.ProtoTCP)
}

// policyPort is what policy calls the port.
func (p *reading) policyPort() uint16 {
	switch {
	case datapath.HasPorts(p.proto):
		return p.dport
	case p.isICMP():
		return uint16(p.icmpType)
	}
	return 0
}

// eventAddr is an end of the packet as events show it.
func (p *reading) eventAddr(a netip.Addr, port uint16) netip.AddrPort {
	if !datapath.HasPorts(p.proto) {
		port = 0
	}
	return netip.AddrPortFrom(a, port)
}

// parse reads a frame. On a drop, p holds what was read before.
func parse(frame []byte, vlan bool) (p reading, drop datapath.Reason) {
	if len(frame) < ethernetLen {
		return p, datapath.ReasonInvalidPacket
	}
	if vlan {
		return p, datapath.ReasonVLAN
	}
	body := frame[ethernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherVLAN, etherQinQ:
		return p, datapath.ReasonVLAN
	case etherARP:
		p.arp = true
		return p, 0
	case etherIPv4:
		drop = p.readIPv4(body, false)
	case etherIPv6:
		p.v6 = true
		drop = p.readIPv6(body, false)
	default:
		drop = datapath.ReasonUnsupportedL3
	}
	if drop != 0 {
		return p, drop
	}
	return p, p.readL4(false)
}

// readIPv4 reads the header. quoted: b is the head of a packet inside an ICMP error, which ends before
// the packet does.
func (p *reading) readIPv4(b []byte, quoted bool) datapath.Reason {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return datapath.ReasonInvalidPacket
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if quoted {
		total = min(total, len(b))
	}
	if head < ipv4Len || total < head || total > len(b) {
		return datapath.ReasonInvalidPacket
	}
	p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.hopLimit, p.proto = b[8], b[9]
	word := binary.BigEndian.Uint16(b[6:])
	switch {
	case word&0x1fff != 0:
		p.fragment = laterFragment
	case word&0x2000 != 0:
		p.fragment = firstFragment
	}
	if p.fragment != whole {
		p.fragID, p.fragProto = uint32(binary.BigEndian.Uint16(b[4:])), p.proto
	}
	p.extended = head > ipv4Len
	if p.fragment != laterFragment {
		p.l4 = b[head:total]
	}
	return 0
}

func (p *reading) readIPv6(b []byte, quoted bool) datapath.Reason {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return datapath.ReasonInvalidPacket
	}
	end := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if quoted {
		end = min(end, len(b))
	}
	if end > len(b) {
		return datapath.ReasonInvalidPacket
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.src, p.dst, p.hopLimit = src.Unmap(), dst.Unmap(), b[7]
	if src.Is4In6() || dst.Is4In6() {
		return datapath.ReasonInvalidSource
	}
	next, at := b[6], ipv6Len
	for walked := 0; ; walked++ {
		switch next {
		case extHopByHop, extDestOptions, extRouting, extFragment, extAH:
		default:
			p.proto, p.l4, p.extended = next, b[at:end], walked > 0
			return 0
		}
		if walked == maxExt || at+8 > end {
			return datapath.ReasonExtensionHeader
		}
		size := (int(b[at+1]) + 1) * 8
		switch next {
		case extRouting:
			if b[at+2] == 0 {
				return datapath.ReasonExtensionHeader
			}
		case extAH:
			size = (int(b[at+1]) + 2) * 4
		case extFragment:
			size = 8
			if p.fragment != whole {
				return datapath.ReasonExtensionHeader
			}
			word := binary.BigEndian.Uint16(b[at+2:])
			if word&^7 != 0 || word&1 != 0 {
				p.fragID, p.fragProto = binary.BigEndian.Uint32(b[at+4:]), b[at]
				p.fragment = firstFragment
			}
			if word&^7 != 0 {
				p.fragment, p.proto = laterFragment, b[at]
				return 0
			}
		}
		if at+size > end {
			return datapath.ReasonExtensionHeader
		}
		next, at = b[at], at+size
	}
}

// readL4 reads ports, flags and message type. quoted: 8 bytes are enough for every protocol.
func (p *reading) readL4(quoted bool) datapath.Reason {
	if p.fragment == laterFragment {
		return 0
	}
	need := 0
	switch p.proto {
	case datapath.ProtoTCP:
		need = 20
	case datapath.ProtoUDP, datapath.ProtoICMP, datapath.ProtoICMPv6:
		need = 8
	case datapath.ProtoSCTP:
		need = 12
	}
	if quoted {
		need = min(need, 8)
	}
	if len(p.l4) < need {
		return datapath.ReasonTruncatedL4
	}
	switch {
	case datapath.HasPorts(p.proto):
		p.sport, p.dport = binary.BigEndian.Uint16(p.l4), binary.BigEndian.Uint16(p.l4[2:])
		if p.proto == datapath.ProtoTCP && !quoted {
			p.flags = p.l4[13]
		}
	case p.isICMP():
		p.icmpType, p.icmpCode = p.l4[0], p.l4[1]
		p.sport, p.dport = icmpPorts(p.proto, p.icmpType, p.icmpCode, binary.BigEndian.Uint16(p.l4[4:]))
	}
	return 0
}

// icmpPorts gives a message the ports that datapath.NewFlowKey asks for.
func icmpPorts(proto, typ, code uint8, id uint16) (sport, dport uint16) {
	request, reply := uint8(8), uint8(0)
	if proto == datapath.ProtoICMPv6 {
		request, reply = 128, 129
	}
	switch typ {
	case request:
		return id, 0
	case reply:
		return 0, id
	}
	both := uint16(typ)<<8 | uint16(code)
	return both, both
}

// asksICMP says whether the packet is an ICMP message that answers nothing: of some, both directions
// have the same flow key.
func (p *reading) asksICMP() bool {
	return p.proto == datapath.ProtoICMP && p.icmpType != 0 || p.proto == datapath.ProtoICMPv6 && p.icmpType != 129
}

// opensTCP says whether the packet asks for a new TCP connection.
func (p *reading) opensTCP() bool {
	return p.proto == datapath.ProtoTCP && p.flags&(datapath.TCPSyn|datapath.TCPAck) == datapath.TCPSyn
}
