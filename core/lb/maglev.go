package lb

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// MaglevBackend is a backend as a Maglev table sees it. Its name decides its places in the table,
// so all nodes must use the same one; its address and port in text are a good choice.
type MaglevBackend struct {
	Name   string
	Weight uint16 // share of the table relative to the other backends; 0: no place
}

// Errors of NewTable.
var (
	// ErrTableSize is wrapped when the size is none of TableSizes.
	ErrTableSize = errors.New("maglev table size not supported")
	// ErrNoBackends is wrapped when no backend has a weight above 0.
	ErrNoBackends = errors.New("no backend with a weight above 0")
)

// DefaultSize is the size of a Maglev table where nothing else is said.
const DefaultSize = 16381

// DefaultSeed is the seed of Maglev tables where nothing else is said.
const DefaultSeed uint64 = 0x776569722d6d6167

var tableSizes = [...]uint32{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 65537, 131071}

// TableSizes lists the accepted sizes, smallest first. All are prime: only then does every step
// width visit every slot.
func TableSizes() []uint32 { return slices.Clone(tableSizes[:]) }

// TableSize is the smallest accepted size with 100 slots for each of n backends, which keeps their
// shares within about a percent of each other, or the largest if none is that large.
func TableSize(n int) uint32 {
	for _, s := range tableSizes {
		if n <= int(s)/100 {
			return s
		}
	}
	return tableSizes[len(tableSizes)-1]
}

// Seeds that make a permutation's offset and its step width independent of each other.
const (
	seedOffset uint64 = 0x6f66667365740000
	seedSkip   uint64 = 0x736b697000000000
)

const hole = math.MaxUint32

// NewTable fills a Maglev lookup table (Eisenbud et al., NSDI 2016, section 3.4): each backend owns
// a permutation of the slots, and they take turns in claiming their next free one. The entries are
// indexes into backends. A backend of half the greatest weight gets every other turn.
//
// The same backends, size and seed give the same table whatever the order of backends, up to the
// indexes. Names must be unique. The errors wrap ErrTableSize and ErrNoBackends, or name the backend
// that is there twice.
func NewTable(backends []MaglevBackend, size uint32, seed uint64) ([]uint32, error) {
	if !slices.Contains(tableSizes[:], size) {
		return nil, fmt.Errorf("maglev table of %d slots: %w; allowed are the primes %v", size, ErrTableSize, tableSizes)
	}
	turns, err := newTurns(backends, size, seed)
	if err != nil {
		return nil, fmt.Errorf("maglev table of %d slots: %w", size, err)
	}
	table := make([]uint32, size)
	for i := range table {
		table[i] = hole
	}
	for filled := uint32(0); ; {
		for i := range turns {
			t := &turns[i]
			if t.credit += t.weight; t.credit < t.round {
				continue
			}
			t.credit -= t.round
			for table[t.next] != hole {
				t.advance(size)
			}
			table[t.next] = t.backend
			if filled++; filled == size {
				return table, nil
			}
			t.advance(size)
		}
	}
}

// turn is one backend's walk through its permutation.
type turn struct {
	next, skip    uint32
	credit        uint32 // grows by weight each round; a slot costs round
	weight, round uint32
	backend       uint32 // index as the caller has it
}

func (t *turn) advance(size uint32) {
	if t.next += t.skip; t.next >= size {
		t.next -= size
	}
}

// newTurns prepares the walks of the backends that have a weight, in order of name.
func newTurns(backends []MaglevBackend, size uint32, seed uint64) ([]turn, error) {
	order := make([]uint32, 0, len(backends))
	var heaviest uint32
	for i, b := range backends {
		if b.Weight > 0 {
			order = append(order, uint32(i))
			heaviest = max(heaviest, uint32(b.Weight))
		}
	}
	if len(order) == 0 {
		return nil, ErrNoBackends
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(backends[a].Name, backends[b].Name) })
	turns := make([]turn, len(order))
	for i, at := range order {
		b := backends[at]
		if i > 0 && backends[order[i-1]].Name == b.Name {
			return nil, fmt.Errorf("backend %q is there twice; names must be unique", b.Name)
		}
		turns[i] = turn{
			next:    uint32(hashString(seed^seedOffset, b.Name) % uint64(size)),
			skip:    uint32(hashString(seed^seedSkip, b.Name)%uint64(size-1)) + 1,
			weight:  uint32(b.Weight),
			round:   heaviest,
			backend: at,
		}
	}
	return turns, nil
}

// Lookup gives the entry of a table for a connection's hash. The table must not be empty.
func Lookup(table []uint32, hash uint64) uint32 { return table[hash%uint64(len(table))] }

// HashString is a stable 64-bit hash for Lookup; nodes that use the same seed agree on it.
func HashString(seed uint64, s string) uint64 { return hashString(seed, s) }
