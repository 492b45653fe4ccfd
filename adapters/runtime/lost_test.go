package runtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
)

// Observers learn how many events were lost, each once, and where.
func TestLossesAreRecordedOnce(t *testing.T) {
	r := newFlowRecord(15)
	now := time.Unix(1, 0)
	for _, totals := range [][2]uint64{{0, 0}, {3, 0}, {3, 2}, {3, 2}, {4, 2}} {
		r.noteLost(totals[0], totals[1], now)
	}
	all, err := flow.CompileQuery(flow.Query{})
	require.NoError(t, err)
	entries, _ := r.ring.Select(flow.Query{All: true}, all)
	var got []flow.Lost
	for _, e := range entries {
		if e.Lost != nil {
			got = append(got, *e.Lost)
		}
	}
	require.Equal(t, []flow.Lost{
		{Source: flow.LostKernel, Count: 3, First: now, Last: now},
		{Source: flow.LostQueue, Count: 2, First: now, Last: now},
		{Source: flow.LostKernel, Count: 1, First: now, Last: now},
	}, got)
}
