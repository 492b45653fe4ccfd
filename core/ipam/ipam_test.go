package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/ipam"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, addr(s))
	}
	return out
}

func mustNew(t require.TestingT, prefixes []netip.Prefix, reserved ...netip.Addr) *ipam.Allocator {
	a, err := ipam.New(prefixes, reserved...)
	require.NoError(t, err)
	return a
}

func ExampleAllocator() {
	a, _ := ipam.New([]netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:10:244:1::/64")})
	got, _ := a.Acquire("shop/cart", nil)
	again, _ := a.Acquire("shop/cart", nil)
	fmt.Println(a.Routers(), got, slices.Equal(got, again))
	// Output: [10.244.1.1 fd00:10:244:1::1] [10.244.1.2 fd00:10:244:1::2] true
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		prefixes   []netip.Prefix
	}{
		{"invalid", "valid prefix", []netip.Prefix{{}}},
		{"host bits", "10.0.0.0/24", []netip.Prefix{netip.PrefixFrom(addr("10.0.0.1"), 24)}},
		{"small IPv4", "/30 or shorter", []netip.Prefix{prefix("10.0.0.0/31")}},
		{"small IPv6", "/126 or shorter", []netip.Prefix{prefix("fd00::/127")}},
		{"overlap", "overlaps 10.0.0.0/16", []netip.Prefix{prefix("10.0.0.0/16"), prefix("10.0.1.0/24")}},
		{"mapped", "unmapped", []netip.Prefix{prefix("::ffff:10.0.0.0/120")}},
	} {
		_, err := ipam.New(c.prefixes)
		assert.ErrorContains(t, err, c.want, c.name)
	}
}

func TestAcquireGivesEveryAddressOnceAndThenSaysFull(t *testing.T) {
	a := mustNew(t, []netip.Prefix{prefix("10.0.0.0/29")}, addr("10.0.0.4"), addr("192.0.2.1"))
	var got []netip.Addr
	for i := range 4 {
		as, err := a.Acquire(fmt.Sprint(i), nil)
		require.NoError(t, err)
		got = append(got, as...)
	}
	assert.Equal(t, addrs("10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"), got)
	_, err := a.Acquire("one more", nil)
	assert.ErrorIs(t, err, ipam.ErrFull)
	assert.ErrorContains(t, err, "10.0.0.0/29 has 4 of 4 in use")
	assert.Equal(t, []ipam.PoolStatus{{Prefix: prefix("10.0.0.0/29"), Router: addr("10.0.0.1"), Used: 4, Capacity: 4}}, a.Pools())
}

func TestFreedAddressesComeLastAndInOrder(t *testing.T) {
	a := mustNew(t, []netip.Prefix{prefix("10.0.0.0/29")})
	for _, o := range []string{"a", "b", "c"} {
		_, err := a.Acquire(o, nil)
		require.NoError(t, err)
	}
	a.Release("b")
	a.Release("a")
	a.Release("nobody")
	var got []netip.Addr
	for i := range 4 {
		as, err := a.Acquire(fmt.Sprint(i), nil)
		require.NoError(t, err)
		got = append(got, as...)
	}
	assert.Equal(t, addrs("10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2"), got)
}

func TestWantedAddresses(t *testing.T) {
	a := mustNew(t, []netip.Prefix{prefix("fd00::/64"), prefix("10.0.0.0/24")}, addr("10.0.0.9"))
	got, err := a.Acquire("x", addrs("fd00::77"))
	require.NoError(t, err)
	assert.Equal(t, addrs("10.0.0.2", "fd00::77"), got, "the other family is chosen freely, IPv4 first")

	got, err = a.Acquire("x", addrs("fd00::77"))
	require.NoError(t, err)
	assert.Equal(t, addrs("10.0.0.2", "fd00::77"), got)
	_, err = a.Acquire("x", addrs("fd00::78"))
	assert.ErrorIs(t, err, ipam.ErrMismatch)

	for want, text := range map[string]string{
		"fd00::77":   "by x",
		"10.0.0.1":   "the router",
		"10.0.0.0":   "the network address",
		"10.0.0.255": "the broadcast address",
		"10.0.0.9":   "a reserved address",
	} {
		_, err = a.Acquire("y", addrs(want))
		assert.ErrorIs(t, err, ipam.ErrInUse, want)
		assert.ErrorContains(t, err, text)
	}
	_, err = a.Acquire("y", addrs("10.1.0.1"))
	assert.ErrorIs(t, err, ipam.ErrOutside)
	assert.ErrorContains(t, err, "10.0.0.0/24, fd00::/64")
	_, err = a.Acquire("y", addrs("10.0.0.5", "10.0.0.6"))
	assert.ErrorContains(t, err, "at most one")
	_, err = a.Acquire("y", []netip.Addr{{}})
	assert.Error(t, err)
	assert.Nil(t, a.Addresses("y"), "a failed call changes nothing")
	assert.Equal(t, addrs("10.0.0.2", "fd00::77"), a.Allocated())
}

