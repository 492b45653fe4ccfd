package packet_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/fakes/packet"
)

// What a host accepts it would send again, and accept again as the same.
func FuzzRead(f *testing.F) {
	for _, p := range []packet.Packet{
		packet.TCP(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 0x12),
		packet.UDP(netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2"), "hello"),
		packet.SCTP(netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2")).With(func(p *packet.Packet) { p.Ext = []packet.Ext{packet.HopByHop(1), packet.AH()} }),
		packet.Echo(netip.MustParseAddrPort("10.0.0.1:1").Addr(), netip.MustParseAddrPort("10.0.0.2:1").Addr(), 7, false).With(func(p *packet.Packet) { p.VLANs = []uint16{5}; p.Padding = 3 }),
	} {
		f.Add(p.Bytes())
		f.Add(p.Bytes()[:20])
	}
	f.Add(packet.UDP(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), "a longer text for fragments").Fragments(2, 16)[1].Bytes())
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := packet.Read(frame)
		if err != nil {
			require.True(t, errors.Is(err, packet.ErrMalformed), "%v", err)
			return
		}
		again, err := packet.Read(p.Bytes())
		require.NoError(t, err)
		require.Equal(t, p.Src, again.Src)
		require.Equal(t, p.Dst, again.Dst)
		require.Equal(t, p.Proto, again.Proto)
		require.Equal(t, []uint16{p.SPort, p.DPort}, []uint16{again.SPort, again.DPort})
		require.Equal(t, p.Payload, again.Payload)
		require.Equal(t, p.Bytes(), again.Bytes())
	})
}
