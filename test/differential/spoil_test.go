package differential_test

import (
	"bytes"
	"encoding/binary"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/packet"
)

// spoil breaks a frame.
func (g *gen) spoil(i *injection, p packet.Packet) {
	b := i.Frame
	switch g.IntN(10) {
	case 0, 1: // cut off
		i.Frame, i.Note = b[:minFrame+g.IntN(len(b)-packet.EthernetLen)], "cut off"
	case 2: // cut off, with lengths that fit
		i.Frame, i.Note = shorten(b, minFrame+g.IntN(len(b)-packet.EthernetLen)), "shortened"
	case 3, 4:
		at := packet.EthernetLen + g.IntN(min(len(b)-packet.EthernetLen, 80))
		b[at] ^= 1 << g.IntN(8)
		i.Note = "a bit flipped"
	case 5:
		at := packet.EthernetLen + g.IntN(min(len(b)-packet.EthernetLen, 80))
		b[at] = oneOf[byte](g, 0, 1, 0x3b, 0x7f, 0x80, 0xff)
		i.Note = "a byte changed"
	case 6:
		tag := []byte{0x81, 0, 0, 5}
		if g.chance(50) {
			tag[0], tag[1] = 0x88, 0xa8
		}
		i.Frame, i.Note = append(append(append([]byte{}, b[:12]...), tag...), b[12:]...), "VLAN"
		i.Wire = g.chance(40)
	case 7:
		binary.BigEndian.PutUint16(b[12:], oneOf[uint16](g, 0x0800, 0x86dd, 0x88cc, 0x8847, 0x0600, 0x05ff, 0x0004, 0, 0x9100, 0x0806))
		i.Note = "another Ethernet type"
	case 8: // lengths
		if p.Src.Is4() {
			binary.BigEndian.PutUint16(b[16:], uint16(int(binary.BigEndian.Uint16(b[16:]))+g.IntN(61)-30))
		} else {
			binary.BigEndian.PutUint16(b[18:], uint16(int(binary.BigEndian.Uint16(b[18:]))+g.IntN(61)-30))
		}
		i.Note = "another length"
	case 9: // an IPv4 address inside IPv6
		if p.Src.Is6() {
			at := oneOf(g, 22, 38)
			copy(b[at:], oneOf(g, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x01\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x01"))
			i.Note = "IPv4-mapped"
		}
	}
}

// shorten cuts a frame and makes the IP header say so.
func shorten(b []byte, n int) []byte {
	b = bytes.Clone(b[:min(n, len(b))])
	switch {
	case len(b) >= 18 && b[12] == 8 && b[13] == 0:
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-packet.EthernetLen))
	case len(b) >= 54 && b[12] == 0x86:
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-packet.EthernetLen-packet.IPv6Len))
	}
	return b
}

// nonsense is what is no packet of a conversation at all.
func (g *gen) nonsense() {
	from, to := g.any(0), g.any(0)
	i := injection{Hook: g.hook(), Slot: g.IntN(slots), Note: "nonsense", Remote: nodeA, VNI: 2001}
	switch g.IntN(3) {
	case 0:
		i.Frame = packet.ARP(datapath.MAC{2, 0xcc, 1}, from.addr, to.addr)
		i.Note = "ARP"
	case 1:
		i.Frame = make([]byte, minFrame+g.IntN(100))
		for n := range i.Frame {
			i.Frame[n] = byte(g.Uint32())
		}
		if g.chance(80) {
			copy(i.Frame[12:], oneOf(g, "\x08\x00", "\x86\xdd", "\x08\x06"))
		}
	case 2:
		p := packet.Packet{Src: from.addr, Dst: to.addr, Proto: uint8(g.IntN(256)), L4: make([]byte, g.IntN(40))}
		g.decorate(&p)
		i.Frame = g.ethernet(p)
	}
	g.send(i)
}
