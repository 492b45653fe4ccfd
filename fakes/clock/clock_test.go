package clock_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/ports"
)

var _ ports.Clock = (*clock.Clock)(nil)

func received(ch <-chan time.Time) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestAfterWaitsForAdvance(t *testing.T) {
	c := clock.New(time.Time{})
	require.Equal(t, clock.Epoch, c.Now())
	late, early := c.After(2*time.Second), c.After(time.Second)
	require.Equal(t, 2, c.Waiting())
	require.False(t, received(early))
	c.Advance(999 * time.Millisecond)
	require.False(t, received(early))
	c.Advance(time.Millisecond)
	require.True(t, received(early))
	require.False(t, received(early), "delivers once")
	require.False(t, received(late))
	c.Advance(-time.Hour)
	require.Equal(t, clock.Epoch.Add(time.Second), c.Now(), "time does not run backwards")
	c.Advance(time.Hour)
	require.Equal(t, clock.Epoch.Add(2*time.Second), <-late, "carries its due time")
	require.Zero(t, c.Waiting())
	require.True(t, received(c.After(0)))
	require.True(t, received(c.After(-time.Second)))
}

func TestStepGoesToTheNextWaiter(t *testing.T) {
	c := clock.New(time.Time{})
	_, ok := c.Step()
	require.False(t, ok)
	first, second, alsoFirst := c.After(time.Minute), c.After(time.Hour), c.After(time.Minute)
	d, ok := c.Step()
	require.True(t, ok)
	require.Equal(t, time.Minute, d)
	require.True(t, received(first))
	require.True(t, received(alsoFirst))
	require.False(t, received(second))
}

func Example() {
	c := clock.New(time.Time{})
	ring := c.After(time.Minute)
	c.Advance(time.Minute)
	fmt.Println((<-ring).Format(time.TimeOnly))
	// Output: 00:01:00
}
