package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// ErrMalformed is wrapped by every error of Read.
var ErrMalformed = errors.New("malformed packet")

// Read takes a frame apart the way a host would: it insists on lengths and checksums. Fragments come
// back with L4 set and nothing read from it. Payload and L4 share the frame's memory.
func Read(frame []byte) (Packet, error) {
	var p Packet
	if len(frame) < EthernetLen {
		return p, fmt.Errorf("%w: %d bytes are no Ethernet frame", ErrMalformed, len(frame))
	}
	copy(p.DstMAC[:], frame)
	copy(p.SrcMAC[:], frame[6:])
	b := frame[12:]
	for len(b) >= 4 {
		t := binary.BigEndian.Uint16(b)
		if t != EtherVLAN && t != EtherQinQ {
			break
		}
		p.VLANs = append(p.VLANs, binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
	}
	if len(b) < 2 {
		return p, fmt.Errorf("%w: VLAN tag without a type", ErrMalformed)
	}
	p.EtherType = binary.BigEndian.Uint16(b)
	b = b[2:]
	var l4 []byte
	var err error
	switch p.EtherType {
	case EtherIPv4:
		l4, err = p.readIPv4(b)
	case EtherIPv6:
		l4, err = p.readIPv6(b)
	default:
		return p, fmt.Errorf("%w: Ethernet type %#04x is neither IPv4 nor IPv6", ErrMalformed, p.EtherType)
	}
	if err != nil {
		return p, err
	}
	if p.Frag != nil && (p.Frag.Offset != 0 || p.Frag.More) {
		p.L4 = l4
		return p, nil
	}
	p.Frag = nil
	return p, p.readL4(l4)
}

func (p *Packet) readIPv4(b []byte) ([]byte, error) {
	if len(b) < IPv4Len || b[0]>>4 != 4 {
		return nil, fmt.Errorf("%w: no IPv4 header", ErrMalformed)
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < IPv4Len || total < head || total > len(b) {
		return nil, fmt.Errorf("%w: IPv4 header of %d bytes, total %d, frame has %d", ErrMalformed, head, total, len(b))
	}
	if fold(sum(0, b[:head])) != 0xffff {
		return nil, fmt.Errorf("%w: IPv4 header checksum", ErrMalformed)
	}
	p.Padding = len(b) - total
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.TTL, p.Proto = b[8], b[9]
	if head > IPv4Len {
		p.Options = b[IPv4Len:head]
	}
	word := binary.BigEndian.Uint16(b[6:])
	p.Frag = &Frag{ID: uint32(binary.BigEndian.Uint16(b[4:])), Offset: int(word&0x1fff) * 8, More: word&0x2000 != 0}
	return b[head:total], nil
}

func (p *Packet) readIPv6(b []byte) ([]byte, error) {
	if len(b) < IPv6Len || b[0]>>4 != 6 {
		return nil, fmt.Errorf("%w: no IPv6 header", ErrMalformed)
	}
	end := IPv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if end > len(b) {
		return nil, fmt.Errorf("%w: IPv6 payload ends at %d, frame has %d", ErrMalformed, end, len(b))
	}
	p.Padding = len(b) - end
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.TTL = b[7]
	next, at := b[6], IPv6Len
	for {
		size := 8
		switch next {
		case ExtHopByHop, ExtRouting, ExtDestOptions, ExtAH, ExtFragment:
			if at+8 > end {
				return nil, fmt.Errorf("%w: IPv6 extension header %d at %d is cut off", ErrMalformed, next, at)
			}
		default:
			p.Proto = next
			return b[at:end], nil
		}
		switch next {
		case ExtFragment:
			word := binary.BigEndian.Uint16(b[at+2:])
			p.Frag = &Frag{ID: binary.BigEndian.Uint32(b[at+4:]), Offset: int(word &^ 7), More: word&1 != 0}
		case ExtAH:
			size = (int(b[at+1]) + 2) * 4
		default:
			size = (int(b[at+1]) + 1) * 8
		}
		if at+size > end {
			return nil, fmt.Errorf("%w: IPv6 extension header %d at %d is cut off", ErrMalformed, next, at)
		}
		if next != ExtFragment {
			p.Ext = append(p.Ext, Ext{Proto: next, Body: b[at+2 : at+size]})
		} else if p.Frag.Offset != 0 {
			p.Proto = b[at]
			return b[at+size : end], nil
		}
		next, at = b[at], at+size
	}
}

func (p *Packet) readL4(b []byte) error {
	size := map[uint8]int{datapath.ProtoTCP: 20, datapath.ProtoUDP: 8, datapath.ProtoSCTP: 12, datapath.ProtoICMP: 8, datapath.ProtoICMPv6: 8}[p.Proto]
	if len(b) < size {
		return fmt.Errorf("%w: %s header in %d bytes", ErrMalformed, datapath.ProtoName(p.Proto), len(b))
	}
	if p.Proto == datapath.ProtoTCP {
		if size = int(b[12]>>4) * 4; size < 20 || size > len(b) {
			return fmt.Errorf("%w: TCP data offset %d", ErrMalformed, size)
		}
		p.Seq, p.Ack, p.Flags = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
	}
	if datapath.HasPorts(p.Proto) {
		p.SPort, p.DPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	if p.Proto == datapath.ProtoICMP || p.Proto == datapath.ProtoICMPv6 {
		p.ICMPType, p.ICMPCode = b[0], b[1]
		p.ICMPID, p.ICMPSeq = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	}
	if at := checksumAt(p.Proto); at >= 0 && fold(sum(p.pseudoHeader(len(b)), b)) != 0xffff {
		return fmt.Errorf("%w: %s checksum", ErrMalformed, datapath.ProtoName(p.Proto))
	}
	p.Payload = b[size:]
	return nil
}

// String describes a frame in one line: addresses, ports, flags or message, length of the payload.
func (p Packet) String() string {
	head := datapath.ProtoName(p.Proto)
	switch {
	case p.Frag != nil:
		return fmt.Sprintf("%s %s > %s fragment %d at %d", head, p.Src, p.Dst, p.Frag.ID, p.Frag.Offset)
	case p.Proto == datapath.ProtoTCP:
		head += " " + FlagNames(p.Flags)
	case p.Proto == datapath.ProtoICMP, p.Proto == datapath.ProtoICMPv6:
		return fmt.Sprintf("%s %d/%d %s > %s", head, p.ICMPType, p.ICMPCode, p.Src, p.Dst)
	}
	if !datapath.HasPorts(p.Proto) {
		return fmt.Sprintf("%s %s > %s", head, p.Src, p.Dst)
	}
	return fmt.Sprintf("%s %s > %s", head, netip.AddrPortFrom(p.Src, p.SPort), netip.AddrPortFrom(p.Dst, p.DPort))
}

// FlagNames writes TCP flags as letters in the order of the wire's bits, "-" for none.
func FlagNames(flags uint8) string {
	s := ""
	for i, c := range "FSRPAUEC" {
		if flags&(1<<i) != 0 {
			s += string(c)
		}
	}
	if s == "" {
		return "-"
	}
	return s
}
