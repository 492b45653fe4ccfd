package differential_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// minimise leaves out as many ops as it can while the sequence still fails: large pieces first, then single
// ones, until none can be spared or the tries are used up.
func minimise(ops []op, tries int, fails func([]op) bool) []op {
	for size := (len(ops) + 1) / 2; ; {
		spared := false
		for from := len(ops); from > 0; from -= size {
			first := max(from-size, 0)
			less := append(append([]op{}, ops[:first]...), ops[min(from, len(ops)):]...)
			if tries--; tries < 0 {
				return ops
			}
			if fails(less) {
				ops, spared = less, true
			}
		}
		switch {
		case size > 1:
			size = (size + 1) / 2
		case !spared:
			return ops
		}
	}
}

func TestMinimise(t *testing.T) {
	var ops []op
	for i := range 100 {
		ops = append(ops, op{Advance: i + 1})
	}
	needed := map[int]bool{3: true, 50: true, 51: true, 100: true}
	fails := func(ops []op) bool {
		n := 0
		for _, o := range ops {
			if needed[o.Advance] {
				n++
			}
		}
		return n == len(needed)
	}
	got := minimise(ops, 10000, fails)
	require.Equal(t, []op{{Advance: 3}, {Advance: 50}, {Advance: 51}, {Advance: 100}}, got)
	require.True(t, fails(minimise(ops, 5, fails)), "what is left always fails")
}
