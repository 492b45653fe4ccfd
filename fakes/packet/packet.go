// Package packet builds and reads Ethernet frames for tests: IPv4 with options and fragments, IPv6 with
// extension headers, TCP, UDP, SCTP, ICMP and ICMPv6, with correct lengths and checksums. What a frame
// must get wrong for a test is done to the bytes afterwards.
package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// Ether types.
const (
	EtherIPv4 uint16 = 0x0800
	EtherARP  uint16 = 0x0806
	EtherVLAN uint16 = 0x8100
	EtherQinQ uint16 = 0x88a8
	EtherIPv6 uint16 = 0x86dd
)

// IPv6 extension headers and the two numbers that end a chain.
const (
	ExtHopByHop    uint8 = 0
	ExtRouting     uint8 = 43
	ExtFragment    uint8 = 44
	ESP            uint8 = 50
	ExtAH          uint8 = 51
	NoNext         uint8 = 59
	ExtDestOptions uint8 = 60
)

// Lengths of headers in bytes.
const (
	EthernetLen = 14
	IPv4Len     = 20
	IPv6Len     = 40
)

// Packet describes a frame. The zero value of a field means the usual: TTL 64, an Ethernet type that
// fits the addresses. It is a value: change a copy with With.
type Packet struct {
	SrcMAC, DstMAC datapath.MAC
	VLANs          []uint16 // tags, outermost first
	EtherType      uint16

	Src, Dst netip.Addr
	TTL      uint8 // hop limit
	Options  []byte
	Ext      []Ext // IPv6 extension headers; a fragment header of Frag follows them

	Frag *Frag // nil: not a fragment (IPv4: DF clear, id 0)

	Proto        uint8
	SPort, DPort uint16
	Seq, Ack     uint32
	Flags        uint8 // TCP

	ICMPType, ICMPCode uint8
	ICMPID, ICMPSeq    uint16 // bytes 4 to 7 of the ICMP header

	Payload []byte
	L4      []byte // in place of the L4 header and Payload, when not nil
	Padding int    // bytes behind the IP packet
}

// Frag makes a packet a fragment.
type Frag struct {
	ID     uint32 // 16 bits for IPv4
	Offset int    // bytes, a multiple of 8
	More   bool
}

// Ext is an IPv6 extension header: its own protocol number and what follows its first two bytes.
// Body is padded to the header's unit.
type Ext struct {
	Proto uint8
	Body  []byte
}

// With returns a changed copy.
func (p Packet) With(change func(*Packet)) Packet {
	change(&p)
	return p
}

// TCP makes a TCP segment.
func TCP(src, dst netip.AddrPort, flags uint8) Packet {
	return Packet{Src: src.Addr(), Dst: dst.Addr(), Proto: datapath.ProtoTCP, SPort: src.Port(), DPort: dst.Port(), Flags: flags}
}

// UDP makes a UDP datagram.
func UDP(src, dst netip.AddrPort, payload string) Packet {
	return Packet{Src: src.Addr(), Dst: dst.Addr(), Proto: datapath.ProtoUDP, SPort: src.Port(), DPort: dst.Port(), Payload: []byte(payload)}
}

// SCTP makes an SCTP packet without chunks.
func SCTP(src, dst netip.AddrPort) Packet {
	return Packet{Src: src.Addr(), Dst: dst.Addr(), Proto: datapath.ProtoSCTP, SPort: src.Port(), DPort: dst.Port()}
}

// Echo makes an ICMP echo request or reply of the addresses' family.
func Echo(src, dst netip.Addr, id uint16, reply bool) Packet {
	t := uint8(8)
	switch {
	case src.Is4() && reply:
		t = 0
	case !src.Is4() && reply:
		t = 129
	case !src.Is4():
		t = 128
	}
	p := ICMP(src, dst, t, 0)
	p.ICMPID, p.ICMPSeq = id, 1
	return p
}

// ICMP makes a message of the addresses' family.
func ICMP(src, dst netip.Addr, typ, code uint8) Packet {
	p := Packet{Src: src, Dst: dst, Proto: datapath.ProtoICMP, ICMPType: typ, ICMPCode: code}
	if !src.Is4() {
		p.Proto = datapath.ProtoICMPv6
	}
	return p
}

// ICMPError makes a message that quotes the head of the IP packet inside the frame: its L3 header and
// at most n bytes behind it.
func ICMPError(src, dst netip.Addr, typ, code uint8, frame []byte, n int) Packet {
	p := ICMP(src, dst, typ, code)
	quoted := frame[EthernetLen:]
	if head := l3Len(quoted) + n; head < len(quoted) {
		quoted = quoted[:head]
	}
	p.Payload = quoted
	return p
}

func l3Len(b []byte) int {
	if b[0]>>4 == 4 {
		return int(b[0]&15) * 4
	}
	return IPv6Len
}

// ARP makes an ARP request for an IPv4 address.
func ARP(srcMAC datapath.MAC, src, target netip.Addr) []byte {
	b := make([]byte, EthernetLen, EthernetLen+28)
	for i := range 6 {
		b[i] = 0xff
	}
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], EtherARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(b, srcMAC[:]...)
	b = append(b, src.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, target.AsSlice()...)
}

// Routing makes a routing header.
func Routing(typ, segmentsLeft uint8) Ext {
	return Ext{Proto: ExtRouting, Body: []byte{typ, segmentsLeft, 0, 0, 0, 0}}
}

// HopByHop makes a hop-by-hop header of 8*units bytes that holds padding.
func HopByHop(units int) Ext { return Ext{Proto: ExtHopByHop, Body: padOptions(units)} }

// DestOptions makes a destination options header of 8*units bytes that holds padding.
func DestOptions(units int) Ext { return Ext{Proto: ExtDestOptions, Body: padOptions(units)} }

// AH makes an authentication header with a 12-byte check value.
func AH() Ext { return Ext{Proto: ExtAH, Body: make([]byte, 22)} }

// FragmentHeader makes an explicit fragment header, for chains that Packet.Frag does not build.
func FragmentHeader(f Frag) Ext {
	b := make([]byte, 6)
	binary.BigEndian.PutUint16(b, uint16(f.Offset)|boolBit(f.More))
	binary.BigEndian.PutUint32(b[2:], f.ID)
	return Ext{Proto: ExtFragment, Body: b}
}

func padOptions(units int) []byte {
	b := make([]byte, 8*units-2)
	b[0], b[1] = 1, byte(len(b)-2) // PadN
	return b
}

func boolBit(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// Fragments splits a packet into fragments with the given id that carry at most size bytes of its L4
// part; size is rounded down to a multiple of 8.
func (p Packet) Fragments(id uint32, size int) []Packet {
	l4 := p.l4()
	size &^= 7
	var out []Packet
	for off := 0; off < len(l4); off += size {
		end := min(off+size, len(l4))
		f := p
		f.L4 = l4[off:end]
		f.Frag = &Frag{ID: id, Offset: off, More: end < len(l4)}
		out = append(out, f)
	}
	return out
}
