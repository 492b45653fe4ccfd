package kernel_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// families are a connection of each family from web to db.
var families = map[string]packet.Packet{
	"IPv4": packet.TCP(at(web4, 1000), at(db4, 80), syn),
	"IPv6": packet.TCP(at(web6, 1000), at(db6, 80), syn),
}

// l3 is where the IP header starts, l4v4 and l4v6 the L4 header of a packet without options.
const (
	l3   = packet.EthernetLen
	l4v4 = l3 + packet.IPv4Len
	l4v6 = l3 + packet.IPv6Len
)

func TestLinkLayer(t *testing.T) {
	w := newWorld(t)
	for name, p := range families {
		t.Run(name, func(t *testing.T) {
			w.fromWeb().refuses(t, p.With(func(p *packet.Packet) { p.VLANs = []uint16{7} }), datapath.ReasonVLAN)
			stripped := w.one.Inject(kernel.FromPod, ifWeb, p.Bytes(), kernel.Meta{VLAN: true})
			refused(t, stripped, datapath.ReasonVLAN)
			w.fromWeb().refuses(t, p.With(func(p *packet.Packet) { p.EtherType = 0x8847 }), datapath.ReasonUnsupportedL3)
			w.fromWeb().refuses(t, p.With(func(p *packet.Packet) { p.EtherType = packet.EtherQinQ }), datapath.ReasonVLAN)
		})
	}
	arp := packet.ARP(podMAC(epWeb), web4, router1)
	for _, d := range []door{w.fromWeb(), w.toWeb(), w.host(), w.tunnelled(idJob)} {
		res := w.one.Inject(d.hook, d.ifindex, arp, d.meta)
		require.Equal(t, kernel.Pass, res.Action, "ARP at %s", d.hook)
		require.Equal(t, arp, res.Frame)
		require.Empty(t, res.Events)
	}
	tagged := w.one.Inject(kernel.FromPod, ifWeb, arp, kernel.Meta{VLAN: true})
	refused(t, tagged, datapath.ReasonVLAN)
	refused(t, w.one.Inject(kernel.FromPod, ifWeb, arp[:13], kernel.Meta{}), datapath.ReasonInvalidPacket)
	w.noFlows(w.one)
}

func TestIPv4Header(t *testing.T) {
	w := newWorld(t)
	good := families["IPv4"]
	for name, spoil := range map[string]func(b []byte) []byte{
		"version":                  func(b []byte) []byte { b[l3] = 6<<4 | 5; return b },
		"header length":            func(b []byte) []byte { b[l3] = 4<<4 | 4; return b },
		"total below header":       func(b []byte) []byte { binary.BigEndian.PutUint16(b[l3+2:], 19); return b },
		"total beyond packet":      func(b []byte) []byte { binary.BigEndian.PutUint16(b[l3+2:], 41); return b },
		"cut inside header":        func(b []byte) []byte { return b[:l3+19] },
		"options beyond the total": func(b []byte) []byte { b[l3] = 4<<4 | 15; return b },
	} {
		t.Run(name, func(t *testing.T) {
			res := w.one.Inject(kernel.FromPod, ifWeb, spoil(good.Bytes()), kernel.Meta{})
			e := refused(t, res, datapath.ReasonInvalidPacket)
			require.False(t, e.Src.Addr().IsValid(), "no address is believed")
		})
	}
	t.Run("options are skipped", func(t *testing.T) {
		p := good.With(func(p *packet.Packet) { p.Options = make([]byte, 40); p.SPort = 1001 })
		w.fromWeb().passes(t, p, kernel.RedirectPeer)
		require.Equal(t, at(db4, 80), w.flow(w.one).Dst)
	})
}

func TestIPv6Header(t *testing.T) {
	w := newWorld(t)
	good := families["IPv6"]
	for name, spoil := range map[string]func(b []byte) []byte{
		"version":               func(b []byte) []byte { b[l3] = 4 << 4; return b },
		"payload beyond packet": func(b []byte) []byte { binary.BigEndian.PutUint16(b[l3+4:], 21); return b },
		"cut inside header":     func(b []byte) []byte { return b[:l3+39] },
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.one.Inject(kernel.FromPod, ifWeb, spoil(good.Bytes()), kernel.Meta{}), datapath.ReasonInvalidPacket)
		})
	}
	for name, change := range map[string]func(*packet.Packet){
		"source":      func(p *packet.Packet) { p.Src = netip.AddrFrom16(web4.As16()) },
		"destination": func(p *packet.Packet) { p.Dst = netip.AddrFrom16(db4.As16()) },
		"before extension headers": func(p *packet.Packet) {
			p.Dst = netip.AddrFrom16(db4.As16())
			p.Ext = []packet.Ext{packet.Routing(0, 0)}
		},
	} {
		t.Run("mapped "+name, func(t *testing.T) {
			e := w.fromWeb().refuses(t, good.With(change), datapath.ReasonInvalidSource)
			require.True(t, e.Src.Addr().IsValid())
		})
	}
}

