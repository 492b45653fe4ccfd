package identity

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var epoch = time.Unix(1_700_000_000, 0)

func TestPoolCountsUsers(t *testing.T) {
	p := NewPool(256, 260, time.Minute)
	id, isNew, err := p.Acquire("a", epoch)
	require.NoError(t, err)
	require.True(t, isNew)
	require.Equal(t, ID(256), id)
	again, isNew, err := p.Acquire("a", epoch)
	require.NoError(t, err)
	require.False(t, isNew)
	require.Equal(t, id, again)
	require.Equal(t, 2, p.Users("a"))

	require.False(t, p.Release("a", epoch))
	key, ok := p.Key(256)
	require.True(t, ok)
	require.Equal(t, "a", key)
	require.True(t, p.Release("a", epoch))
	require.False(t, p.Release("a", epoch), "released once more than acquired")
	require.False(t, p.Release("never", epoch))
	_, ok = p.Lookup("a")
	require.False(t, ok)
	_, ok = p.Key(256)
	require.False(t, ok)
}

func TestPoolQuarantine(t *testing.T) {
	p := NewPool(1, 2, time.Minute)
	mustAcquire := func(key string, at time.Duration, want ID, wantNew bool) {
		t.Helper()
		id, isNew, err := p.Acquire(key, epoch.Add(at))
		require.NoError(t, err)
		require.Equal(t, want, id)
		require.Equal(t, wantNew, isNew)
	}
	mustAcquire("a", 0, 1, true)
	mustAcquire("b", 0, 2, true)
	require.True(t, p.Release("a", epoch))
	mustAcquire("a", 30*time.Second, 1, true) // back within the quarantine: the old number
	require.True(t, p.Release("a", epoch.Add(40*time.Second)))

	_, _, err := p.Acquire("c", epoch.Add(70*time.Second))
	require.ErrorIs(t, err, ErrExhausted)
	require.EqualError(t, err, "no free identity between 1 and 2: 1 in use, 1 in quarantine for up to 1m0s after their last use")
	require.Zero(t, p.Free(epoch.Add(99*time.Second)))
	mustAcquire("c", 100*time.Second, 1, true)
}

func TestPoolTimeDoesNotRunBackwards(t *testing.T) {
	p := NewPool(1, 1, time.Minute)
	_, _, err := p.Acquire("a", epoch.Add(time.Hour))
	require.NoError(t, err)
	p.Release("a", epoch) // counts as released at the latest time seen
	_, _, err = p.Acquire("b", epoch.Add(time.Hour))
	require.ErrorIs(t, err, ErrExhausted)
	_, _, err = p.Acquire("b", epoch.Add(time.Hour+time.Minute))
	require.NoError(t, err)
}

func TestPoolRestore(t *testing.T) {
	p := NewPool(256, 300, time.Minute)
	require.NoError(t, p.Restore(280, "a"))
	require.NoError(t, p.Restore(280, "a"), "again")
	id, isNew, err := p.Acquire("a", epoch)
	require.NoError(t, err)
	require.False(t, isNew, "it is known outside")
	require.Equal(t, ID(280), id)
	id, _, err = p.Acquire("b", epoch)
	require.NoError(t, err)
	require.Equal(t, ID(281), id, "after the highest known")

	require.False(t, p.Release("a", epoch), "the record holds it")
	require.True(t, p.Forget(280, epoch))
	require.False(t, p.Forget(280, epoch))

	require.EqualError(t, p.Restore(281, "c"), `restore identity 281 of "c": the number belongs to "b"`)
	require.EqualError(t, p.Restore(290, "b"), `restore identity 290 of "b": the key has number 281`)
	require.EqualError(t, p.Restore(301, "c"), `restore identity 301 of "c": outside 256 to 300`)
	require.NoError(t, p.Restore(280, "c"), "a resting number goes to whom the record names")
	_, ok := p.Lookup("a")
	require.False(t, ok)
	id, isNew, err = p.Acquire("a", epoch)
	require.NoError(t, err)
	require.True(t, isNew)
	require.Equal(t, ID(282), id)

	p.Release("a", epoch)
	require.NoError(t, p.Restore(299, "a"), "recorded under another number while the old one rests")
	require.Equal(t, 45-4, p.Free(epoch), "280, 281 and 299 are held, 282 rests without a key")
	require.Equal(t, 45-3, p.Free(epoch.Add(time.Minute)))
	require.Equal(t, 3, p.Held())
	p.Release("b", epoch.Add(time.Minute))
	require.Equal(t, 2, p.Held())
}

