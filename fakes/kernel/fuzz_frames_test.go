package kernel_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// FuzzFrames lets arbitrary frames through all hooks one after the other, at any interface and with any
// tunnel key, into a world that has flows. What passes is intact as far as an independent reader can tell; what
// is dropped has a reason and one event; every event is well-formed; every packet is counted once.
func FuzzFrames(f *testing.F) {
	web := families["IPv4"]
	f.Add(web.Bytes(), uint8(0), uint32(ifWeb), uint32(0), []byte(nil), uint16(0))
	f.Add(families["IPv6"].Bytes(), uint8(0), uint32(ifWeb), uint32(0), []byte(nil), uint16(10))
	f.Add(packet.UDP(at(job4, 1), at(web4, 2), "x").Bytes(), uint8(2), uint32(overlay), uint32(idJob), node2v4.AsSlice(), uint16(0))
	f.Add(packet.UDP(at(job6, 1), at(web6, 2), "x").Bytes(), uint8(2), uint32(overlay), uint32(1), node2v6.AsSlice(), uint16(100))
	f.Add(packet.ICMPError(node1v4, web4, 3, 4, web.Bytes(), 8).Bytes(), uint8(1), uint32(ifWeb), uint32(0), []byte(nil), uint16(1))
	f.Add(packet.Echo(node1v4, job4, 7, false).Bytes(), uint8(3), uint32(5), uint32(0), []byte(nil), uint16(0))
	f.Add(packet.SCTP(at(web6, 1), at(db6, 2)).With(func(p *packet.Packet) {
		p.Ext = []packet.Ext{packet.HopByHop(1), packet.AH()}
	}).Bytes(), uint8(0), uint32(ifWeb), uint32(0), []byte(nil), uint16(0))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x06"), uint8(0), uint32(ifWeb), uint32(0), []byte(nil), uint16(0))
	f.Fuzz(func(t *testing.T, frame []byte, hook uint8, ifindex, vni uint32, remote []byte, later uint16) {
		w := newWorld(t)
		w.fromWeb().send(packet.TCP(at(web4, 40000), at(db4, 80), syn))
		w.fromWeb().send(packet.UDP(at(web6, 40000), at(job6, 53), "?"))
		meta := kernel.Meta{VNI: vni}
		meta.Remote, _ = netip.AddrFromSlice(remote)
		w.clock.Advance(time.Duration(later) * time.Second)
		before := w.packets()
		for i := range uint8(4) {
			h := kernel.Hook((hook + i) % 4)
			res := w.one.Inject(h, ifindex, frame, meta)
			w.requireSound(h, ifindex, frame, res)
			before++
			require.Equal(t, before, w.packets(), "counted once")
		}
	})
}

// packets counts those that a kernel has seen.
func (w *world) packets() (n uint64) {
	w.t.Helper()
	counters, err := w.one.Counters()
	w.ok(err)
	for _, c := range counters {
		n += c.Packets
	}
	return n
}

var (
	points = []datapath.Point{datapath.PointToStack, datapath.PointToOverlay, datapath.PointFromEndpoint,
		datapath.PointFromStack, datapath.PointFromOverlay, datapath.PointToEndpoint}
	reasons = []datapath.Reason{datapath.ReasonInvalidSource, datapath.ReasonPolicyDenied, datapath.ReasonInvalidPacket,
		datapath.ReasonTruncatedL4, datapath.ReasonUnsupportedL3, datapath.ReasonTunnelKey, datapath.ReasonUnknownTarget,
		datapath.ReasonFlowInsert, datapath.ReasonExtensionHeader, datapath.ReasonNoTunnelEndpoint, datapath.ReasonUnknownSender,
		datapath.ReasonFragmentNotFound, datapath.ReasonForbiddenICMPv6, datapath.ReasonPolicyDeny, datapath.ReasonVLAN, datapath.ReasonNotReady}
)

func (w *world) requireSound(h kernel.Hook, ifindex uint32, frame []byte, res kernel.Result) {
	t := w.t
	t.Helper()
	drops := 0
	for _, e := range res.Events {
		require.Contains(t, points, e.Point)
		require.Equal(t, ifindex, e.Ifindex)
		require.Equal(t, uint32(len(frame)), e.Length)
		require.Equal(t, e.Src.Addr().IsValid(), e.Dst.Addr().IsValid())
		require.Equal(t, e.Src.Addr().Is4(), e.Dst.Addr().Is4())
		require.False(t, e.Src.Addr().Is4In6(), "IPv4 is shown as IPv4")
		require.LessOrEqual(t, e.Direction, datapath.Egress)
		require.True(t, datapath.HasPorts(e.Proto) || e.Src.Port() == 0 && e.Dst.Port() == 0, "ports of a protocol without")
		require.True(t, e.EgressJudged || e.EgressCookie == 0, "a cookie of a policy that nobody asked")
		require.True(t, e.IngressJudged || e.IngressCookie == 0, "a cookie of a policy that nobody asked")
		switch e.Type {
		case datapath.EventDrop:
			drops++
			require.Contains(t, reasons, e.Reason)
			require.Equal(t, res.Reason, e.Reason)
		case datapath.EventNew, datapath.EventClose:
			require.Zero(t, e.Reason)
			require.True(t, e.EgressJudged || e.IngressJudged, "a flow that nobody judged")
			require.True(t, e.Src.IsValid())
		default:
			t.Fatalf("event of type %d", e.Type)
		}
	}
	if res.Action == kernel.Drop {
		require.Equal(t, 1, drops)
		require.Len(t, res.Events, 1)
		require.Nil(t, res.Frame)
		return
	}
	require.Zero(t, drops)
	require.Zero(t, res.Reason)
	require.Empty(t, faults(frame), "%s at %s", res, h)
	require.True(t, h != kernel.FromHost || len(res.Events) == 0, "the node's own packets are no flows")
}

// faults reads a frame for itself and says what no program should have let through.
func faults(frame []byte) string {
	if len(frame) < 14 {
		return "no Ethernet header"
	}
	b := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case packet.EtherARP:
		return ""
	case packet.EtherIPv4:
		if len(b) < 20 || b[0]>>4 != 4 {
			return "no IPv4 header"
		}
		head, total := int(b[0]&15)*4, int(b[2])<<8|int(b[3])
		switch {
		case head < 20 || total < head || total > len(b):
			return "IPv4 lengths"
		case (int(b[6])<<8|int(b[7]))&0x1fff == 0 && total-head < shortest(b[9]):
			return "L4 header cut off"
		}
	case packet.EtherIPv6:
		if len(b) < 40 || b[0]>>4 != 6 {
			return "no IPv6 header"
		}
		payload := int(b[4])<<8 | int(b[5])
		mapped := append(make([]byte, 10), 0xff, 0xff)
		switch {
		case 40+payload > len(b):
			return "IPv6 length"
		case slices.Equal(b[8:20], mapped) || slices.Equal(b[24:36], mapped):
			return "IPv4-mapped address on the wire"
		case payload < shortest(b[6]):
			return "L4 header cut off"
		}
	default:
		return "Ethernet type"
	}
	return ""
}

func shortest(proto uint8) int {
	switch proto {
	case datapath.ProtoTCP:
		return 20
	case datapath.ProtoSCTP:
		return 12
	case datapath.ProtoUDP, datapath.ProtoICMP, datapath.ProtoICMPv6:
		return 8
	}
	return 0
}
