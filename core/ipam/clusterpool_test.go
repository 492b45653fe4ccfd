package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/ipam"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clusterRange(mask int, cidrs ...string) ipam.ClusterRange {
	r := ipam.ClusterRange{MaskSize: mask}
	for _, c := range cidrs {
		r.CIDRs = append(r.CIDRs, netip.MustParsePrefix(c))
	}
	return r
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func newClusterPool(t *testing.T, v4, v6 ipam.ClusterRange, rest time.Duration) *ipam.ClusterPool {
	t.Helper()
	p, err := ipam.NewClusterPool(v4, v6, rest)
	require.NoError(t, err)
	return p
}

func TestClusterPoolGivesEveryFamily(t *testing.T) {
	p := newClusterPool(t, clusterRange(24, "10.0.0.0/8"), clusterRange(120, "fd00::/104"), 0)
	got, err := p.Allocate("a", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.0.0/24", "fd00::/120"), got)
	again, err := p.Allocate("a", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, got, again)
	got, err = p.Allocate("b", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.1.0/24", "fd00::100/120"), got)
	require.Equal(t, 2, p.Owners())
}

// A family that is switched on later comes to what the node has; one that is full takes nothing of the other.
func TestClusterPoolAddsAFamily(t *testing.T) {
	p := newClusterPool(t, clusterRange(24, "10.0.0.0/23"), clusterRange(127-1, "fd00::/126"), 0)
	p.Claim("a", epoch, prefixes("10.0.0.0/24"), epoch)
	got, err := p.Allocate("a", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.0.0/24", "fd00::/126"), got)
	_, err = p.Allocate("b", epoch, epoch)
	require.ErrorIs(t, err, ipam.ErrNoPrefix)
	require.ErrorContains(t, err, "IPv6 fd00::/126: every /126 is in use")
	require.Empty(t, p.Prefixes("b"), "all or nothing")
	require.Equal(t, 1, p.Owners())
}

func TestClusterPoolUsesEveryCIDR(t *testing.T) {
	p := newClusterPool(t, clusterRange(25, "10.0.0.0/24", "10.9.0.0/25", "10.4.0.0/25"), ipam.ClusterRange{}, 0)
	for i, want := range []string{"10.0.0.0/25", "10.0.0.128/25", "10.9.0.0/25", "10.4.0.0/25"} {
		got, err := p.Allocate(fmt.Sprint(i), epoch, epoch)
		require.NoError(t, err)
		require.Equal(t, prefixes(want), got)
	}
	_, err := p.Allocate("5", epoch, epoch)
	require.ErrorIs(t, err, ipam.ErrNoPrefix)
}

func TestClusterPoolReleasedPrefixRests(t *testing.T) {
	p := newClusterPool(t, clusterRange(25, "10.0.0.0/24"), ipam.ClusterRange{}, time.Minute)
	_, _ = p.Allocate("a", epoch, epoch)
	_, _ = p.Allocate("b", epoch, epoch)
	require.Equal(t, prefixes("10.0.0.0/25"), p.Release("a", epoch))
	require.Empty(t, p.Release("a", epoch))
	_, err := p.Allocate("c", epoch, epoch.Add(59*time.Second))
	require.ErrorIs(t, err, ipam.ErrNoPrefix)
	require.ErrorContains(t, err, "in use or rests after use")
	got, err := p.Allocate("c", epoch, epoch.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.0.0/25"), got)
}

// While there are others, a prefix that was given back is not given out again.
func TestClusterPoolReusesLate(t *testing.T) {
	p := newClusterPool(t, clusterRange(24, "10.0.0.0/22"), ipam.ClusterRange{}, 0)
	for i, want := range []string{"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.0.0.0/24"} {
		got, err := p.Allocate(fmt.Sprint(i), epoch, epoch)
		require.NoError(t, err)
		require.Equal(t, prefixes(want), got)
		p.Release(fmt.Sprint(i), epoch)
	}
}

func TestClusterPoolOlderKeepsIt(t *testing.T) {
	later := epoch.Add(time.Hour)
	for _, c := range []struct {
		name          string
		first, second string
		sinceFirst    time.Time
		sinceSecond   time.Time
		keeps         string
	}{
		{"older came first", "a", "b", epoch, later, "a"},
		{"older came later", "a", "b", later, epoch, "b"},
		{"equally old", "b", "a", epoch, epoch, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newClusterPool(t, clusterRange(24, "10.0.0.0/8"), ipam.ClusterRange{}, 0)
			shared := prefixes("10.0.7.0/24")
			denied, evicted := p.Claim(c.first, c.sinceFirst, shared, epoch)
			require.Empty(t, denied)
			require.Empty(t, evicted)
			denied, evicted = p.Claim(c.second, c.sinceSecond, shared, epoch)
			if c.keeps == c.first {
				require.Equal(t, shared, denied)
				require.Empty(t, evicted)
			} else {
				require.Empty(t, denied)
				require.Equal(t, []string{c.first}, evicted)
			}
			require.Equal(t, shared, p.Prefixes(c.keeps))
			for _, owner := range []string{"a", "b"} {
				got, err := p.Allocate(owner, epoch, epoch)
				require.NoError(t, err)
				require.Equal(t, owner == c.keeps, got[0] == shared[0])
			}
		})
	}
}

// What nodes have from another configuration stays, and nothing is given out that overlaps it.
func TestClusterPoolStepsOverForeignSizes(t *testing.T) {
	p := newClusterPool(t, clusterRange(24, "10.0.0.0/21"), ipam.ClusterRange{}, 0)
	p.Claim("wide", epoch, prefixes("10.0.0.0/22", "192.168.0.0/24"), epoch)
	p.Claim("narrow", epoch, prefixes("10.0.5.64/26"), epoch)
	require.Equal(t, prefixes("10.0.0.0/22", "192.168.0.0/24"), p.Prefixes("wide"))
	for _, want := range []string{"10.0.4.0/24", "10.0.6.0/24", "10.0.7.0/24"} {
		got, err := p.Allocate(want, epoch, epoch)
		require.NoError(t, err)
		require.Equal(t, prefixes(want), got)
	}
	_, err := p.Allocate("one more", epoch, epoch)
	require.ErrorIs(t, err, ipam.ErrNoPrefix)
	p.Release("wide", epoch)
	got, err := p.Allocate("one more", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, prefixes("10.0.0.0/24"), got)

	p = newClusterPool(t, clusterRange(24, "10.0.0.0/23"), ipam.ClusterRange{}, 0)
	p.Claim("all of it", epoch, prefixes("10.0.0.0/8"), epoch)
	_, err = p.Allocate("a", epoch, epoch)
	require.ErrorIs(t, err, ipam.ErrNoPrefix)
}

func TestClusterPoolClaimReplaces(t *testing.T) {
	p := newClusterPool(t, clusterRange(24, "10.0.0.0/23"), clusterRange(120, "fd00::/112"), time.Minute)
	_, err := p.Allocate("a", epoch, epoch)
	require.NoError(t, err)
	p.Claim("a", epoch, prefixes("10.0.1.0/24"), epoch)
	require.Equal(t, prefixes("10.0.1.0/24", "fd00::/120"), p.Prefixes("a"), "the other family stays")
	p.Claim("a", epoch, nil, epoch)
	require.Equal(t, prefixes("10.0.1.0/24", "fd00::/120"), p.Prefixes("a"))
	_, err = p.Allocate("b", epoch, epoch)
	require.ErrorContains(t, err, "rests")
}

func TestClusterPoolRefusesBadRanges(t *testing.T) {
	none := ipam.ClusterRange{}
	for _, c := range []struct {
		v4, v6 ipam.ClusterRange
		says   string
	}{
		{none, none, "no CIDRs"},
		{clusterRange(24, "fd00::/64"), none, "IPv4: CIDR [0] fd00::/64: not of this family"},
		{none, clusterRange(64, "10.0.0.0/8"), "IPv6: CIDR [0] 10.0.0.0/8: not of this family"},
		{clusterRange(24, "10.0.0.1/8"), none, "has host bits, must be 10.0.0.0/8"},
		{clusterRange(24, "10.0.0.0/8", "10.1.0.0/16"), none, "CIDR [1] 10.1.0.0/16: overlaps 10.0.0.0/8"},
		{clusterRange(7, "10.0.0.0/8"), none, "mask size 7: shorter than CIDR [0] 10.0.0.0/8; want 8 to 30"},
		{clusterRange(31, "10.0.0.0/8"), none, "mask size 31: too small"},
		{none, clusterRange(127, "fd00::/64"), "mask size 127: too small"},
	} {
		_, err := ipam.NewClusterPool(c.v4, c.v6, 0)
		require.ErrorContains(t, err, c.says)
	}
}

// A huge range is searched in as many steps as there are nodes.
func TestClusterPoolOfHugeRange(t *testing.T) {
	p := newClusterPool(t, ipam.ClusterRange{}, clusterRange(126, "fd00::/8"), 0)
	p.Claim("half", epoch, prefixes("fd00::/9"), epoch)
	got, err := p.Allocate("a", epoch, epoch)
	require.NoError(t, err)
	require.Equal(t, prefixes("fd80::/126"), got)
}

// Whatever is claimed, given out, given back and lost to restarts: no two nodes' prefixes overlap, what
// was given back rests, the oldest claimant of a prefix keeps it, and "full" is said only if it is true.
func TestClusterPoolNeverOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v4 := clusterRange(29, "10.0.0.0/27", "10.0.1.0/28", "10.0.0.64/28")
		v6 := clusterRange(126, "fd00::/124", "fd01::/125")
		families := rapid.IntRange(1, 3).Draw(t, "families")
		if families == 1 {
			v6 = ipam.ClusterRange{}
		} else if families == 2 {
			v4 = ipam.ClusterRange{}
		}
		const rest = 3 * time.Second
		open := func() *ipam.ClusterPool {
			p, err := ipam.NewClusterPool(v4, v6, rest)
			require.NoError(t, err)
			return p
		}
		p := open()
		now := epoch
		births := map[string]time.Time{}
		has := map[string][]netip.Prefix{}    // what the cluster's objects say
		freed := map[netip.Prefix]time.Time{} // since when, as far as this pool saw it
		claim := rapid.SampledFrom(append(slots(v4), slots(v6)...))
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		sync := func() {
			for owner := range births {
				has[owner] = p.Prefixes(owner)
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second)
			owner := name.Draw(t, "owner")
			switch rapid.SampledFrom([]string{"allocate", "allocate", "allocate", "claim", "release", "restart"}).Draw(t, "call") {
			case "allocate":
				if _, ok := births[owner]; !ok {
					births[owner] = now
				}
				before := p.Prefixes(owner)
				got, err := p.Allocate(owner, births[owner], now)
				if err != nil {
					require.ErrorIs(t, err, ipam.ErrNoPrefix)
					require.Equal(t, before, p.Prefixes(owner))
					missing := 0
					for _, f := range []ipam.ClusterRange{v4, v6} {
						if len(f.CIDRs) > 0 && !hasFamily(before, f.CIDRs[0].Addr()) && !anyFree(f, has, freed, now, rest) {
							missing++
						}
					}
					require.Positive(t, missing, "full although there is a free one")
					break
				}
				for _, c := range got {
					for _, b := range before {
						if b == c {
							goto known
						}
					}
					for f, since := range freed {
						require.False(t, f.Overlaps(c) && now.Sub(since) < rest, "%s given out %s after it came back", c, now.Sub(since))
					}
				known:
				}
			case "claim":
				if _, ok := births[owner]; !ok {
					births[owner] = now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Second)
				}
				c := claim.Draw(t, "prefix")
				before := p.Prefixes(owner)
				denied, evicted := p.Claim(owner, births[owner], []netip.Prefix{c}, now)
				if len(denied) > 0 {
					require.Equal(t, before, p.Prefixes(owner))
					require.Empty(t, evicted)
				} else {
					require.Contains(t, p.Prefixes(owner), c)
					for _, b := range before {
						if b != c && b.Addr().BitLen() == c.Addr().BitLen() {
							freed[b] = now
						}
					}
				}
				for _, e := range evicted {
					require.False(t, births[e].Before(births[owner]), "%s evicted %s, which is older", owner, e)
				}
				d, e := p.Claim(owner, births[owner], []netip.Prefix{c}, now)
				require.Equal(t, denied, d)
				require.Empty(t, e, "a repeated claim changes nothing")
			case "release":
				for _, c := range p.Release(owner, now) {
					freed[c] = now
				}
				delete(births, owner)
				delete(has, owner)
			case "restart":
				p = open()
				freed = map[netip.Prefix]time.Time{}
				for _, o := range rapid.Permutation(sortedNames(has)).Draw(t, "order") {
					denied, evicted := p.Claim(o, births[o], has[o], now)
					require.Empty(t, denied)
					require.Empty(t, evicted)
					require.ElementsMatch(t, has[o], p.Prefixes(o))
				}
			}
			sync()
			noOverlap(t, has)
		}
	})
}

