package ebpf

import (
	"encoding/json"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// nothing answers no question of a flow builder.
type nothing struct{}

func (nothing) Address(netip.Addr) (i flow.AddressInfo, ok bool)         { return i, false }
func (nothing) Identity(identity.ID) ([]string, bool)                    { return nil, false }
func (nothing) Frontend(netip.AddrPort, uint8) (s flow.Service, ok bool) { return s, false }
func (nothing) Rule(datapath.Cookie) (v policy.Verdict, ok bool)         { return v, false }
func sample(r rawEvent) []byte                                           { return append([]byte(nil), bytesOf(&r)...) }
func bytesOf(r *rawEvent) []byte                                         { return unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)) }

// Whatever bytes a ring holds: too few are refused with their number, the others give an event that holds each
// field of the record, and that can be shown as a flow.
func FuzzEvent(f *testing.F) {
	full := rawEvent{
		Type: 1, Reason: 133, Point: 5, Direction: 1, Family: 4, Proto: 6, TCPFlags: 2, Ifindex: 7, Length: 74,
		Src: newAddr(netip.MustParseAddr("10.0.0.1")), Dst: newAddr(netip.MustParseAddr("10.0.0.2")), SrcPort: 40000, DstPort: 80,
		SrcIdentity: 300, DstIdentity: 1 << 24, SrcEndpoint: 1, DstEndpoint: 65535, EgressCookie: 1 << 31, EgressJudged: 1,
		TimestampNs: 1 << 62, Packets: [2]uint64{1, 2}, Bytes: [2]uint64{3, 4},
	}
	f.Add(sample(full))
	f.Add(sample(full)[1:])
	f.Add([]byte{})
	full.Type, full.Family, full.Reply, full.IngressJudged = 3, 6, 2, 255
	full.Src, full.Dst = newAddr(netip.MustParseAddr("fd00::1")), rawAddr{}
	f.Add(append(sample(full), 0, 0, 0))
	full.Type, full.Family, full.Proto, full.IcmpType = 200, 0, 58, 129
	f.Add(sample(full))
	builder := flow.NewBuilder("n1", 1, nothing{})
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := readEvent(b)
		if err != nil {
			require.Less(t, len(b), int(unsafe.Sizeof(rawEvent{})))
			require.ErrorContains(t, err, "too short")
			return
		}
		require.Equal(t, b[:unsafe.Sizeof(raw)], bytesOf(&raw))
		e := newEvent(&raw)
		back := rawEvent{
			TimestampNs: e.Timestamp, Packets: e.Packets, Bytes: e.Bytes, Ifindex: e.Ifindex, Length: e.Length,
			SrcIdentity: uint32(e.SrcIdentity), DstIdentity: uint32(e.DstIdentity),
			EgressCookie: uint32(e.EgressCookie), IngressCookie: uint32(e.IngressCookie),
			SrcEndpoint: uint16(e.SrcEndpoint), DstEndpoint: uint16(e.DstEndpoint),
			Type: uint8(e.Type), Reason: uint8(e.Reason), Point: uint8(e.Point), Direction: uint8(e.Direction),
			Proto: e.Proto, TCPFlags: e.TCPFlags, IcmpType: e.ICMPType, IcmpCode: e.ICMPCode,
			Reply: raw.Reply, EgressJudged: raw.EgressJudged, IngressJudged: raw.IngressJudged, Family: raw.Family, Pad: raw.Pad,
			Src: raw.Src, Dst: raw.Dst, SrcPort: raw.SrcPort, DstPort: raw.DstPort,
		}
		if raw.Family != 0 {
			back.Src, back.Dst, back.SrcPort, back.DstPort = newAddr(e.Src.Addr()), newAddr(e.Dst.Addr()), e.Src.Port(), e.Dst.Port()
		} else {
			require.False(t, e.Src.IsValid() || e.Dst.IsValid())
		}
		require.Equal(t, raw, back)
		require.Equal(t, [3]bool{raw.Reply != 0, raw.EgressJudged != 0, raw.IngressJudged != 0}, [3]bool{e.Reply, e.EgressJudged, e.IngressJudged})

		line, err := json.Marshal(flow.Entry{Flow: builder.Build(e)})
		require.NoError(t, err)
		require.True(t, json.Valid(line))
	})
}
