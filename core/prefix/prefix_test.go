package prefix_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/prefix"
)

func parse(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestAggregate(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"10.0.0.0/25", "10.0.0.128/25"}, []string{"10.0.0.0/24"}},
		{[]string{"10.0.1.0/24", "10.0.2.0/24"}, []string{"10.0.1.0/24", "10.0.2.0/24"}},
		{[]string{"fd00::/64", "10.0.0.5/8", "10.1.0.0/16"}, []string{"10.0.0.0/8", "fd00::/64"}},
		{[]string{"0.0.0.0/0", "255.255.255.255/32"}, []string{"0.0.0.0/0"}},
		{[]string{"::/1", "8000::/1"}, []string{"::/0"}},
		{[]string{"255.255.255.255/32", "::/128"}, []string{"255.255.255.255/32", "::/128"}},
	} {
		assert.Equal(t, parse(c.want...), prefix.Aggregate(parse(c.in...)), c.in)
	}
	assert.Empty(t, prefix.Aggregate([]netip.Prefix{{}}))
	assert.Empty(t, prefix.Range{First: netip.MustParseAddr("2.2.2.2"), Last: netip.MustParseAddr("1.1.1.1")}.Prefixes())
}

// An address is in the aggregate exactly if it is in one of the prefixes, and nothing can be joined.
func TestAggregateHoldsTheSameAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			a := [4]byte{10, 0, byte(rapid.IntRange(0, 1).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))}
			return netip.AddrFrom4(a)
		})
		ps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			return netip.PrefixFrom(addr.Draw(t, "a"), rapid.IntRange(22, 32).Draw(t, "bits"))
		}), 0, 12).Draw(t, "prefixes")
		got := prefix.Aggregate(ps)
		holds := func(ps []netip.Prefix, a netip.Addr) bool {
			for _, p := range ps {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
		for c := range 4 {
			for d := range 256 {
				a := netip.AddrFrom4([4]byte{10, 0, byte(c), byte(d)})
				require.Equal(t, holds(ps, a), holds(got, a), a)
			}
		}
		for i := 1; i < len(got); i++ {
			a, b := got[i-1], got[i]
			require.False(t, a.Overlaps(b))
			wider := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			require.False(t, a.Bits() == b.Bits() && wider.Contains(b.Addr()), "%s and %s are %s", a, b, wider)
		}
	})
}
