package flow_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/flow"
)

// The ring against a list that never forgets.
func TestRingAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 8).Draw(t, "capacity")
		ring := flow.NewRing(capacity)
		var all []flow.Entry
		var cursor flow.Cursor
		read, missed := 0, uint64(0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				e := flow.Entry{Flow: &flow.Flow{}}
				all = append(all, e)
				ring.Push(e)
				continue
			}
			e, next, m, ok := ring.Read(cursor)
			missed += m
			read += int(m)
			require.Equal(t, read < len(all), ok)
			if ok {
				require.Same(t, all[read].Flow, e.Flow)
				read++
			}
			cursor = next
		}
		kept := min(len(all), capacity)
		require.Equal(t, kept, ring.Len())
		require.Equal(t, uint64(len(all)), ring.Seen())
		require.Equal(t, uint64(len(all)-kept), ring.Overwritten())
		require.LessOrEqual(t, missed, ring.Overwritten())
	})
}

func TestRingDefaultCapacity(t *testing.T) {
	ring := flow.NewRing(0)
	require.Equal(t, flow.DefaultCapacity, ring.Cap())
	_, _, missed, ok := ring.Read(ring.End())
	require.False(t, ok)
	require.Zero(t, missed)
}

func TestSelect(t *testing.T) {
	ring := flow.NewRing(64)
	for i := 1; i <= 30; i++ {
		if i == 29 {
			ring.Push(flow.Entry{Lost: &flow.Lost{Count: 3}})
		}
		f := sample(func(f *flow.Flow) { f.Time = at(i) })
		ring.Push(flow.Entry{Flow: f})
	}
	for name, c := range map[string]struct {
		q           flow.Query
		first, last int // seconds of the flows; 0, 0: none
		flows, lost int
	}{
		"nothing asked":          {flow.Query{}, 11, 30, 20, 1},
		"last":                   {flow.Query{Last: 5}, 26, 30, 5, 1},
		"last, more than kept":   {flow.Query{Last: 500}, 1, 30, 30, 1},
		"loss before the window": {flow.Query{Last: 1}, 30, 30, 1, 0},
		"first":                  {flow.Query{First: 3}, 1, 3, 3, 0},
		"all":                    {flow.Query{All: true}, 1, 30, 30, 1},
		"since":                  {flow.Query{Since: at(8)}, 8, 30, 23, 1},
		"until":                  {flow.Query{Until: at(4)}, 1, 4, 4, 1},
		"since and last":         {flow.Query{Since: at(8), Last: 2}, 29, 30, 2, 0},
		"follow":                 {flow.Query{Follow: true}, 0, 0, 0, 0},
		"follow from the last":   {flow.Query{Follow: true, Last: 2}, 29, 30, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			match, err := flow.CompileQuery(c.q)
			require.NoError(t, err)
			entries, next := ring.Select(c.q, match)
			require.Equal(t, ring.End(), next)
			var flows []*flow.Flow
			lost := 0
			for _, e := range entries {
				if e.Flow == nil {
					lost++
					continue
				}
				flows = append(flows, e.Flow)
			}
			require.Len(t, flows, c.flows)
			require.Equal(t, c.lost, lost)
			if c.flows > 0 {
				require.Equal(t, at(c.first), flows[0].Time)
				require.Equal(t, at(c.last), flows[len(flows)-1].Time)
			}
		})
	}
}
