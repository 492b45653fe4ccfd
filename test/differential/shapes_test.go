package differential_test

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// What packets look like, told by a reader of its own: neither datapath can hide that the generator has stopped
// making some of them.

// look is what a glance at a frame tells.
type look struct {
	shapes []string
	head   []byte // headers without checksums: payloads do not make two packets different
}

func (x *look) is(format string, args ...any) {
	x.shapes = append(x.shapes, fmt.Sprintf(format, args...))
}

const jumboLen = 9000

// lookAt reads an injection.
func lookAt(i *injection) look {
	var x look
	b := i.Frame
	x.head = slices.Clone(b[:min(len(b), 120)])
	if len(b) >= jumboLen {
		x.is("jumbo at %s", i.Hook)
		if i.Hook == kernel.FromOverlay && i.Remote.IsValid() {
			x.is("jumbo, encapsulated")
		}
		if i.Linear != 0 && i.Linear < len(b) {
			x.is("jumbo in pieces")
		}
		if len(b) > 60000 {
			x.is("jumbo of the largest kind")
		}
	}
	if i.onWire() && !i.tagged() {
		x.is("by wire")
	}
	if len(b) < 14 {
		return x
	}
	switch t := binary.BigEndian.Uint16(b[12:]); t {
	case packet.EtherARP:
		x.is("ARP")
	case packet.EtherVLAN, packet.EtherQinQ:
		if i.onWire() {
			x.is("VLAN, taken off")
		} else {
			x.is("VLAN")
		}
	case packet.EtherIPv4:
		x.ipv4("IPv4", b, packet.EthernetLen, false)
	case packet.EtherIPv6:
		x.ipv6("IPv6", b, packet.EthernetLen, false)
	default:
		x.is("other Ethernet type")
	}
	if p, err := packet.Read(b); err == nil && p.TTL <= 1 && i.Hook == kernel.FromNetwork && i.forThisMachine() {
		x.is("no hop left at from_network")
	}
	return x
}

// blank takes a checksum out of the head.
func (x *look) blank(at int) {
	for n := at; n < min(at+2, len(x.head)); n++ {
		x.head[n] = 0
	}
}

func (x *look) ipv4(name string, b []byte, at int, quoted bool) {
	if len(b) < at+20 || b[at]>>4 != 4 || b[at]&15 < 5 {
		x.is("%s malformed", name)
		return
	}
	x.blank(at + 10)
	head, end := at+int(b[at]&15)*4, at+int(binary.BigEndian.Uint16(b[at+2:]))
	switch {
	case end < head:
		x.is("%s malformed", name)
		return
	case end > len(b) && !quoted, head > len(b):
		x.is("%s cut off", name)
		return
	case end < len(b):
		x.is("%s padded", name)
	}
	if head > at+20 {
		x.is("%s options", name)
	}
	word := binary.BigEndian.Uint16(b[at+6:])
	x.l4(name, b, head, min(end, len(b)), b[at+9], word&0x1fff != 0, word&0x3fff == 0x2000, quoted)
}

func (x *look) ipv6(name string, b []byte, at int, quoted bool) {
	if len(b) < at+40 || b[at]>>4 != 6 {
		x.is("%s malformed", name)
		return
	}
	end := at + 40 + int(binary.BigEndian.Uint16(b[at+4:]))
	switch {
	case end > len(b) && !quoted:
		x.is("%s cut off", name)
		return
	case end < len(b):
		x.is("%s padded", name)
	}
	end = min(end, len(b))
	for _, a := range [][]byte{b[at+8 : at+24], b[at+24 : at+40]} {
		if netip.AddrFrom16([16]byte(a)).Is4In6() {
			x.is("%s mapped address", name)
			return
		}
	}
	names := map[uint8]string{
		packet.ExtHopByHop: "hop-by-hop", packet.ExtRouting: "routing", packet.ExtFragment: "fragment header",
		packet.ExtAH: "AH", packet.ExtDestOptions: "destination options",
	}
	next, off := b[at+6], at+40
	first := false
	for n := 0; ; n++ {
		header, ok := names[next]
		if !ok {
			break
		}
		if n == 8 {
			x.is("%s nine headers", name)
			return
		}
		if off+8 > end {
			x.is("%s header cut off", name)
			return
		}
		size := (int(b[off+1]) + 1) * 8
		switch next {
		case packet.ExtRouting:
			if b[off+2] == 0 {
				header += " type 0"
			}
		case packet.ExtAH:
			size = (int(b[off+1]) + 2) * 4
		case packet.ExtFragment:
			size = 8
			word := binary.BigEndian.Uint16(b[off+2:])
			switch {
			case word&^7 != 0:
				x.l4(name, b, off+8, end, b[off], true, false, quoted)
				return
			case word&1 != 0:
				first = true
			default:
				header = "atomic fragment"
			}
		}
		x.is("%s %s", name, header)
		next, off = b[off], off+size
		if off > end {
			x.is("%s header cut off", name)
			return
		}
	}
	x.l4(name, b, off, end, next, false, first, quoted)
}

