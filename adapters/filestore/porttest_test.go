package filestore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	require.NoError(t, err)
	return s
}

func TestSourceContract(t *testing.T) {
	porttest.Source(t, func(t *testing.T) porttest.SourceHarness {
		dir := t.TempDir()
		return porttest.SourceHarness{
			Source: open(t, Options{Dir: dir, StateDir: t.TempDir()}),
			Apply:  func(name, yaml string) { put(t, dir, map[string]string{name + ".yaml": yaml}) },
			Remove: func(name string) { require.NoError(t, os.Remove(filepath.Join(dir, name+".yaml"))) },
		}
	})
}

func TestPublisherContract(t *testing.T) {
	porttest.Publisher(t, func(t *testing.T) porttest.PublisherHarness {
		dir := t.TempDir()
		return porttest.PublisherHarness{Publisher: open(t, Options{Dir: dir}), Source: open(t, Options{Dir: dir})}
	})
}

func TestIdentitiesContract(t *testing.T) {
	porttest.Identities(t, func(t *testing.T) porttest.IdentitiesHarness {
		dir := t.TempDir()
		var mu sync.Mutex
		now := time.Unix(1_700_000_000, 0)
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
		a, b := open(t, Options{Dir: dir, Now: clock}), open(t, Options{Dir: dir, Now: clock})
		return porttest.IdentitiesHarness{
			A: a, B: b, Publisher: a, Source: b,
			Advance: func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(d)
			},
			Exhaust: func(free int) {
				book := manifest.IdentityBook{Highest: identity.MaxCluster, Quarantine: map[identity.ID]time.Time{}}
				for id := identity.MinCluster; id <= identity.MaxCluster-identity.ID(free); id++ {
					book.Quarantine[id] = clock().Add(1000 * time.Hour)
				}
				data, err := json.Marshal(book)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(a.path(identityBook), data, 0o644))
			},
		}
	})
}

func TestAttachmentsContract(t *testing.T) {
	porttest.Attachments(t, func(t *testing.T) func() ports.Attachments {
		dir := t.TempDir()
		return func() ports.Attachments {
			a, err := OpenAttachments(filepath.Join(dir, "run"))
			require.NoError(t, err)
			return a
		}
	})
}
