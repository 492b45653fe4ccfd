package datapath_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func tuple(src, dst string, proto uint8) datapath.Tuple {
	return datapath.Tuple{Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst), Proto: proto}
}

func TestTuples(t *testing.T) {
	a := tuple("198.51.100.7:4000", "192.0.2.1:30080", datapath.ProtoTCP)
	require.Equal(t, tuple("192.0.2.1:30080", "198.51.100.7:4000", datapath.ProtoTCP), a.Reverse())
	require.Equal(t, "TCP 198.51.100.7:4000 > 192.0.2.1:30080", a.String())
}

// The hash is part of the contract with the programs: every number in it counts, and it spreads clients evenly.
func TestTupleHash(t *testing.T) {
	base := tuple("198.51.100.7:4000", "192.0.2.1:30080", datapath.ProtoTCP)
	seen := map[uint32]datapath.Tuple{}
	for _, x := range []datapath.Tuple{
		base, base.Reverse(), tuple("198.51.100.8:4000", "192.0.2.1:30080", datapath.ProtoTCP),
		tuple("198.51.100.7:4001", "192.0.2.1:30080", datapath.ProtoTCP), tuple("198.51.100.7:4000", "192.0.2.2:30080", datapath.ProtoTCP),
		tuple("198.51.100.7:4000", "192.0.2.1:30081", datapath.ProtoTCP), tuple("198.51.100.7:4000", "192.0.2.1:30080", datapath.ProtoUDP),
		tuple("[2001:db8::7]:4000", "[2001:db8::1]:30080", datapath.ProtoTCP), tuple("[2001:db8:1::7]:4000", "[2001:db8::1]:30080", datapath.ProtoTCP),
	} {
		other, dup := seen[x.Hash()]
		require.False(t, dup, "%s and %s", x, other)
		seen[x.Hash()] = x
	}
	for slots := uint32(2); slots < 8; slots++ {
		counts := make([]int, slots)
		const tries = 7000
		for port := range uint16(tries) {
			x := base
			x.Src = netip.AddrPortFrom(x.Src.Addr(), 1024+port)
			counts[x.Hash()%slots]++
		}
		for slot, n := range counts {
			require.InDelta(t, tries/int(slots), n, tries/float64(slots)/4, "slot %d of %d", slot, slots)
		}
	}
}

func TestNATLifetimes(t *testing.T) {
	for _, c := range []struct {
		state   datapath.NATState
		proto   uint8
		seconds int
	}{
		{datapath.NATNew, datapath.ProtoTCP, 60}, {datapath.NATNew, datapath.ProtoUDP, 60},
		{datapath.NATAnswered, datapath.ProtoTCP, 8000}, {datapath.NATAnswered, datapath.ProtoUDP, 120}, {datapath.NATAnswered, datapath.ProtoSCTP, 120},
		{datapath.NATClosing, datapath.ProtoTCP, 120},
	} {
		require.Equal(t, time.Duration(c.seconds)*time.Second, datapath.NATLifetime(c.state, c.proto))
	}
}