func slots(r ipam.ClusterRange) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range r.CIDRs {
		for a := c.Addr(); c.Contains(a); {
			out = append(out, netip.PrefixFrom(a, r.MaskSize))
			for s := netip.PrefixFrom(a, r.MaskSize); s.Contains(a); {
				a = a.Next()
			}
		}
	}
	return out
}

func anyFree(f ipam.ClusterRange, has map[string][]netip.Prefix, freed map[netip.Prefix]time.Time, now time.Time, rest time.Duration) bool {
next:
	for _, s := range slots(f) {
		for _, list := range has {
			for _, c := range list {
				if c.Overlaps(s) {
					continue next
				}
			}
		}
		for c, since := range freed {
			if c.Overlaps(s) && now.Sub(since) < rest {
				continue next
			}
		}
		return true
	}
	return false
}

func hasFamily(list []netip.Prefix, a netip.Addr) bool {
	for _, c := range list {
		if c.Addr().BitLen() == a.BitLen() {
			return true
		}
	}
	return false
}

func noOverlap(t *rapid.T, has map[string][]netip.Prefix) {
	seen := map[netip.Prefix]string{}
	for owner, list := range has {
		for _, c := range list {
			for other, by := range seen {
				require.False(t, other.Overlaps(c), "%s of %s overlaps %s of %s", c, owner, other, by)
			}
			seen[c] = owner
		}
	}
}

func sortedNames(m map[string][]netip.Prefix) []string {
	var out []string
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if _, ok := m[n]; ok {
			out = append(out, n)
		}
	}
	return out
}
