package lb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func maglevBackends(n int) []MaglevBackend {
	out := make([]MaglevBackend, n)
	for i := range out {
		out[i] = MaglevBackend{Name: fmt.Sprintf("10.0.%d.%d:8080", i/256, i%256), Weight: 1}
	}
	return out
}

func mustTable(t require.TestingT, backends []MaglevBackend, size uint32) []uint32 {
	table, err := NewTable(backends, size, DefaultSeed)
	require.NoError(t, err)
	return table
}

// names resolves a table's entries, so that tables of differently ordered backends compare.
func names(backends []MaglevBackend, table []uint32) []string {
	out := make([]string, len(table))
	for i, e := range table {
		out[i] = backends[e].Name
	}
	return out
}

func shares(n int, table []uint32) []int {
	out := make([]int, n)
	for _, e := range table {
		out[e]++
	}
	return out
}

func TestTableIsTheSameForEver(t *testing.T) {
	backends := maglevBackends(100)
	h := uint64(0)
	for _, n := range names(backends, mustTable(t, backends, 65537)) {
		h = hashString(h, n)
	}
	assert.Equal(t, uint64(0x99ec1025b2a29c0), h, "nodes of different versions must agree on the table")
}

// TestTableMatchesThePaper fills a table by the paper's pseudocode, written down again here without
// any of the shortcuts, from the same permutations.
func TestTableMatchesThePaper(t *testing.T) {
	const size = 1021
	backends := maglevBackends(17)
	slices.SortFunc(backends, func(a, b MaglevBackend) int { return strings.Compare(a.Name, b.Name) })
	var permutation [17][size]uint32
	for i, b := range backends {
		offset := hashString(DefaultSeed^seedOffset, b.Name) % size
		skip := hashString(DefaultSeed^seedSkip, b.Name)%(size-1) + 1
		for j := range uint64(size) {
			permutation[i][j] = uint32((offset + j*skip) % size)
		}
	}
	var next [17]int
	entry := make([]int, size)
	for j := range entry {
		entry[j] = -1
	}
	for n := 0; n < size; {
		for i := 0; i < 17 && n < size; i++ {
			c := permutation[i][next[i]]
			for entry[c] >= 0 {
				next[i]++
				c = permutation[i][next[i]]
			}
			entry[c] = i
			next[i]++
			n++
		}
	}
	got := mustTable(t, backends, size)
	for j := range entry {
		require.Equal(t, entry[j], int(got[j]), "slot %d", j)
	}
}

func TestSizes(t *testing.T) {
	for _, size := range TableSizes() {
		for d := uint32(2); d*d <= size; d++ {
			require.NotZero(t, size%d, "%d is not prime", size)
		}
		assert.Len(t, mustTable(t, maglevBackends(3), size), int(size))
	}
	for _, size := range []uint32{0, 1, 250, 16384, 65536, 1 << 31} {
		_, err := NewTable(maglevBackends(1), size, 0)
		require.ErrorIs(t, err, ErrTableSize)
		assert.Contains(t, err.Error(), fmt.Sprint(size))
		assert.Contains(t, err.Error(), "251 509 1021 2039 4093 8191 16381 32749 65521 65537 131071")
	}
	assert.Equal(t, uint32(251), TableSize(0))
	assert.Equal(t, uint32(251), TableSize(2))
	assert.Equal(t, uint32(509), TableSize(3))
	assert.Equal(t, uint32(16381), TableSize(100))
	assert.Equal(t, uint32(131071), TableSize(1_000_000))
}

func TestTableRefuses(t *testing.T) {
	_, err := NewTable(nil, 251, 0)
	assert.ErrorIs(t, err, ErrNoBackends)
	_, err = NewTable([]MaglevBackend{{Name: "a"}}, 251, 0)
	assert.ErrorIs(t, err, ErrNoBackends)
	_, err = NewTable([]MaglevBackend{{"a", 1}, {"b", 1}, {"a", 2}}, 251, 0)
	assert.ErrorContains(t, err, `backend "a" is there twice`)
}

func TestBackendsShareTheTableEvenly(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} {
		got := shares(n, mustTable(t, maglevBackends(n), 65537))
		assert.LessOrEqual(t, slices.Max(got)-slices.Min(got), 1, "%d backends of equal weight", n)
	}
}

