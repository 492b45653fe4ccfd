package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports/porttest"
)

// app is the label set of an app.
func app(i int) labels.Set {
	return labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: fmt.Sprintf("a%d", i)},
		labels.Label{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: "shop"})
}

// narrow leaves so many numbers to a store.
func (s *Store) narrow(numbers int) { s.highest = s.lowest + identity.ID(numbers) - 1 }

// stored reads which labels the server has under which number. Labels under two numbers fail the test.
func stored(t *testing.T, s *Store) map[identity.ID]entry {
	t.Helper()
	all, err := s.listIdentities(t.Context())
	require.NoError(t, err)
	by := map[string]identity.ID{}
	for id, e := range all {
		other, twice := by[e.labels.Key()]
		assert.False(t, twice, "%s has the numbers %d and %d", e.labels.Strings(), id, other)
		by[e.labels.Key()] = id
	}
	return all
}

// Many agents ask for the same labels at the same time, with so few numbers that most of them collide.
func TestManyAllocatorsMakeNoDuplicates(t *testing.T) {
	const agents, sets, numbers = 16, 40, 48
	a := server(t)
	type answer struct {
		set int
		id  identity.ID
	}
	answers := make(chan answer, agents*sets)
	var wg sync.WaitGroup
	for range agents {
		s := a.open(Options{})
		s.narrow(numbers)
		wg.Go(func() {
			for _, i := range rand.Perm(sets) {
				id, err := s.Allocate(t.Context(), app(i))
				if assert.NoError(t, err) {
					answers <- answer{i, id}
				}
			}
		})
	}
	wg.Wait()
	close(answers)
	given := map[int]identity.ID{}
	for x := range answers {
		if id, ok := given[x.set]; ok {
			require.Equal(t, id, x.id, "set %d", x.set)
		}
		given[x.set] = x.id
	}
	all := stored(t, a.open(Options{}))
	assert.Len(t, all, sets)
	for i, id := range given {
		assert.Equal(t, app(i).Key(), all[id].labels.Key())
	}
}

