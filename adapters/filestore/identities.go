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

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// Numbers are given out in ascending order, so that one that was given back comes up again as late as
// possible, and not before its quarantine is over. What that takes stands in a book beside the
// identities; whoever reads or writes either holds the lock.
const (
	identityLock = identitiesDir + "/.lock"
	identityBook = identitiesDir + "/.book.json"
)

// book is what the identities' files don't say by themselves.
type book struct {
	// Highest is the highest number ever given out.
	Highest identity.ID `json:"highest"`
	// Unused says since when an identity has been without an endpoint, as far as anyone looked.
	Unused map[identity.ID]time.Time `json:"unused,omitempty"`
	// Quarantine says from when on a removed number may be given out again.
	Quarantine map[identity.ID]time.Time `json:"quarantine,omitempty"`
}

// identityCache spares reading identities again: a number's labels never change while its file is
// there. It is right only under the lock, after refresh.
type identityCache struct {
	mu     sync.Mutex
	labels map[identity.ID]labels.Set
	stamps map[identity.ID]stamp
	ids    map[string]identity.ID // by labels.Set.Key
}

func newIdentityCache() *identityCache {
	return &identityCache{labels: map[identity.ID]labels.Set{}, stamps: map[identity.ID]stamp{}, ids: map[string]identity.ID{}}
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
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		seen[id] = true
		if c.stamps[id] == stampOf(fi) {
			continue
		}
		ls, err := readIdentity(filepath.Join(dir, e.Name()))
		if err != nil {
			ls = labels.Set{}
		}
		c.labels[id], c.stamps[id] = ls, stampOf(fi)
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
	data, err := readBounded(path)
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
func (s *Store) withIdentities(ctx context.Context, fn func(*identityCache, *book) (changed bool, err error)) error {
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
	b := &book{}
	data, err := os.ReadFile(s.path(identityBook))
	if err == nil {
		err = json.Unmarshal(data, b)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read %s: %w; restore it, or remove it when no agent runs", s.path(identityBook), err)
	}
	if b.Unused == nil {
		b.Unused = map[identity.ID]time.Time{}
	}
	if b.Quarantine == nil {
		b.Quarantine = map[identity.ID]time.Time{}
	}
	changed, err := fn(s.ids, b)
	if changed {
		if werr := s.writeBook(b); err == nil {
			err = werr
		}
	}
	return err
}

func (s *Store) writeBook(b *book) error {
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.path(identityBook), append(data, '\n'), true)
}

// Allocate implements ports.Identities. The labels must all come from Kubernetes (source k8s).
func (s *Store) Allocate(ctx context.Context, ls labels.Set) (identity.ID, error) {
	var id identity.ID
	err := s.withIdentities(ctx, func(c *identityCache, b *book) (bool, error) {
		now := s.opts.Now()
		if old, ok := c.ids[ls.Key()]; ok {
			id = old
			// Whoever asks is about to use it: its time without an endpoint begins anew.
			if _, marked := b.Unused[id]; marked {
				b.Unused[id] = now
				return true, nil
			}
			return false, nil
		}
		next, ok := b.next(c, now)
		if !ok {
			return false, fmt.Errorf("all of %d to %d are in use or in quarantine: %w", identity.MinCluster, identity.MaxCluster, ports.ErrFull)
		}
		data, err := manifest.EncodeIdentity(next, ls)
		if err != nil {
			return false, err
		}
		// The book comes first: a number in it that has no file is merely skipped.
		b.Highest = max(b.Highest, next)
		b.Unused[next] = now
		delete(b.Quarantine, next)
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

// next picks a number: the one after the highest, or, once the range was gone through, the lowest
// that is free and out of quarantine.
func (b *book) next(c *identityCache, now time.Time) (identity.ID, bool) {
	highest := max(b.Highest, identity.MinCluster-1)
	for id := range c.labels {
		highest = max(highest, id)
	}
	if highest < identity.MaxCluster {
		return highest + 1, true
	}
	for id := identity.MinCluster; id <= identity.MaxCluster; id++ {
		_, taken := c.labels[id]
		until, waiting := b.Quarantine[id]
		if !taken && (!waiting || !now.Before(until)) {
			return id, true
		}
	}
	return 0, false
}

// used notes that an identity has an endpoint from now on.
func (s *Store) used(ctx context.Context, id identity.ID) error {
	if !id.IsCluster() {
		return nil
	}
	return s.withIdentities(ctx, func(_ *identityCache, b *book) (bool, error) {
		_, marked := b.Unused[id]
		delete(b.Unused, id)
		return marked, nil
	})
}

// Collect implements ports.Identities. An identity counts as unused from the first Collect that sees
// it without an endpoint, or from its allocation if it never had one.
func (s *Store) Collect(ctx context.Context, grace time.Duration) ([]identity.ID, error) {
	var gone []identity.ID
	err := s.withIdentities(ctx, func(c *identityCache, b *book) (bool, error) {
		now := s.opts.Now()
		inUse, err := s.identitiesInUse()
		if err != nil {
			return false, err
		}
		changed := false
		for id, until := range b.Quarantine {
			if !now.Before(until) {
				delete(b.Quarantine, id)
				changed = true
			}
		}
		for id := range b.Unused {
			if _, ok := c.labels[id]; !ok {
				delete(b.Unused, id)
				changed = true
			}
		}
		var due []identity.ID
		for id := identity.MinCluster; id <= identity.MaxCluster; id++ {
			if _, ok := c.labels[id]; !ok {
				continue
			}
			since, marked := b.Unused[id]
			switch {
			case inUse[id]:
				delete(b.Unused, id)
				changed = changed || marked
			case !marked:
				b.Unused[id] = now
				changed = true
			case now.Sub(since) >= grace:
				due = append(due, id)
				delete(b.Unused, id)
				b.Quarantine[id] = now.Add(grace)
				// Also what was written by hand must not come up again at once.
				b.Highest = max(b.Highest, id)
				changed = true
			}
		}
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
