package ipam

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUseCountsWhatTheNodesHave(t *testing.T) {
	pfx := netip.MustParsePrefix
	p, err := NewClusterPool(ClusterRange{[]netip.Prefix{pfx("10.0.0.0/22"), pfx("10.8.0.0/23")}, 24}, ClusterRange{[]netip.Prefix{pfx("fd00::/56")}, 120}, time.Minute)
	require.NoError(t, err)
	now := time.Unix(1e9, 0)
	require.Equal(t, []FamilyUse{{"IPv4", 0, 6}, {"IPv6", 0, 1 << 64}}, p.Use())
	for _, n := range []string{"a", "b"} {
		_, err := p.Allocate(n, now, now)
		require.NoError(t, err)
	}
	// Neither of these is a part of the pool.
	p.Claim("c", now, []netip.Prefix{pfx("192.0.2.0/24"), pfx("10.0.3.0/25")}, now)
	use := p.Use()
	require.Equal(t, []int{2, 2}, []int{use[0].Taken, use[1].Taken})
	p.Release("a", now)
	require.Equal(t, 1, p.Use()[0].Taken)
	one, err := NewClusterPool(ClusterRange{}, ClusterRange{[]netip.Prefix{pfx("fd00::/104")}, 120}, 0)
	require.NoError(t, err)
	require.Equal(t, []FamilyUse{{"IPv6", 0, 65536}}, one.Use())
}
