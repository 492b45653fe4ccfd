package ebpf

import (
	"encoding/binary"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// The frames of the test runs. Checksums are left out: the programs do not look at them.

const ethernetLen = 14

func ethernet(typ uint16, payload []byte) []byte {
	f := make([]byte, ethernetLen, ethernetLen+len(payload))
	copy(f, []byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd})
	binary.BigEndian.PutUint16(f[12:], typ)
	return append(f, payload...)
}

// packet is an IP packet to be.
type packet struct {
	src, dst  netip.Addr
	proto     uint8
	l4        []byte
	hopLimit  uint8 // 0: 64
	ecn       uint8
	fragment  uint16 // offset in units of 8 bytes
	more      bool
	id        uint32
	extension []byte // IPv6: headers after the fixed one; the first is of type extProto
	extProto  uint8
}

func (p packet) isFragment() bool { return p.fragment != 0 || p.more }

// ip builds the packet without Ethernet header.
func (p packet) ip() []byte {
	if p.hopLimit == 0 {
		p.hopLimit = 64
	}
	if p.src.Is4() {
		h := make([]byte, 20)
		h[0], h[1], h[8], h[9] = 0x45, p.ecn, p.hopLimit, p.proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(p.l4)))
		binary.BigEndian.PutUint16(h[4:], uint16(p.id))
		word := p.fragment
		if p.more {
			word |= 0x2000
		}
		binary.BigEndian.PutUint16(h[6:], word)
		copy(h[12:], p.src.AsSlice())
		copy(h[16:], p.dst.AsSlice())
		return append(h, p.l4...)
	}
	next, body := p.proto, p.l4
	if p.isFragment() {
		h := make([]byte, 8)
		h[0] = next
		word := p.fragment << 3
		if p.more {
			word |= 1
		}
		binary.BigEndian.PutUint16(h[2:], word)
		binary.BigEndian.PutUint32(h[4:], p.id)
		next, body = 44, append(h, body...)
	}
	if p.extension != nil {
		next, body = p.extProto, append(append([]byte{}, p.extension...), body...)
	}
	h := make([]byte, 40)
	h[0], h[1], h[6], h[7] = 0x60, p.ecn<<4, next, p.hopLimit
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], p.src.AsSlice())
	copy(h[24:], p.dst.AsSlice())
	return append(h, body...)
}

func (p packet) frame() []byte {
	if p.src.Is4() {
		return ethernet(0x0800, p.ip())
	}
	return ethernet(0x86dd, p.ip())
}

func tcp(sport, dport uint16, flags uint8) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	h[12], h[13] = 0x50, flags
	return h
}

func udp(sport, dport uint16, payload int) []byte {
	h := make([]byte, 8+payload)
	binary.BigEndian.PutUint16(h, sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	binary.BigEndian.PutUint16(h[4:], uint16(8+payload))
	return h
}

func icmp(typ, code uint8, id uint16, payload []byte) []byte {
	h := make([]byte, 8)
	h[0], h[1] = typ, code
	binary.BigEndian.PutUint16(h[4:], id)
	return append(h, payload...)
}

// tcpFrame and its likes are the packets that most tests want.
func tcpFrame(src, dst netip.Addr, sport, dport uint16, flags uint8) []byte {
	return packet{src: src, dst: dst, proto: datapath.ProtoTCP, l4: tcp(sport, dport, flags)}.frame()
}

func udpFrame(src, dst netip.Addr, sport, dport uint16) []byte {
	return packet{src: src, dst: dst, proto: datapath.ProtoUDP, l4: udp(sport, dport, 16)}.frame()
}

func icmpProto(a netip.Addr) uint8 {
	if a.Is4() {
		return datapath.ProtoICMP
	}
	return datapath.ProtoICMPv6
}

func echoFrame(src, dst netip.Addr, id uint16, reply bool) []byte {
	typ := map[bool]map[bool]uint8{true: {false: 8, true: 0}, false: {false: 128, true: 129}}[src.Is4()][reply]
	return packet{src: src, dst: dst, proto: icmpProto(src), l4: icmp(typ, 0, id, make([]byte, 16))}.frame()
}

// errorFrame is "port unreachable" about a packet.
func errorFrame(src, dst netip.Addr, about packet) []byte {
	typ, code := uint8(3), uint8(3)
	if !src.Is4() {
		typ, code = 1, 4
	}
	return packet{src: src, dst: dst, proto: icmpProto(src), l4: icmp(typ, code, 0, about.ip())}.frame()
}