func TestExtensionHeaders(t *testing.T) {
	w := newWorld(t)
	many := func(n int) (out []packet.Ext) {
		for range n {
			out = append(out, packet.DestOptions(1))
		}
		return out
	}
	for i, c := range []struct {
		name  string
		ext   []packet.Ext
		spoil func(b []byte) []byte
		drop  datapath.Reason
	}{
		{name: "all kinds", ext: []packet.Ext{packet.HopByHop(2), packet.DestOptions(3), packet.Routing(4, 0), packet.FragmentHeader(packet.Frag{ID: 1}), packet.AH()}},
		{name: "eight", ext: many(8)},
		{name: "nine", ext: many(9), drop: datapath.ReasonExtensionHeader},
		{name: "routing type 0", ext: []packet.Ext{packet.Routing(0, 0)}, drop: datapath.ReasonExtensionHeader},
		{name: "routing type 2", ext: []packet.Ext{packet.Routing(2, 1)}},
		{name: "longer than the payload", ext: many(1), spoil: func(b []byte) []byte { b[l4v6+1] = 3; return b }, drop: datapath.ReasonExtensionHeader},
		{name: "AH longer than the payload", ext: []packet.Ext{packet.AH()}, spoil: func(b []byte) []byte { b[l4v6+1] = 200; return b }, drop: datapath.ReasonExtensionHeader},
		{name: "cut off by the payload length", ext: many(1), spoil: func(b []byte) []byte { b[l3+5] = 7; return b }, drop: datapath.ReasonExtensionHeader},
		{name: "two atomic fragment headers", ext: []packet.Ext{packet.FragmentHeader(packet.Frag{ID: 1}), packet.FragmentHeader(packet.Frag{ID: 2})}},
		{name: "fragment header of a fragment", ext: []packet.Ext{packet.FragmentHeader(packet.Frag{ID: 1, More: true}), packet.FragmentHeader(packet.Frag{ID: 2})}, drop: datapath.ReasonExtensionHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			sport := uint16(2000 + i)
			frame := packet.TCP(at(web6, sport), at(db6, 80), syn).With(func(p *packet.Packet) { p.Ext = c.ext }).Bytes()
			if c.spoil != nil {
				frame = c.spoil(frame)
			}
			res := w.one.Inject(kernel.FromPod, ifWeb, frame, kernel.Meta{})
			if c.drop != 0 {
				refused(t, res, c.drop)
				return
			}
			require.Equal(t, kernel.RedirectPeer, res.Action, "%s", res)
			require.Equal(t, at(web6, sport), res.Events[0].Src, "the ports behind the headers were found")
		})
	}
}

func TestProtocolsThatEndTheWalk(t *testing.T) {
	w := newWorld(t)
	for _, proto := range []uint8{packet.ESP, packet.NoNext, 47} {
		p := packet.Packet{Src: web6, Dst: db6, Proto: proto, Payload: []byte("anything"), Ext: []packet.Ext{packet.HopByHop(1)}}
		res := w.fromWeb().passes(t, p, kernel.RedirectPeer)
		require.Equal(t, proto, res.Events[0].Proto)
		require.Zero(t, res.Events[0].Src.Port())
	}
	res := w.fromWeb().passes(t, packet.Packet{Src: web4, Dst: db4, Proto: 47}, kernel.RedirectPeer)
	require.Equal(t, at(db4, 0), res.Events[0].Dst, "ports are 0, no payload is needed")
}

func TestL4Length(t *testing.T) {
	w := newWorld(t)
	for proto, need := range map[uint8]int{
		datapath.ProtoTCP: 20, datapath.ProtoUDP: 8, datapath.ProtoSCTP: 12, datapath.ProtoICMP: 8, datapath.ProtoICMPv6: 8,
	} {
		src, dst := web4, db4
		if proto == datapath.ProtoICMPv6 {
			src, dst = web6, db6
		}
		body := make([]byte, need)
		body[0] = 200 // port or message type, nothing special
		p := packet.Packet{Src: src, Dst: dst, Proto: proto, L4: body}
		t.Run(datapath.ProtoName(proto), func(t *testing.T) {
			w.fromWeb().passes(t, p, kernel.RedirectPeer)
			short := p.With(func(p *packet.Packet) { p.L4, p.Padding = body[:need-1], 30 })
			e := w.fromWeb().refuses(t, short, datapath.ReasonTruncatedL4)
			require.Equal(t, at(dst, 0), e.Dst)
			require.Equal(t, proto, e.Proto)
		})
	}
}

func TestFlowKeysOfICMP(t *testing.T) {
	w := newWorld(t)
	res := w.fromWeb().passes(t, packet.Echo(web4, db4, 77, false), kernel.RedirectPeer)
	require.Equal(t, []datapath.EventType{datapath.EventNew}, eventTypes(res))
	require.Equal(t, at(web4, 0), res.Events[0].Src, "events show no ports")
	require.Equal(t, uint8(8), res.Events[0].ICMPType)
	f := w.flow(w.one)
	require.Equal(t, at(web4, 77), f.Src)
	require.Equal(t, at(db4, 0), f.Dst)

	res = w.fromDB().passes(t, packet.Echo(db4, web4, 77, true), kernel.RedirectPeer)
	require.Empty(t, res.Events, "the reply belongs to the request")
	require.Equal(t, [2]uint64{1, 1}, w.flow(w.one).Packets)

	w.fromWeb().passes(t, packet.Echo(web6, db6, 77, false), kernel.RedirectPeer)
	require.Empty(t, w.fromDB().passes(t, packet.Echo(db6, web6, 77, true), kernel.RedirectPeer).Events)
	w.fromWeb().passes(t, packet.ICMP(web4, db4, 13, 2), kernel.RedirectPeer)
	flows, err := w.one.Flows()
	w.ok(err)
	require.Equal(t, at(web4, 13<<8|2), flows[0].Src)
	require.Equal(t, at(db4, 13<<8|2), flows[0].Dst)
}
