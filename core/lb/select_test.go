package lb

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPickSpreadsEvenly(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n, slots = 100_000, 10
	var seen [slots + 1]float64
	for range n {
		slot, ok := Pick(slots, r)
		assert.True(t, ok)
		seen[slot]++
	}
	assert.Zero(t, seen[0], "slots count from 1")
	chi := 0.0
	for _, k := range seen[1:] {
		chi += (k - n/slots) * (k - n/slots) / (n / slots)
	}
	assert.Less(t, chi, 27.9, "chi square with 9 degrees of freedom exceeds this once in 1,000 tables")
	_, ok := Pick(0, r)
	assert.False(t, ok)
}

func TestTaking(t *testing.T) {
	active, gone, none := pod("10.0.0.1"), podIn("10.0.0.2", Terminating, 1), podIn("10.0.0.3", Active, 0)
	assert.Equal(t, []Backend{active}, Taking([]Backend{gone, none, active}))
	assert.Equal(t, []Backend{gone}, Taking([]Backend{gone, none}))
	assert.Empty(t, Taking([]Backend{none}))
	assert.Empty(t, Taking(nil))
}

// affinityTest calls Select with a fixed answer for new choices.
type affinityTest struct {
	*Affinity[netip.Addr]
	start  time.Time
	serves map[uint32]bool
}

func (a affinityTest) at(after time.Duration, client string, next uint32) uint32 {
	b, _ := a.Select(1, addr(client), time.Minute, a.start.Add(after),
		func(b uint32) bool { return a.serves[b] },
		func() (uint32, bool) { return next, next != 0 })
	return b
}

func TestAffinity(t *testing.T) {
	a := affinityTest{NewAffinity[netip.Addr](), time.Unix(1_700_000_000, 0), map[uint32]bool{5: true, 6: true}}
	assert.Equal(t, uint32(5), a.at(0, "10.0.0.1", 5))
	assert.Equal(t, uint32(6), a.at(0, "10.0.0.2", 6), "another client chooses for itself")
	assert.Equal(t, uint32(5), a.at(50*time.Second, "10.0.0.1", 6))
	assert.Equal(t, uint32(5), a.at(109*time.Second, "10.0.0.1", 6), "each use renews the time")
	assert.Equal(t, uint32(6), a.at(169*time.Second, "10.0.0.1", 6), "a minute away is too long")

	a.serves[6] = false
	assert.Equal(t, uint32(5), a.at(170*time.Second, "10.0.0.1", 5), "its backend is gone")
	a.serves[5] = false
	assert.Zero(t, a.at(171*time.Second, "10.0.0.1", 0), "nobody serves")
	a.serves[5] = true
	assert.Equal(t, uint32(6), a.at(172*time.Second, "10.0.0.1", 6), "a refused connection leaves no trace")
}

func TestAffinityIsPerServiceAndOptional(t *testing.T) {
	a := NewAffinity[uint64]()
	now := time.Unix(0, 0)
	yes := func(uint32) bool { return true }
	pick := func(b uint32) func() (uint32, bool) { return func() (uint32, bool) { return b, true } }
	a.Select(1, 7, time.Minute, now, yes, pick(10))
	b, _ := a.Select(2, 7, time.Minute, now, yes, pick(20))
	assert.Equal(t, uint32(20), b)
	b, _ = a.Select(1, 7, 0, now, yes, pick(30))
	assert.Equal(t, uint32(30), b, "no affinity: the row is not used")
	b, _ = a.Select(1, 7, time.Minute, now, yes, pick(40))
	assert.Equal(t, uint32(10), b, "nor written")

	assert.Equal(t, 2, a.Len())
	timeout := func(service uint32) time.Duration {
		return map[uint32]time.Duration{1: time.Minute, 2: time.Hour}[service]
	}
	assert.Equal(t, 0, a.Collect(now.Add(59*time.Second), timeout))
	assert.Equal(t, 1, a.Collect(now.Add(time.Minute), timeout))
	assert.Equal(t, 1, a.Len())
}