func TestFewOtherSlotsChangeWhenOneOfTenGoes(t *testing.T) {
	backends := maglevBackends(10)
	before := names(backends, mustTable(t, backends, 16381))
	for gone := range backends {
		left := slices.Delete(slices.Clone(backends), gone, gone+1)
		after := names(left, mustTable(t, left, 16381))
		moved, others := 0, 0
		for i := range before {
			if before[i] == backends[gone].Name {
				continue
			}
			others++
			if before[i] != after[i] {
				moved++
			}
		}
		assert.LessOrEqual(t, float64(moved)/float64(others), 0.02, "%s goes: %d of %d slots change", backends[gone].Name, moved, others)
	}
}

func TestWeightsAreProportional(t *testing.T) {
	backends := maglevBackends(5)
	for i, w := range []uint16{1, 2, 3, 4, 0} {
		backends[i].Weight = w
	}
	got := shares(5, mustTable(t, backends, 65537))
	for i, b := range backends {
		assert.InDelta(t, 65537*float64(b.Weight)/10, float64(got[i]), 4, "weight %d", b.Weight)
	}
	extreme := []MaglevBackend{{"heavy", 65535}, {"light", 1}}
	assert.Equal(t, []int{65536, 1}, shares(2, mustTable(t, extreme, 65537)))
}

func TestSeedsGiveDifferentTables(t *testing.T) {
	backends := maglevBackends(10)
	a, err := NewTable(backends, 251, 1)
	require.NoError(t, err)
	b, err := NewTable(backends, 251, 2)
	require.NoError(t, err)
	assert.NotEqual(t, a, b)
}

// A backend that is owed less than a turn when the table is full leaves its share to the others: with many
// light backends that is more than rounding.
func TestHeavyBackendAmongLightOnesGetsWhatTheyAreOwed(t *testing.T) {
	backends := []MaglevBackend{{"heavy", 5}}
	for i := range 8 {
		backends = append(backends, MaglevBackend{fmt.Sprint("light", i), 1})
	}
	got := shares(len(backends), mustTable(t, backends, 251))
	low, high := fairShare(backends, 0, 251)
	assert.Equal(t, 99, got[0], "19 for each light one, the rest for the heavy one")
	assert.LessOrEqual(t, low, got[0])
	assert.GreaterOrEqual(t, high, got[0])
}

// fairShare bounds the slots of backend i. Each has all whole turns that its weight gives in the full rounds:
// these hand out at least size less one slot for each backend, and at most size.
func fairShare(backends []MaglevBackend, i int, size uint32) (low, high int) {
	sum, takers := 0, 0
	for _, b := range backends {
		sum += int(b.Weight)
		if b.Weight > 0 {
			takers++
		}
	}
	w := float64(backends[i].Weight) / float64(sum)
	if w == 0 {
		return 0, 0
	}
	return int(float64(size)*w) - 2, int(float64(int(size)+takers)*w) + 2
}

func TestTableProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]uint32{251, 509, 1021}).Draw(t, "size")
		backends := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) MaglevBackend {
			return MaglevBackend{rapid.StringN(0, 12, -1).Draw(t, "name"), uint16(rapid.IntRange(0, 5).Draw(t, "weight"))}
		}), 1, 40, func(b MaglevBackend) string { return b.Name }).Draw(t, "backends")
		sum := 0
		for _, b := range backends {
			sum += int(b.Weight)
		}
		if sum == 0 {
			t.Skip("no weight")
		}
		table := mustTable(t, backends, size)
		got := shares(len(backends), table) // panics on a hole
		for i, b := range backends {
			low, high := fairShare(backends, i, size)
			if got[i] < low || got[i] > high {
				t.Fatalf("%q of weight %d of %d has %d of %d slots, want %d to %d", b.Name, b.Weight, sum, got[i], size, low, high)
			}
		}
		shuffled := slices.Clone(backends)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 0))
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !slices.Equal(names(backends, table), names(shuffled, mustTable(t, shuffled, size))) {
			t.Fatal("the order of the backends matters")
		}
	})
}

func TestLookupStaysInTheTable(t *testing.T) {
	table := mustTable(t, maglevBackends(3), 251)
	assert.Equal(t, table[0], Lookup(table, 0))
	assert.Equal(t, table[250], Lookup(table, 250))
	assert.Equal(t, table[0], Lookup(table, 251))
	assert.Less(t, Lookup(table, HashString(0, "client")), uint32(3))
}

func BenchmarkMaglev65537x100(b *testing.B) {
	backends := maglevBackends(100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewTable(backends, 65537, DefaultSeed); err != nil {
			b.Fatal(err)
		}
	}
}
