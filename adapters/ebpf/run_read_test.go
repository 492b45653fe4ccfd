package ebpf

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestSourceMustBeThePods(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		for _, src := range []family{{a: x.b}, {a: x.free}, {a: x.host}, {a: x.remote}, {a: x.world}} {
			e := r.fromA(t, udpFrame(src.a, x.world, 4000, 53)).dropped(t, datapath.ReasonInvalidSource, "%s", src.a)
			require.Equal(t, datapath.Egress, e.Direction)
			require.Equal(t, src.a, e.Src.Addr())
		}
		r.noFlows(t)

		r.fromB(t, udpFrame(x.b, x.world, 4000, 53)).opened(t, tcOK, datapath.PointToStack)
		r.fromA(t, udpFrame(x.b, x.world, 4000, 53)).dropped(t, datapath.ReasonInvalidSource,
			"an entry of the true owner is no help")
		r.fromA(t, errorFrame(x.b, x.world, packet{
			src: x.world, dst: x.b, proto: datapath.ProtoUDP, l4: udp(53, 4000, 0),
		})).dropped(t, datapath.ReasonInvalidSource, "nor is an ICMP error")
		require.Equal(t, [2]uint64{1, 0}, r.flow(t).Packets)
	})
}

func TestAddressThatChangedHands(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).opened(t, tcOK, datapath.PointToStack)
		successor := r.b
		r.putPod(t, x.a, successor)
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).silent(t, tcOK, "no epoch has moved yet")
		r.fromB(t, udpFrame(x.a, x.world, 4000, 53)).silent(t, tcOK, "the new owner renews the entry")
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).dropped(t, datapath.ReasonInvalidSource)
		require.Equal(t, successor.id, r.flow(t).SrcEndpoint)
	})
}