func TestNewPoolRefusesEmptyRanges(t *testing.T) {
	require.Panics(t, func() { NewPool(0, 5, 0) })
	require.Panics(t, func() { NewPool(6, 5, 0) })
}

// TestPoolKeepsItsPromises holds a pool against a plain list of what was given out and when.
func TestPoolKeepsItsPromises(t *testing.T) {
	const quarantine = 10 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 6).Draw(t, "size")
		p := NewPool(256, 255+ID(size), quarantine)
		now := epoch
		users := map[string]int{}
		recorded := map[ID]string{}
		owner := map[ID]string{}
		ended := map[ID]time.Time{}
		key := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("k", rapid.IntRange(0, 7).Draw(t, "key")) })
		holder := func(id ID) (string, bool) {
			k, ok := owner[id]
			return k, ok && (users[k] > 0 || recorded[id] != "")
		}
		end := func(id ID, last bool) {
			if _, held := holder(id); last == held {
				t.Fatalf("identity %d: last is %v, held is %v", id, last, held)
			}
			if last {
				ended[id] = now
			}
		}
		take := func(id ID, k string) { // a key has one number
			for other, owned := range owner {
				if owned == k {
					delete(owner, other)
				}
			}
			owner[id] = k
		}
		idOf := func(k string) (ID, bool) {
			for id := range owner {
				if h, ok := holder(id); ok && h == k {
					return id, true
				}
			}
			return 0, false
		}
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "seconds")) * time.Second)
			k := key.Draw(t, "k")
			switch rapid.IntRange(0, 4).Draw(t, "call") {
			case 0, 1:
				before, had := idOf(k)
				id, isNew, err := p.Acquire(k, now)
				if err != nil {
					for i := ID(256); i <= 255+ID(size); i++ {
						_, held := holder(i)
						at, was := ended[i]
						if !held && (!was || !now.Before(at.Add(quarantine))) {
							t.Fatalf("%v, but %d is free", err, i)
						}
					}
					continue
				}
				if isNew == had || had && id != before {
					t.Fatalf("%s: got %d new %v, had %d %v", k, id, isNew, before, had)
				}
				if h, held := holder(id); held && h != k {
					t.Fatalf("%d given to %s belongs to %s", id, k, h)
				}
				if at, was := ended[id]; was && isNew && owner[id] != k && now.Before(at.Add(quarantine)) {
					t.Fatalf("%d given to %s rests since %s", id, k, at)
				}
				take(id, k)
				users[k]++
			case 2:
				if id, ok := idOf(k); ok && users[k] > 0 {
					users[k]--
					end(id, p.Release(k, now))
				} else if p.Release(k, now) {
					t.Fatalf("%s: released what was not acquired", k)
				}
			case 3:
				id := ID(rapid.IntRange(256, 255+size).Draw(t, "id"))
				h, held := holder(id)
				other, has := idOf(k)
				err := p.Restore(id, k)
				if bad := held && h != k || has && other != id; bad != (err != nil) {
					t.Fatalf("restore %d %s: %v", id, k, err)
				}
				if err == nil {
					take(id, k)
					recorded[id] = k
				}
			case 4:
				id := ID(rapid.IntRange(256, 255+size).Draw(t, "id"))
				was := recorded[id] != ""
				delete(recorded, id)
				last := p.Forget(id, now)
				if was {
					end(id, last)
				} else if last {
					t.Fatalf("%d was not recorded", id)
				}
			}
			held := 0
			for id := range owner {
				if h, ok := holder(id); ok {
					held++
					if got, ok := p.Lookup(h); !ok || got != id {
						t.Fatalf("lookup %s: %d %v, want %d", h, got, ok, id)
					}
				}
			}
			if held != p.Held() {
				t.Fatalf("held %d, want %d", p.Held(), held)
			}
		}
	})
}
