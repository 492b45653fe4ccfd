package porttest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/ports"
)

// IdentitiesHarness is one cluster's identities as two nodes see them.
type IdentitiesHarness struct {
	A, B      ports.Identities
	Publisher ports.Publisher
	Source    ports.Source
	// Advance moves the time that identities age by.
	Advance func(time.Duration)
	// Revives says that labels whose identity was collected get their number back as long as it rests.
	Revives bool
	// Exhaust leaves that many numbers to be given out.
	Exhaust func(free int)
}

// Identities is the contract suite of ports.Identities. start makes an empty cluster.
func Identities(t *testing.T, start func(t *testing.T) IdentitiesHarness) {
	ctx := context.Background()
	set := func(i int) labels.Set {
		return labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: fmt.Sprintf("a%d", i)},
			labels.Label{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: "shop"})
	}
	allocate := func(t *testing.T, from ports.Identities, i int) identity.ID {
		t.Helper()
		id, err := from.Allocate(ctx, set(i))
		require.NoError(t, err)
		require.True(t, id.IsCluster(), "%d", id)
		return id
	}
	const grace = time.Hour

	t.Run("the same for every node", func(t *testing.T) {
		h := start(t)
		w := WatchSource(t, h.Source)
		one := allocate(t, h.A, 1)
		assert.Equal(t, one, allocate(t, h.B, 1))
		assert.Equal(t, one, allocate(t, h.A, 1))
		two := allocate(t, h.B, 2)
		assert.NotEqual(t, one, two)
		k := w.Eventually(t, "both identities", func(k Known) bool { return len(k.Identities) == 2 })
		assert.Equal(t, map[uint32]string{uint32(one): set(1).Key(), uint32(two): set(2).Key()}, k.Identities)
	})

	t.Run("asked for at the same time", func(t *testing.T) {
		h := start(t)
		const sets, askers = 8, 6
		var mu sync.Mutex
		got := map[int]map[identity.ID]bool{}
		var wg sync.WaitGroup
		for a := 0; a < askers; a++ {
			from := h.A
			if a%2 == 1 {
				from = h.B
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := 0; i < sets; i++ {
					i := (i + a) % sets
					id, err := from.Allocate(ctx, set(i))
					mu.Lock()
					assert.NoError(t, err)
					if got[i] == nil {
						got[i] = map[identity.ID]bool{}
					}
					got[i][id] = true
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		all := map[identity.ID]bool{}
		for i, ids := range got {
			assert.Len(t, ids, 1, "set %d has one number", i)
			for id := range ids {
				assert.False(t, all[id], "number %d was given twice", id)
				all[id] = true
			}
		}
		assert.Len(t, all, sets)
	})

	t.Run("no labels, foreign labels", func(t *testing.T) {
		h := start(t)
		_, err := h.A.Allocate(ctx, labels.Set{})
		assert.Error(t, err)
		_, err = h.A.Allocate(ctx, labels.NewSet(labels.Label{Source: labels.SourceReserved, Key: "host"}))
		assert.Error(t, err)
	})

	t.Run("collected when unused", func(t *testing.T) {
		h := start(t)
		w := WatchSource(t, h.Source)
		kept, spare := allocate(t, h.A, 1), allocate(t, h.A, 2)
		name := cluster.Name{Namespace: "shop", Name: "web"}
		require.NoError(t, h.Publisher.PublishEndpoint(ctx, cluster.Endpoint{Name: name, ID: 1, Identity: kept, Node: "n1"}))
		h.Advance(grace / 2)
		gone, err := h.B.Collect(ctx, grace)
		require.NoError(t, err)
		assert.Empty(t, gone, "not before the grace period")
		h.Advance(grace / 2)
		gone, err = h.B.Collect(ctx, grace)
		require.NoError(t, err)
		assert.Equal(t, []identity.ID{spare}, gone)
		w.Eventually(t, "the spare identity gone", func(k Known) bool { return len(k.Identities) == 1 })

		again := allocate(t, h.A, 2)
		if h.Revives {
			assert.Equal(t, spare, again, "the number comes back with its labels")
		} else {
			assert.NotEqual(t, spare, again, "a number rests before it comes up again")
		}
		assert.Equal(t, kept, allocate(t, h.A, 1))

		require.NoError(t, h.Publisher.WithdrawEndpoint(ctx, name, "n1"))
		gone, err = h.A.Collect(ctx, grace)
		require.NoError(t, err)
		assert.Empty(t, gone, "the last use was just now")
		h.Advance(grace)
		gone, err = h.A.Collect(ctx, grace)
		require.NoError(t, err)
		assert.ElementsMatch(t, []identity.ID{kept, again}, gone)
	})

	t.Run("an identity that is asked for again is not collected", func(t *testing.T) {
		h := start(t)
		id := allocate(t, h.A, 1)
		h.Advance(grace)
		assert.Equal(t, id, allocate(t, h.B, 1))
		gone, err := h.A.Collect(ctx, grace)
		require.NoError(t, err)
		assert.Empty(t, gone)
	})

	t.Run("full, and free again after the quarantine", func(t *testing.T) {
		h := start(t)
		h.Exhaust(2)
		a, b := allocate(t, h.A, 1), allocate(t, h.A, 2)
		_, err := h.A.Allocate(ctx, set(3))
		require.ErrorIs(t, err, ports.ErrFull)
		assert.Equal(t, a, allocate(t, h.B, 1), "known labels need no number")
		require.NoError(t, h.Publisher.PublishEndpoint(ctx, cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 1, Identity: a, Node: "n1"}))
		h.Advance(grace)
		gone, err := h.A.Collect(ctx, grace)
		require.NoError(t, err)
		assert.Equal(t, []identity.ID{b}, gone)
		_, err = h.A.Allocate(ctx, set(3))
		require.ErrorIs(t, err, ports.ErrFull, "the number is in quarantine")
		h.Advance(grace)
		assert.Equal(t, b, allocate(t, h.A, 3))
	})
}