func TestMalformedPackets(t *testing.T) {
	r := newRig(t)
	v4, v6 := families[0], families[1]
	edit := func(frame []byte, f func([]byte)) []byte {
		f(frame[ethernetLen:])
		return frame
	}
	good4 := func() []byte { return udpFrame(v4.a, v4.world, 4000, 53) }
	good6 := func() []byte { return udpFrame(v6.a, v6.world, 4000, 53) }
	short := func(x family, proto uint8, n int) []byte {
		return packet{src: x.a, dst: x.world, proto: proto, l4: make([]byte, n)}.frame()
	}
	routing := func(typ uint8) []byte { return []byte{datapath.ProtoUDP, 0, typ, 0, 0, 0, 0, 0} }
	options := func(n int, last uint8) []byte {
		var out []byte
		for i := range n {
			next := uint8(60)
			if i == n-1 {
				next = last
			}
			out = append(out, next, 0, 1, 4, 0, 0, 0, 0)
		}
		return out
	}
	withExtension := func(typ uint8, ext []byte) []byte {
		return packet{
			src: v6.a, dst: v6.world, proto: datapath.ProtoUDP, l4: udp(4000, 53, 8), extProto: typ, extension: ext,
		}.frame()
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  datapath.Reason
	}{
		{"VLAN", ethernet(0x8100, make([]byte, 60)), datapath.ReasonVLAN},
		{"VLAN of a provider", ethernet(0x88a8, make([]byte, 60)), datapath.ReasonVLAN},
		{"LLDP", ethernet(0x88cc, make([]byte, 60)), datapath.ReasonUnsupportedL3},
		{"IPv4, version 5", edit(good4(), func(b []byte) { b[0] = 0x55 }), datapath.ReasonInvalidPacket},
		{"IPv4, header of 16 bytes", edit(good4(), func(b []byte) { b[0] = 0x44 }), datapath.ReasonInvalidPacket},
		{"IPv4, shorter than its header", edit(good4(), func(b []byte) { b[3] = 10 }), datapath.ReasonInvalidPacket},
		{"IPv4, longer than the frame", edit(good4(), func(b []byte) { b[3] = 200 }), datapath.ReasonInvalidPacket},
		{"IPv4, padding is not payload", edit(good4(), func(b []byte) { b[3] = 27 }), datapath.ReasonTruncatedL4},
		{"IPv6, version 4", edit(good6(), func(b []byte) { b[0] = 0x40 }), datapath.ReasonInvalidPacket},
		{"IPv6, longer than the frame", edit(good6(), func(b []byte) { b[5] = 200 }), datapath.ReasonInvalidPacket},
		{"IPv6 that pretends to be IPv4", edit(good6(), func(b []byte) {
			a := v4.a.As16()
			copy(b[8:], a[:])
		}), datapath.ReasonInvalidSource},
		{"IPv6 towards mapped IPv4", edit(good6(), func(b []byte) {
			a := v4.b.As16()
			copy(b[24:], a[:])
		}), datapath.ReasonInvalidSource},
		{"TCP of 19 bytes", short(v4, datapath.ProtoTCP, 19), datapath.ReasonTruncatedL4},
		{"UDP of 7 bytes", short(v6, datapath.ProtoUDP, 7), datapath.ReasonTruncatedL4},
		{"SCTP of 11 bytes", short(v4, datapath.ProtoSCTP, 11), datapath.ReasonTruncatedL4},
		{"ICMP of 7 bytes", short(v4, datapath.ProtoICMP, 7), datapath.ReasonTruncatedL4},
		{"ICMPv6 of 7 bytes", short(v6, datapath.ProtoICMPv6, 7), datapath.ReasonTruncatedL4},
		{"routing header type 0", withExtension(43, routing(0)), datapath.ReasonExtensionHeader},
		{"routing header type 0 with a way to go", withExtension(43, []byte{datapath.ProtoUDP, 0, 0, 1, 0, 0, 0, 0}), datapath.ReasonExtensionHeader},
		{"nine extension headers", withExtension(60, options(9, datapath.ProtoUDP)), datapath.ReasonExtensionHeader},
		{"extension header cut off", packet{
			src: v6.a, dst: v6.world, proto: 60, l4: []byte{17, 0, 0, 0},
		}.frame(), datapath.ReasonExtensionHeader},
		{"extension header beyond the packet", withExtension(60, []byte{17, 9, 1, 4, 0, 0, 0, 0}), datapath.ReasonExtensionHeader},
		{"two fragment headers", packet{
			src: v6.a, dst: v6.world, proto: 44, more: true, l4: make([]byte, 24),
		}.frame(), datapath.ReasonExtensionHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.enter(t)
			require.Equal(t, datapath.Egress, r.fromA(t, c.frame).dropped(t, c.want).Direction)
		})
	}
	for name, frame := range map[string][]byte{
		"eight extension headers": withExtension(60, options(8, datapath.ProtoUDP)),
		"routing header type 4":   withExtension(43, routing(4)),
		"padded frame":            append(good4(), make([]byte, 40)...),
		"IPv4 options": func() []byte {
			p := packet{src: v4.a, dst: v4.world, proto: datapath.ProtoUDP, l4: append(make([]byte, 8), udp(4000, 53, 0)...)}.frame()
			p[ethernetLen] = 0x47
			return p
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			r.enter(t)
			r.fromA(t, frame).silentOrNew(t, tcOK)
			f, err := r.d.Flows()
			require.NoError(t, err)
			for _, x := range f {
				require.EqualValues(t, 53, x.Dst.Port(), "the ports were found behind the headers")
			}
		})
	}
}

func TestLinkLocalTraffic(t *testing.T) {
	r := newRig(t)
	x := families[1]
	message := func(typ, hopLimit uint8) []byte {
		return packet{src: x.a, dst: x.b, proto: datapath.ProtoICMPv6, hopLimit: hopLimit, l4: icmp(typ, 0, 0, make([]byte, 16))}.frame()
	}
	r.fromA(t, ethernet(0x0806, make([]byte, 28))).silent(t, tcOK, "ARP")
	for _, typ := range []uint8{135, 136} {
		r.fromA(t, message(typ, 255)).silent(t, tcOK, "neighbour discovery")
		r.fromA(t, message(typ, 64)).dropped(t, datapath.ReasonPolicyDenied, "routed neighbour discovery")
	}
	for _, typ := range []uint8{130, 131, 132, 133, 134, 137, 143} {
		r.fromA(t, message(typ, 255)).dropped(t, datapath.ReasonForbiddenICMPv6)
	}
	r.run(t, progToPod, r.a.ifindex, message(135, 255)).silent(t, tcOK, "the node asks the pod")
	for _, dst := range []string{"ff02::1", "224.0.0.251", "255.255.255.255", "239.1.2.3"} {
		d := addr(dst)
		src := x.a
		if d.Is4() {
			src = families[0].a
		}
		r.fromA(t, udpFrame(src, d, 5353, 5353)).dropped(t, datapath.ReasonUnknownTarget, dst)
	}
	r.noFlows(t)
}