// Identities come and go for days while a collector works beside the allocators. Whoever asks at the same time
// gets the same number, no labels ever have two, and a number that means something new has rested.
func TestAllocatorsAndCollector(t *testing.T) {
	const agents, sets, numbers, rounds = 6, 30, 16, 24
	const grace = 2 * time.Hour
	a, c := server(t), newClock()
	collector := a.open(Options{Operator: true, Now: c.time})
	collector.narrow(numbers)
	var stores []*Store
	for range agents {
		s := a.open(Options{Now: c.time})
		s.narrow(numbers)
		stores = append(stores, s)
	}
	lastUse := map[identity.ID]time.Time{} // when a number was last given for the labels that it had then
	meant := map[identity.ID]string{}
	full := 0
	for round := range rounds {
		var mu sync.Mutex
		given := map[int]map[identity.ID]bool{}
		var wg sync.WaitGroup
		for _, s := range stores {
			wg.Go(func() {
				for range 3 {
					i := (round/3*5 + rand.IntN(8)) % sets
					id, err := s.Allocate(t.Context(), app(i))
					mu.Lock()
					if err != nil {
						full++ // more labels in use than numbers: as it should be
					} else {
						if given[i] == nil {
							given[i] = map[identity.ID]bool{}
						}
						given[i][id] = true
					}
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			_, err := collector.Collect(t.Context(), grace)
			assert.NoError(t, err)
		})
		wg.Wait()
		all := stored(t, collector)
		for i, ids := range given {
			require.Len(t, ids, 1, "set %d in round %d", i, round)
			for id := range ids {
				e := all[id]
				require.Equal(t, app(i).Key(), e.labels.Key(), "number %d in round %d", id, round)
				require.False(t, e.retired(), "number %d in round %d", id, round)
				if old, ok := meant[id]; ok && old != app(i).Key() {
					require.GreaterOrEqual(t, c.time().Sub(lastUse[id]), 2*grace, "number %d in round %d", id, round)
				}
				meant[id], lastUse[id] = app(i).Key(), c.time()
			}
		}
		c.advance(grace / 2)
	}
	t.Logf("%d requests found no number", full)
	assert.Less(t, full, rounds*agents*3/2)
	c.advance(100 * grace)
	for range 4 {
		_, err := collector.Collect(t.Context(), grace)
		require.NoError(t, err)
		c.advance(grace)
	}
	assert.Empty(t, stored(t, collector), "in the end nothing is left")
}

// The labels of a number behind another's place must be found when that one is freed.
func TestFreedNumberDoesNotHideTheNext(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	s := a.open(Options{Operator: true, Now: c.time})
	s.narrow(64)
	first, second := collide(s)
	one, err := s.Allocate(t.Context(), first)
	require.NoError(t, err)
	two, err := s.Allocate(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, one+1, two)
	use := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 1, Identity: two, Node: "n1"}
	require.NoError(t, s.PublishEndpoint(t.Context(), use))
	for range 6 {
		c.advance(grace)
		_, err := s.Collect(t.Context(), grace)
		require.NoError(t, err)
	}
	require.True(t, stored(t, s)[one].retired(), "the first is gone, but keeps its number")
	again, err := s.Allocate(t.Context(), second)
	require.NoError(t, err)
	assert.Equal(t, two, again)
	require.NoError(t, s.WithdrawEndpoint(t.Context(), use.Name, "n1"))
	for range 6 {
		c.advance(grace)
		_, err := s.Collect(t.Context(), grace)
		require.NoError(t, err)
	}
	assert.Empty(t, stored(t, s))
}

// collide finds two label sets with one place, with room behind it.
func collide(s *Store) (first, second labels.Set) {
	at := map[identity.ID]labels.Set{}
	for i := 0; ; i++ {
		ls := app(i)
		home := s.home(ls)
		if other, ok := at[home]; ok && home < s.highest {
			return other, ls
		}
		at[home] = ls
	}
}

// Who passes a number that rests lets its rest begin anew, so that it isn't freed before he is where he goes.
func TestPassedNumberRestsOn(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	s := a.open(Options{Operator: true, Now: c.time})
	s.narrow(64)
	first, second := collide(s)
	one, err := s.Allocate(t.Context(), first)
	require.NoError(t, err)
	c.advance(grace)
	gone, err := s.Collect(t.Context(), grace)
	require.NoError(t, err)
	require.Equal(t, []identity.ID{one}, gone)
	free := func() time.Time {
		at, ok := stored(t, s)[one].at(freeFrom)
		require.True(t, ok)
		return at
	}
	before := free()
	c.advance(grace / 2)
	two, err := s.Allocate(t.Context(), second)
	require.NoError(t, err)
	assert.Equal(t, one+1, two)
	assert.Equal(t, grace/2, free().Sub(before))
}

// A write that is about an older version than the server's must not happen.
func TestCollectorLosesAgainstAllocator(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	config, w := a.wired()
	collector := a.open(Options{Operator: true, Now: c.time, Config: config})
	agent := a.open(Options{Now: c.time})
	id, err := agent.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	c.advance(grace)
	// Between the collector's look and its mark an agent asks.
	var once sync.Once
	w.lies(func(req *http.Request) *http.Response {
		if req.Method == http.MethodPatch {
			once.Do(func() {
				again, err := agent.Allocate(t.Context(), app(1))
				assert.NoError(t, err)
				assert.Equal(t, id, again)
			})
		}
		return nil
	})
	gone, err := collector.Collect(t.Context(), grace)
	require.NoError(t, err)
	assert.Empty(t, gone)
	e := stored(t, agent)[id]
	assert.False(t, e.retired())
	_, marked := e.at(unusedSince)
	assert.False(t, marked)
}

// An identity that a node was given and that was collected while the node's watch was cut: the watch never told
// that it was there, and tells all the same that it is gone.
func TestIdentityGoneWhileTheWatchWasCut(t *testing.T) {
	const grace = time.Hour
	for name, rounds := range map[string]int{"retired": 1, "deleted": 2} {
		t.Run(name, func(t *testing.T) {
			a, c := server(t), newClock()
			config, w := a.wired()
			s := a.open(Options{Node: "n1", Now: c.time, Config: config})
			collector := a.open(Options{Operator: true, Now: c.time})
			watch := porttest.WatchSource(t, s)
			watch.Eventually(t, "Synced", func(k porttest.Known) bool { return k.Synced == 1 })

			w.cutOff(watchesOf(identityResource))
			id, err := s.Allocate(t.Context(), app(1))
			require.NoError(t, err)
			kept, err := s.Allocate(t.Context(), app(2))
			require.NoError(t, err)
			for range rounds {
				c.advance(grace)
				again, err := s.Allocate(t.Context(), app(2))
				require.NoError(t, err)
				require.Equal(t, kept, again)
				_, err = collector.Collect(t.Context(), grace)
				require.NoError(t, err)
			}
			w.lies(forgetful()) // so that it has to list
			w.cutOff(nil)
			watch.Eventually(t, "the other identity", func(k porttest.Known) bool { return len(k.Identities) == 1 })
			eventually(t, "the end of the identity", func() bool {
				for _, e := range watch.Events() {
					if e == (cluster.IdentityDelete{ID: id}) {
						return true
					}
				}
				return false
			})
			for _, e := range watch.Events() {
				assert.NotEqual(t, cluster.IdentityDelete{ID: kept}, e)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			assert.Empty(t, s.handed, "nothing is remembered for ever")
		})
	}
}

// A list that is older than an identity says nothing about it.
func TestVanishedKnowsItsTime(t *testing.T) {
	a := server(t)
	s := a.open(Options{})
	id, err := s.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	at := s.handed[id].version
	assert.Empty(t, s.vanished(nil, at-1))
	assert.Len(t, s.vanished(nil, at), 1)
	assert.Empty(t, s.vanished(map[objectName]seen{{name: strconv.Itoa(int(id))}: {}}, at))
}

func TestAgentsDoNotCollect(t *testing.T) {
	a, c := server(t), newClock()
	s := a.open(Options{Now: c.time})
	_, err := s.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	c.advance(time.Hour)
	gone, err := s.Collect(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Empty(t, gone)
}

// Cilium's identities, which have no marks, are collected as ours are; what has no number as its name is left
// alone.
func TestCollectForeignIdentities(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	a.apply(`
apiVersion: cilium.io/v2
kind: CiliumIdentity
metadata: {name: "30000", labels: {app: other}}
security-labels: {"k8s:app": other}
---
apiVersion: cilium.io/v2
kind: CiliumIdentity
metadata: {name: elsewhere}
security-labels: {"k8s:app": odd}
`)
	s := a.open(Options{Operator: true, Now: c.time})
	for range 3 {
		_, err := s.Collect(t.Context(), grace)
		require.NoError(t, err)
		c.advance(grace)
	}
	assert.Equal(t, []string{"elsewhere"}, a.names(manifest.KindCiliumIdentity, ""))
}

// Whose identity an endpoint has that can't be read nobody knows: until it is mended none is retired.
func TestUnreadableEndpointKeepsIdentities(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	s := a.open(Options{Operator: true, Now: c.time})
	id, err := s.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	a.apply(fmt.Sprintf(`
apiVersion: cilium.io/v2
kind: CiliumEndpoint
metadata: {name: web, namespace: shop}
status: {id: 7, identity: {id: %d}, networking: {addressing: [{ipv4: nowhere}]}}
`, id))
	c.advance(10 * grace)
	gone, err := s.Collect(t.Context(), grace)
	require.ErrorContains(t, err, "shop/web")
	assert.Empty(t, gone)
	assert.False(t, stored(t, s)[id].retired())
	a.remove(manifest.KindCiliumEndpoint, "shop", "web")
	gone, err = s.Collect(t.Context(), grace)
	require.NoError(t, err)
	assert.Equal(t, []identity.ID{id}, gone)
}

// A number is needed as long as labels behind it belong at or before it.
func TestNeeded(t *testing.T) {
	s := &Store{lowest: identity.MinCluster}
	s.narrow(8)
	homes := map[int][]labels.Set{}
	for i := range 200 {
		h := int(s.home(app(i)) - s.lowest)
		homes[h] = append(homes[h], app(i))
	}
	table := func(home ...int) map[identity.ID]entry { // by number; -1: free
		out := map[identity.ID]entry{}
		for at, h := range home {
			if h >= 0 {
				out[s.lowest+identity.ID(at)] = entry{labels: homes[h][at]}
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		home   []int
		number int
		want   bool
	}{
		"nothing behind":              {[]int{0, -1, 2, -1, -1, -1, -1, -1}, 0, false},
		"its own place behind":        {[]int{0, 1, -1, -1, -1, -1, -1, -1}, 0, false},
		"the same place":              {[]int{0, 0, -1, -1, -1, -1, -1, -1}, 0, true},
		"a place before":              {[]int{0, 0, 0, -1, -1, -1, -1, -1}, 1, true},
		"further behind":              {[]int{0, 1, 2, 0, -1, -1, -1, -1}, 1, true},
		"behind a gap":                {[]int{0, 1, -1, 1, -1, -1, -1, -1}, 0, false},
		"between":                     {[]int{0, 1, 1, -1, -1, -1, -1, -1}, 0, false},
		"around the end":              {[]int{7, -1, -1, -1, -1, -1, -1, 7}, 7, true},
		"around the end, own place":   {[]int{0, -1, -1, -1, -1, -1, -1, 7}, 7, false},
		"around the end, from before": {[]int{6, -1, -1, -1, -1, -1, 6, 6}, 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, s.needed(table(c.home...), s.lowest+identity.ID(c.number)))
		})
	}
	all := table(0, 1, -1, -1, -1, -1, -1, -1)
	all[s.lowest+1] = entry{}
	assert.True(t, s.needed(all, s.lowest), "what can't be read might belong before")
}

// The time without an endpoint begins when the last one went, however old the identity is; and an endpoint
// brings back an identity that was retired.
func TestUseCounts(t *testing.T) {
	const grace = time.Hour
	a, c := server(t), newClock()
	s := a.open(Options{Operator: true, Now: c.time})
	collect := func() []identity.ID {
		gone, err := s.Collect(t.Context(), grace)
		require.NoError(t, err)
		return gone
	}
	id, err := s.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	use := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 1, Identity: id, Node: "n1"}
	require.NoError(t, s.PublishEndpoint(t.Context(), use))
	c.advance(10 * grace)
	assert.Empty(t, collect())
	require.NoError(t, s.WithdrawEndpoint(t.Context(), use.Name, "n1"))
	assert.Empty(t, collect())
	c.advance(grace - time.Second)
	assert.Empty(t, collect())
	c.advance(time.Second)
	assert.Equal(t, []identity.ID{id}, collect())
	require.NoError(t, s.PublishEndpoint(t.Context(), use))
	assert.Empty(t, collect())
	assert.False(t, stored(t, s)[id].retired())
	c.advance(10 * grace)
	assert.Empty(t, collect())
	assert.Len(t, stored(t, s), 1)
}
