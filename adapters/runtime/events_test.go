package runtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestEventQueue(t *testing.T) {
	q := newEventQueue()
	require.Empty(t, q.take())
	next := uint64(0)
	for round := range 3 {
		for range 1000 * (round + 1) {
			next++
			require.True(t, q.add(datapath.Event{Timestamp: next}))
		}
		select {
		case <-q.wake:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody says that there are events")
		}
		got := q.take()
		require.Len(t, got, 1000*(round+1))
		for i, e := range got {
			require.Equal(t, next-uint64(len(got)-1-i), e.Timestamp, "in order")
		}
	}
	select {
	case <-q.wake:
		t.Fatal("there is nothing more")
	case <-time.After(5 * queuePause):
	}
	for range queueLength {
		require.True(t, q.add(datapath.Event{}))
	}
	require.False(t, q.add(datapath.Event{}), "full")
	require.Len(t, q.take(), queueLength)
	require.True(t, q.add(datapath.Event{}))
}