func TestFragments(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		for _, dst := range []struct {
			name string
			pod  func(id uint32, offset uint16, more bool, l4 []byte) []byte
			port uint16
		}{
			{"UDP", func(id uint32, offset uint16, more bool, l4 []byte) []byte {
				return packet{src: x.remote, dst: x.b, proto: datapath.ProtoUDP, id: id, fragment: offset, more: more, l4: l4}.frame()
			}, 53},
		} {
			later := dst.pod(7, 4, true, make([]byte, 32))
			last := dst.pod(7, 8, false, make([]byte, 5))
			first := dst.pod(7, 0, true, udp(4000, dst.port, 24))
			e := r.fromOverlay(t, later).dropped(t, datapath.ReasonFragmentNotFound)
			require.Equal(t, datapath.Ingress, e.Direction)
			e = r.fromOverlay(t, first).opened(t, tcRedirect, datapath.PointToEndpoint)
			require.EqualValues(t, cookieRemote, e.IngressCookie)
			r.fromOverlay(t, later).silent(t, tcRedirect)
			r.fromOverlay(t, last).silent(t, tcRedirect)
			require.Equal(t, [2]uint64{3, 0}, r.flow(t).Packets)
			other := dst.pod(8, 4, false, make([]byte, 32))
			r.fromOverlay(t, other).dropped(t, datapath.ReasonFragmentNotFound, "another packet's")

			refused := dst.pod(9, 0, true, udp(4000, 54, 24))
			r.fromOverlay(t, refused).dropped(t, datapath.ReasonPolicyDenied)
			r.fromOverlay(t, dst.pod(9, 4, false, make([]byte, 32))).dropped(t, datapath.ReasonFragmentNotFound,
				"nothing is noted of a refused first fragment")
			r.fromOverlay(t, dst.pod(10, 0, true, make([]byte, 4))).dropped(t, datapath.ReasonTruncatedL4)
		}
	})
}

func TestFragmentsOfTCPAndICMP(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		piece := func(proto uint8, id uint32, offset uint16, more bool, l4 []byte) []byte {
			return packet{src: x.a, dst: x.b, proto: proto, id: id, fragment: offset, more: more, l4: l4}.frame()
		}
		r.fromA(t, piece(datapath.ProtoTCP, 1, 4, false, make([]byte, 8))).dropped(t, datapath.ReasonFragmentNotFound, "without its first")
		r.fromA(t, piece(datapath.ProtoTCP, 1, 0, true, append(tcp(4000, 80, datapath.TCPSyn), make([]byte, 12)...))).
			opened(t, tcRedirect, datapath.PointToEndpoint)
		n, err := r.d.FlushFlows()
		require.NoError(t, err)
		require.Equal(t, 1, n)
		r.fromA(t, piece(datapath.ProtoTCP, 1, 4, false, make([]byte, 8))).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.False(t, r.flow(t).SeenNonSYN, "a later fragment has no flags to miss")

		proto, typ := icmpProto(x.a), uint8(8)
		if proto == datapath.ProtoICMPv6 {
			typ = 128
		}
		e := r.fromA(t, piece(proto, 2, 0, true, icmp(typ, 0, 99, make([]byte, 24)))).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.EqualValues(t, cookieEcho, e.IngressCookie)
		r.fromA(t, piece(proto, 2, 4, false, make([]byte, 8))).silent(t, tcRedirect)
		flows, err := r.d.Flows()
		require.NoError(t, err)
		require.Len(t, flows, 2)
	})
}

func TestFragmentBehindExtensionHeaders(t *testing.T) {
	r, x := newRig(t), families[1]
	// The fragment header names destination options, which only the first fragment has.
	options := []byte{datapath.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
	first := packet{src: x.remote, dst: x.b, proto: 60, id: 5, more: true, l4: append(options, udp(4000, 53, 16)...)}
	later := packet{src: x.remote, dst: x.b, proto: 60, id: 5, fragment: 4, l4: make([]byte, 16)}
	r.fromOverlay(t, first.frame()).opened(t, tcRedirect, datapath.PointToEndpoint)
	r.fromOverlay(t, later.frame()).silent(t, tcRedirect)
	atomic := packet{src: x.remote, dst: x.b, proto: 44, l4: append([]byte{datapath.ProtoUDP, 0, 0, 0, 0, 0, 0, 9}, udp(4001, 53, 16)...)}
	r.fromOverlay(t, atomic.frame()).opened(t, tcRedirect, datapath.PointToEndpoint)
	require.Zero(t, binary.BigEndian.Uint16(atomic.l4[2:]), "an atomic fragment is a whole packet")
}