func (x *look) l4(name string, b []byte, at, end int, proto uint8, later, first, quoted bool) {
	protos := map[uint8]struct {
		name           string
		need, checksum int
	}{
		datapath.ProtoTCP: {"TCP", 20, 16}, datapath.ProtoUDP: {"UDP", 8, 6}, datapath.ProtoSCTP: {"SCTP", 12, 8},
		datapath.ProtoICMP: {"ICMP", 8, 2}, datapath.ProtoICMPv6: {"ICMPv6", 8, 2}, packet.ESP: {"ESP", 0, 0}, packet.NoNext: {"no next header", 0, 0},
	}
	p, known := protos[proto]
	if !known {
		p.name = "other protocol"
	}
	if later {
		x.is("%s later fragment", name)
		x.cut(at)
		return
	}
	if first {
		x.is("%s first fragment of %s", name, p.name)
	}
	need := p.need
	if quoted {
		need = min(need, 8)
	}
	if end-at < need {
		x.is("%s %s truncated", name, p.name)
		return
	}
	if p.checksum != 0 {
		x.blank(at + p.checksum)
	}
	if proto == datapath.ProtoSCTP {
		x.blank(at + p.checksum + 2)
	}
	if !quoted {
		x.cut(at + p.need)
	}
	icmp := proto == datapath.ProtoICMP || proto == datapath.ProtoICMPv6
	if !icmp || quoted {
		x.is("%s %s", name, p.name)
		return
	}
	typ, v6 := b[at], proto == datapath.ProtoICMPv6
	switch {
	case slices.Contains([]uint8{3, 4, 5, 11, 12}, typ) && !v6 || typ >= 1 && typ <= 4 && v6:
		x.is("%s %s error", name, p.name)
		if first {
			return
		}
		x.head = slices.Clone(b[:min(len(b), at+8+68)])
		x.blank(at + 2)
		about := fmt.Sprintf("%s error about", name)
		if v6 {
			x.ipv6(about, b[:end], at+8, true)
		} else {
			x.ipv4(about, b[:end], at+8, true)
		}
	case typ == 8 && !v6 || typ == 128 && v6:
		x.is("%s %s echo request", name, p.name)
	case typ == 0 && !v6 || typ == 129 && v6:
		x.is("%s %s echo reply", name, p.name)
	case (typ == 135 || typ == 136) && v6:
		x.is("%s neighbour message", name)
	default:
		x.is("%s %s other", name, p.name)
	}
}

// cut ends the head.
func (x *look) cut(at int) { x.head = x.head[:min(at, len(x.head))] }

var seed = maphash.MakeSeed()

// print is the same for two packets that differ in nothing that a program could look at: length and headers, but neither
// payload nor checksums, and where and how they enter.
func (x *look) print(i *injection) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	fmt.Fprint(&h, i.Hook, i.Slot, len(i.Frame), min(i.Linear, 60), i.Wire)
	if i.Hook == kernel.FromOverlay {
		fmt.Fprint(&h, i.VNI, i.Remote)
	}
	_, _ = h.Write(x.head)
	return h.Sum64()
}

// starved names the classes that fewer packets reached than asked for.
func starved(counts, least map[string]int) (out []string) {
	for _, what := range slices.Sorted(maps.Keys(least)) {
		if n := counts[what]; n < least[what] {
			out = append(out, fmt.Sprintf("%s: %d, at least %d", what, n, least[what]))
		}
	}
	return out
}

func TestStarvedClassesAreNamed(t *testing.T) {
	require.Equal(t, []string{"b: 1, at least 2", "c: 0, at least 1"}, starved(map[string]int{"a": 5, "b": 1}, map[string]int{"a": 5, "b": 2, "c": 1}))
}

func TestPrintsTellPacketsApart(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.1.0.1:1000"), netip.MustParseAddrPort("10.1.0.2:80")
	of := func(p packet.Packet, hook kernel.Hook, slot int) uint64 {
		i := &injection{Hook: hook, Slot: slot, Frame: p.Bytes()}
		x := lookAt(i)
		return x.print(i)
	}
	one := of(packet.UDP(from, to, "one"), kernel.FromPod, 0)
	require.Equal(t, one, of(packet.UDP(from, to, "two"), kernel.FromPod, 0), "only the payload differs")
	for name, other := range map[string]uint64{
		"length":    of(packet.UDP(from, to, "three"), kernel.FromPod, 0),
		"hook":      of(packet.UDP(from, to, "one"), kernel.ToPod, 0),
		"interface": of(packet.UDP(from, to, "one"), kernel.FromPod, 1),
		"addresses": of(packet.UDP(to, from, "one"), kernel.FromPod, 0),
		"TTL":       of(packet.UDP(from, to, "one").With(func(p *packet.Packet) { p.TTL = 3 }), kernel.FromPod, 0),
	} {
		require.NotEqual(t, one, other, name)
	}
	shapes := lookAt(&injection{Frame: packet.ICMPError(from.Addr(), to.Addr(), 3, 3, packet.TCP(to, from, datapath.TCPSyn).Bytes(), 8).Bytes()}).shapes
	require.Equal(t, []string{"IPv4 ICMP error", "IPv4 error about padded", "IPv4 error about TCP"}[:1], shapes[:1])
	require.Contains(t, shapes, "IPv4 error about TCP")
}