func TestRestore(t *testing.T) {
	a := mustNew(t, []netip.Prefix{prefix("10.0.0.0/24")})
	require.NoError(t, a.Restore("x", addrs("10.0.0.2")))
	require.NoError(t, a.Restore("x", addrs("10.0.0.2")))
	assert.ErrorIs(t, a.Restore("x", addrs("10.0.0.3")), ipam.ErrMismatch)
	assert.ErrorIs(t, a.Restore("y", addrs("10.0.0.2")), ipam.ErrInUse)
	assert.ErrorIs(t, a.Restore("y", addrs("10.9.0.2")), ipam.ErrOutside)
	assert.Error(t, a.Restore("y", nil))
	got, err := a.Acquire("y", nil)
	require.NoError(t, err)
	assert.Equal(t, addrs("10.0.0.3"), got)
	owner, ok := a.Owner(addr("10.0.0.2"))
	assert.True(t, ok)
	assert.Equal(t, "x", owner)
	gw, ok := a.Gateway(addr("10.0.0.77"))
	assert.True(t, ok)
	assert.Equal(t, addr("10.0.0.1"), gw)
	_, ok = a.Gateway(addr("10.0.1.77"))
	assert.False(t, ok)
}

func TestNoPool(t *testing.T) {
	a := mustNew(t, nil)
	_, err := a.Acquire("x", nil)
	assert.ErrorIs(t, err, ipam.ErrFull)
}

func TestSecondPrefixOfAFamilyIsUsedWhenTheFirstIsFull(t *testing.T) {
	a := mustNew(t, []netip.Prefix{prefix("10.0.0.0/30"), prefix("10.0.1.0/30")})
	for i, want := range []string{"10.0.0.2", "10.0.1.2"} {
		got, err := a.Acquire(fmt.Sprint(i), nil)
		require.NoError(t, err)
		assert.Equal(t, addrs(want), got)
	}
	a.Release("0")
	a.Release("1")
	_, err := a.Acquire("x", nil)
	require.NoError(t, err)
	_, err = a.Acquire("y", nil)
	require.NoError(t, err)
	_, err = a.Acquire("z", nil)
	assert.ErrorContains(t, err, "10.0.0.0/30 has 1 of 1 in use, 10.0.1.0/30 has 1 of 1 in use")
}

// TestAllocatorAgainstModel plays random calls and compares with a list of free addresses kept in
// the order in which they must be given out.
func TestAllocatorAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefixes := []netip.Prefix{prefix("10.0.0.0/28"), prefix("fd00::/125")}
		reserved := addrs("10.0.0.7", "fd00::3")
		a, twin := mustNew(t, prefixes, reserved...), mustNew(t, prefixes, reserved...)

		free := [2][]netip.Addr{}
		for i, p := range prefixes {
			for x := p.Addr().Next().Next(); p.Contains(x); x = x.Next() {
				if !slices.Contains(reserved, x) && x != addr("10.0.0.15") {
					free[i] = append(free[i], x)
				}
			}
		}
		all := slices.Concat(free[0], free[1], reserved, addrs("10.0.0.1", "192.0.2.1", "fd00::1"))
		owned := map[string][]netip.Addr{}
		remove := func(x netip.Addr) bool {
			for i := range free {
				if j := slices.Index(free[i], x); j >= 0 {
					free[i] = slices.Delete(free[i], j, j+1)
					return true
				}
			}
			return false
		}

		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			owner := fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "owner"))
			switch rapid.SampledFrom([]string{"acquire", "want", "restore", "release"}).Draw(t, "call") {
			case "acquire":
				got, err := a.Acquire(owner, nil)
				gotTwin, _ := twin.Acquire(owner, nil)
				assert.Equal(t, got, gotTwin)
				switch {
				case owned[owner] != nil:
					// A restored owner keeps what it has, be it of one family.
					assert.NoError(t, err)
					assert.Equal(t, owned[owner], got)
				case len(free[0]) == 0 || len(free[1]) == 0:
					assert.ErrorIs(t, err, ipam.ErrFull)
				default:
					assert.NoError(t, err)
					want := []netip.Addr{free[0][0], free[1][0]}
					assert.Equal(t, want, got)
					owned[owner] = want
					remove(want[0])
					remove(want[1])
				}
			case "want":
				w := rapid.SampledFrom(all).Draw(t, "wanted")
				got, err := a.Acquire(owner, []netip.Addr{w})
				twin.Acquire(owner, []netip.Addr{w})
				if owned[owner] != nil {
					assert.Equal(t, slices.Contains(owned[owner], w), err == nil)
					break
				}
				fam := 1
				if w.Is4() {
					fam = 0
				}
				if !slices.Contains(free[fam], w) || len(free[1-fam]) == 0 {
					assert.Error(t, err)
					break
				}
				if assert.NoError(t, err) {
					assert.Equal(t, w, got[fam])
					assert.Equal(t, free[1-fam][0], got[1-fam])
					owned[owner] = got
					remove(got[0])
					remove(got[1])
				}
			case "restore":
				w := []netip.Addr{rapid.SampledFrom(all).Draw(t, "restored")}
				err := a.Restore(owner, w)
				twin.Restore(owner, w)
				if owned[owner] != nil {
					assert.Equal(t, slices.Equal(owned[owner], w), err == nil)
				} else if assert.Equal(t, remove(w[0]), err == nil, "%v: %v", w, err) && err == nil {
					owned[owner] = w
				}
			case "release":
				assert.Equal(t, owned[owner], a.Release(owner))
				twin.Release(owner)
				for _, x := range owned[owner] {
					if x.Is4() {
						free[0] = append(free[0], x)
					} else {
						free[1] = append(free[1], x)
					}
				}
				delete(owned, owner)
			}
			n := 0
			for o, as := range owned {
				n += len(as)
				assert.Equal(t, as, a.Addresses(o))
			}
			assert.Len(t, a.Allocated(), n)
		}
	})
}
