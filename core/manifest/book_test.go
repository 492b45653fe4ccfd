package manifest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// An identity that has an endpoint is not collected, however long it was without one.
func TestIdentityInUseIsNotCollected(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var b IdentityBook
	exists := Identities{}
	id, ok := b.Next(exists, now)
	require.True(t, ok)
	exists[id] = labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "a"})

	late := now.Add(2 * time.Hour)
	due, changed := b.Collect(exists, map[identity.ID]bool{id: true}, late, time.Hour)
	require.Empty(t, due)
	require.True(t, changed)
	due, _ = b.Collect(exists, nil, late, time.Hour)
	require.Empty(t, due, "its time without an endpoint begins only now")
	due, _ = b.Collect(exists, nil, late.Add(time.Hour), time.Hour)
	require.Equal(t, []identity.ID{id}, due)
}
