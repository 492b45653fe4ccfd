package filestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// A book beside the identities says what their files don't. Whoever reads or writes either holds the
// lock.
const (
	identityLock = identitiesDir + "/.lock"
	identityBook = identitiesDir + "/.book.json"
)

// identityCache spares reading identities again: a number's labels never change while its file is
// there. It is right only under the lock, after refresh.
type identityCache struct {
	mu     sync.Mutex
	labels manifest.Identities
	stamps map[identity.ID]stamp
	ids    map[string]identity.ID // by labels.Set.Key
}

func newIdentityCache() *identityCache {
	return &identityCache{labels: manifest.Identities{}, stamps: map[identity.ID]stamp{}, ids: map[string]identity.ID{}}
}

func identityFile(id identity.ID) string { return strconv.FormatUint(uint64(id), 10) + ".json" }

// refresh brings the cache up to date. A number whose file can't be read is taken, but for no labels.
func (c *identityCache) refresh(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	seen := map[identity.ID]bool{}
	stale := false
	for _, e := range entries {
		n, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), ".json"), 10, 32)
		id := identity.ID(n)
		if err != nil || !id.IsCluster() || e.Name() != identityFile(id) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		seen[id] = true
		if c.stamps[id] == stampOf(&st) {
			continue
		}
		ls, err := readIdentity(filepath.Join(dir, e.Name()))
		if err != nil {
			ls = labels.Set{}
		}
		c.labels[id], c.stamps[id] = ls, stampOf(&st)
		stale = true
	}
	for id := range c.labels {
		if !seen[id] {
			delete(c.labels, id)
			delete(c.stamps, id)
			stale = true
		}
	}
	if stale {
		c.ids = make(map[string]identity.ID, len(c.labels))
		for id, ls := range c.labels {
			if other, ok := c.ids[ls.Key()]; ls.Len() > 0 && (!ok || id < other) {
				c.ids[ls.Key()] = id
			}
		}
	}
	return nil
}

func readIdentity(path string) (labels.Set, error) {
	data, err := new(content).read(path)
	if err != nil {
		return labels.Set{}, err
	}
	o, findings := manifest.Decode(path, data)
	for _, e := range o.Upserts() {
		if up, ok := e.(cluster.IdentityUpsert); ok && identityFile(up.ID) == filepath.Base(path) {
			return up.Labels, nil
		}
	}
	return labels.Set{}, fmt.Errorf("%s: not the CiliumIdentity of this number: %v", path, findings)
}

// withIdentities runs fn with the lock held, a fresh cache and the book, and writes the book back if
// fn says that it changed.
func (s *Store) withIdentities(ctx context.Context, fn func(*identityCache, *manifest.IdentityBook) (changed bool, err error)) error {
	s.ids.mu.Lock()
	defer s.ids.mu.Unlock()
	unlock, err := lock(ctx, s.path(identityLock))
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.ids.refresh(s.path(identitiesDir)); err != nil {
		return err
	}
	b := &manifest.IdentityBook{}
	data, err := os.ReadFile(s.path(identityBook))
	if err == nil {
		err = json.Unmarshal(data, b)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read %s: %w; restore it, or remove it when no agent runs", s.path(identityBook), err)
	}
	changed, err := fn(s.ids, b)
	if changed {
		if werr := s.writeBook(b); err == nil {
			err = werr
		}
	}
	return err
}

func (s *Store) writeBook(b *manifest.IdentityBook) error {
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.path(identityBook), append(data, '\n'), true)
}

// Allocate implements ports.Identities. The labels must all come from Kubernetes (source k8s).
func (s *Store) Allocate(ctx context.Context, ls labels.Set) (identity.ID, error) {
	var id identity.ID
	err := s.withIdentities(ctx, func(c *identityCache, b *manifest.IdentityBook) (bool, error) {
		now := s.opts.Now()
		if old, ok := c.ids[ls.Key()]; ok {
			id = old
			return b.Renew(id, now), nil
		}
		next, ok := b.Next(c.labels, now)
		if !ok {
			return false, fmt.Errorf("all of %d to %d are in use or in quarantine: %w", identity.MinCluster, identity.MaxCluster, ports.ErrFull)
		}
		data, err := manifest.EncodeIdentity(next, ls)
		if err != nil {
			return false, err
		}
		// The book comes first: a number in it that has no file is merely skipped.
		if err := s.writeBook(b); err != nil {
			return false, err
		}
		if err := writeFile(s.path(identitiesDir, identityFile(next)), data, true); err != nil {
			return false, err
		}
		id = next
		return false, nil
	})
	if err != nil {
		return 0, fmt.Errorf("allocate identity for %s: %w", strings.Join(ls.Strings(), ","), err)
	}
	return id, nil
}

// used notes that an identity has an endpoint from now on.
func (s *Store) used(ctx context.Context, id identity.ID) error {
	if !id.IsCluster() {
		return nil
	}
	return s.withIdentities(ctx, func(_ *identityCache, b *manifest.IdentityBook) (bool, error) {
		return b.Used(id), nil
	})
}

// Collect implements ports.Identities. An identity counts as unused from the first Collect that finds
// it without an endpoint, or from its allocation if it never had one.
func (s *Store) Collect(ctx context.Context, grace time.Duration) ([]identity.ID, error) {
	var gone []identity.ID
	err := s.withIdentities(ctx, func(c *identityCache, b *manifest.IdentityBook) (bool, error) {
		inUse, err := s.identitiesInUse()
		if err != nil {
			return false, err
		}
		due, changed := b.Collect(c.labels, inUse, s.opts.Now(), grace)
		if !changed {
			return false, nil
		}
		// The quarantine comes first: after a crash between the two the identity is there still.
		if err := s.writeBook(b); err != nil {
			return false, err
		}
		for _, id := range due {
			if err := os.Remove(s.path(identitiesDir, identityFile(id))); err != nil && !errors.Is(err, os.ErrNotExist) {
				return false, err
			}
			gone = append(gone, id)
		}
		return false, nil
	})
	if err != nil {
		return gone, fmt.Errorf("collect identities: %w", err)
	}
	return gone, nil
}

// identitiesInUse reads what endpoints of all nodes use. An endpoint that can't be read is an error:
// its identity might be the very one.
func (s *Store) identitiesInUse() (map[identity.ID]bool, error) {
	out := map[identity.ID]bool{}
	err := filepath.WalkDir(s.path(endpointsDir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || !isManifest(d.Name()) {
			return err
		}
		e, err := readEndpoint(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		out[e.Identity] = true
		return err
	})
	return out, err
}
