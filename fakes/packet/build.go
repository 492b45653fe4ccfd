package packet

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/weirnet/weir/core/datapath"
)

// Bytes builds the frame.
func (p Packet) Bytes() []byte {
	var ip []byte
	if p.Src.Is4() {
		ip = p.ipv4(p.l4())
	} else {
		ip = p.ipv6(p.l4())
	}
	b := make([]byte, 12, EthernetLen+4*len(p.VLANs)+len(ip)+p.Padding)
	copy(b, p.DstMAC[:])
	copy(b[6:], p.SrcMAC[:])
	for _, tag := range p.VLANs {
		b = binary.BigEndian.AppendUint16(b, EtherVLAN)
		b = binary.BigEndian.AppendUint16(b, tag)
	}
	etherType := p.EtherType
	switch {
	case etherType != 0:
	case p.Src.Is4():
		etherType = EtherIPv4
	default:
		etherType = EtherIPv6
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	b = append(b, ip...)
	return append(b, make([]byte, p.Padding)...)
}

func (p Packet) ttl() uint8 {
	if p.TTL == 0 {
		return 64
	}
	return p.TTL
}

func (p Packet) ipv4(l4 []byte) []byte {
	options := append([]byte(nil), p.Options...)
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	head := IPv4Len + len(options)
	b := make([]byte, head, head+len(l4))
	b[0] = 4<<4 | byte(head/4)
	binary.BigEndian.PutUint16(b[2:], uint16(head+len(l4)))
	if p.Frag != nil {
		binary.BigEndian.PutUint16(b[4:], uint16(p.Frag.ID))
		binary.BigEndian.PutUint16(b[6:], uint16(p.Frag.Offset/8)|boolBit(p.Frag.More)<<13)
	}
	b[8], b[9] = p.ttl(), p.Proto
	src, dst := p.Src.As4(), p.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	copy(b[20:], options)
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b)))
	return append(b, l4...)
}

func (p Packet) ipv6(l4 []byte) []byte {
	ext := append([]Ext(nil), p.Ext...)
	if p.Frag != nil {
		ext = append(ext, FragmentHeader(*p.Frag))
	}
	b := make([]byte, IPv6Len)
	b[0] = 6 << 4
	b[7] = p.ttl()
	src, dst := p.Src.As16(), p.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	nextAt := 6
	for _, e := range ext {
		b[nextAt] = e.Proto
		nextAt = len(b)
		b = append(b, e.bytes()...)
	}
	b[nextAt] = p.Proto
	b = append(b, l4...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-IPv6Len))
	return b
}

// bytes gives the header with next header 0.
func (e Ext) bytes() []byte {
	b := append([]byte{0, 0}, e.Body...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	switch e.Proto {
	case ExtAH:
		b[1] = byte(len(b)/4 - 2)
	case ExtFragment: // the second byte is reserved
	default:
		b[1] = byte(len(b)/8 - 1)
	}
	return b
}

// l4 gives the L4 header and payload with checksum.
func (p Packet) l4() []byte {
	if p.L4 != nil {
		return p.L4
	}
	var b []byte
	switch p.Proto {
	case datapath.ProtoTCP:
		b = make([]byte, 20)
		binary.BigEndian.PutUint32(b[4:], p.Seq)
		binary.BigEndian.PutUint32(b[8:], p.Ack)
		b[12], b[13] = 5<<4, p.Flags
		binary.BigEndian.PutUint16(b[14:], 65535)
	case datapath.ProtoUDP:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(p.Payload)))
	case datapath.ProtoSCTP:
		b = make([]byte, 12)
	case datapath.ProtoICMP, datapath.ProtoICMPv6:
		b = []byte{p.ICMPType, p.ICMPCode, 0, 0, byte(p.ICMPID >> 8), byte(p.ICMPID), byte(p.ICMPSeq >> 8), byte(p.ICMPSeq)}
	}
	if datapath.HasPorts(p.Proto) {
		binary.BigEndian.PutUint16(b, p.SPort)
		binary.BigEndian.PutUint16(b[2:], p.DPort)
	}
	b = append(b, p.Payload...)
	p.checksum(b)
	return b
}

// checksumAt is where a protocol keeps its Internet checksum; -1: it has none.
func checksumAt(proto uint8) int {
	switch proto {
	case datapath.ProtoTCP:
		return 16
	case datapath.ProtoUDP:
		return 6
	case datapath.ProtoICMP, datapath.ProtoICMPv6:
		return 2
	}
	return -1
}

func (p Packet) checksum(l4 []byte) {
	if p.Proto == datapath.ProtoSCTP {
		binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli)))
		return
	}
	at := checksumAt(p.Proto)
	if at < 0 {
		return
	}
	c := ^fold(sum(p.pseudoHeader(len(l4)), l4))
	if c == 0 && p.Proto == datapath.ProtoUDP {
		c = 0xffff // 0 would mean "no checksum"
	}
	binary.BigEndian.PutUint16(l4[at:], c)
}

// pseudoHeader is the sum of what the checksum covers besides the L4 part.
func (p Packet) pseudoHeader(length int) uint32 {
	if p.Proto == datapath.ProtoICMP {
		return 0
	}
	s := sum(0, p.Src.AsSlice())
	s = sum(s, p.Dst.AsSlice())
	return s + uint32(p.Proto) + uint32(length)
}

func sum(s uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}
