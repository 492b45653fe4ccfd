package identity_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/identity"
)

func TestPoolRestsNumbersBeforeReuse(t *testing.T) {
	t0 := time.Unix(0, 0)
	p := identity.NewPool(10, 11, time.Minute)
	a, isNew, err := p.Acquire("a", t0)
	require.NoError(t, err)
	require.True(t, isNew)
	require.Equal(t, identity.ID(10), a)
	again, isNew, err := p.Acquire("a", t0)
	require.NoError(t, err)
	require.False(t, isNew)
	require.Equal(t, a, again)

	p.Release("a", t0)
	p.Release("a", t0)
	require.Zero(t, p.InUse())
	b, _, err := p.Acquire("b", t0)
	require.NoError(t, err)
	require.Equal(t, identity.ID(11), b, "10 rests")
	_, _, err = p.Acquire("c", t0.Add(59*time.Second))
	require.ErrorContains(t, err, "none of the numbers 10 to 11 is free: 1 are in use, 1 rest for 1m0s")
	c, _, err := p.Acquire("c", t0.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, a, c)
}

func TestPoolKeyComesBackDuringItsRest(t *testing.T) {
	t0 := time.Unix(0, 0)
	p := identity.NewPool(10, 20, time.Hour)
	a, _, _ := p.Acquire("a", t0)
	p.Release("a", t0)
	b, isNew, err := p.Acquire("a", t0.Add(time.Second))
	require.NoError(t, err)
	require.True(t, isNew)
	require.Equal(t, a, b)
}

func TestPoolRestoreKeepsNumbers(t *testing.T) {
	t0 := time.Unix(0, 0)
	p := identity.NewPool(10, 20, time.Hour)
	p.Restore(15, "old", t0)
	p.Restore(15, "thief", t0)
	p.Restore(99, "outside", t0)
	fresh, _, _ := p.Acquire("new", t0)
	require.Equal(t, identity.ID(16), fresh)
	old, _, _ := p.Acquire("old", t0)
	require.Equal(t, identity.ID(15), old)
}

// No number names two keys within the quarantine, and users are counted right.
func TestPoolProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const quarantine = 10 * time.Second
		p := identity.NewPool(1, 6, quarantine)
		now := time.Unix(0, 0)
		users := map[string]int{}
		holder := map[identity.ID]string{}
		freed := map[identity.ID]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "key"))
			switch rapid.SampledFrom([]string{"acquire", "release", "wait"}).Draw(t, "what") {
			case "acquire":
				id, _, err := p.Acquire(key, now)
				if err != nil {
					if users[key] > 0 {
						t.Fatalf("a key in use was refused: %v", err)
					}
					continue
				}
				if was, ok := holder[id]; ok && was != key {
					if users[was] > 0 {
						t.Fatalf("%d names %s and %s", id, was, key)
					}
					if now.Sub(freed[id]) < quarantine {
						t.Fatalf("%d went from %s to %s after %s", id, was, key, now.Sub(freed[id]))
					}
				}
				holder[id] = key
				users[key]++
			case "release":
				p.Release(key, now)
				if users[key] > 0 {
					if users[key]--; users[key] == 0 {
						for id, k := range holder {
							if k == key {
								freed[id] = now
							}
						}
					}
				}
			case "wait":
				now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "s")) * time.Second)
			}
		}
	})
}
