package kubernetes

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// After news Watch waits a little: several objects that change together are best seen together.
const gather = 500 * time.Microsecond

type changeKind uint8

const (
	put     changeKind = iota // the object is there, and in order
	refused                   // it is there, and the last good version stays in force
	removed                   // it is gone
)

// change is news of one object.
type change struct {
	kind     changeKind
	key      manifest.Key
	version  uint64 // of the object, or of the list that lacks it
	object   manifest.Object
	findings []cluster.Finding
	doc      []byte // of kinds that are kept over a restart
}

// hub gathers the changes of all kinds until Watch takes them. Of several changes of an object the last
// counts, so it holds at most one of each.
type hub struct {
	mu      sync.Mutex
	pending map[manifest.Key]change
	missing map[string]bool // kinds whose first list is not complete
	wake    chan struct{}   // holds a token while there is something to take
}

func newHub(kinds []kind) *hub {
	h := &hub{pending: map[manifest.Key]change{}, missing: map[string]bool{}, wake: make(chan struct{}, 1)}
	for _, k := range kinds {
		h.missing[k.name] = true
	}
	return h
}

// push takes changes in. listed says that they complete a list of the kind.
func (h *hub) push(kind string, listed bool, changes ...change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		if old, ok := h.pending[c.key]; ok && c.kind == refused && old.kind != refused {
			// What came before takes effect all the same, be it that the object went; only what is found
			// counts anew.
			old.findings = c.findings
			h.pending[c.key] = old
			continue
		}
		h.pending[c.key] = c
	}
	if listed {
		delete(h.missing, kind)
	}
	if len(h.missing) == 0 {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// take returns what was gathered.
func (h *hub) take() []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]change, 0, len(h.pending))
	for _, c := range h.pending {
		out = append(out, c)
	}
	clear(h.pending)
	if len(out) > 10_000 {
		h.pending = map[manifest.Key]change{} // maps don't shrink
	}
	return out
}

// Watch implements ports.Source. It returns nil when the context ends; ErrConflict if another Watch of the
// Store runs. Nothing is delivered before the first list of every kind is complete; a kind that isn't defined
// in the cluster yet is waited for.
func (s *Store) Watch(ctx context.Context, deliver func(cluster.Event)) error {
	s.mu.Lock()
	if s.watching {
		s.mu.Unlock()
		return fmt.Errorf("watch %s: already watched: %w", s.config.Host, ports.ErrConflict)
	}
	s.watching = true
	s.assembler = manifest.NewAssembler()
	clear(s.findings)
	clear(s.trouble)
	clear(s.published)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watching = false
	}()

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	all := kinds(s.opts)
	h := newHub(all)
	gone := newOutage(s.probeServer)
	running.Go(func() { gone.run(ctx) })
	for _, k := range all {
		r := &reflector{store: s, hub: h, gone: gone, kind: k, known: map[objectName]seen{}, seed: maphash.MakeSeed()}
		running.Go(func() { r.run(ctx) })
	}
	wait := time.NewTimer(0)
	<-wait.C
	synced := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		}
		wait.Reset(gather)
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		news := h.take()
		events := s.takeIn(news)
		if !synced {
			s.pruneGood(news)
		}
		news = nil // the first news are all there is: whoever takes them in needs the memory
		for i, e := range events {
			deliver(e)
			events[i] = nil
		}
		if !synced {
			synced = true
			s.opts.Log.Info("the cluster's objects are known", "server", s.config.Host)
			deliver(cluster.Synced{})
		}
	}
}

// takeIn applies changes and returns the events that follow.
func (s *Store) takeIn(news []change) []cluster.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(news, func(a, b change) int { return a.key.Compare(b.key) })
	changes := make([]manifest.Change, 0, len(news))
	var gone []cluster.Event
	for _, c := range news {
		if len(c.findings) > 0 {
			s.findings[c.key] = c.findings
		} else {
			delete(s.findings, c.key)
		}
		switch c.kind {
		case put:
			s.good.keep(c.key, c.doc)
			changes = append(changes, manifest.Change{Put: c.object})
		case removed:
			s.good.forget(c.key)
			if c.key.Kind == manifest.KindCiliumEndpoint {
				delete(s.published, cluster.Name{Namespace: c.key.Namespace, Name: c.key.Name})
			}
			changes = append(changes, manifest.Change{Remove: c.key})
		case refused:
			if _, inForce := s.assembler.Get(c.key); inForce {
				break
			}
			if o, ok := s.good.recall(c.key); ok {
				changes = append(changes, manifest.Change{Put: o})
			}
		}
		if c.key.Kind == manifest.KindCiliumIdentity && c.kind != refused {
			if e := s.settleHanded(c); e != nil {
				gone = append(gone, e)
			}
		}
	}
	return append(s.assembler.Apply(changes), gone...)
}

// pruneGood forgets the last good versions of objects that the first lists, which news are, don't name.
func (s *Store) pruneGood(news []change) {
	there := map[manifest.Key]bool{}
	for _, c := range news {
		there[c.key] = c.kind != removed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good.prune(func(k manifest.Key) bool { return there[k] })
}

// settleHanded forgets that an identity was handed out once the watch tells of it. If it tells that the
// identity is gone and never told that it was there, nobody else would: that is the event.
func (s *Store) settleHanded(c change) cluster.Event {
	n, err := strconv.ParseUint(c.key.Name, 10, 32)
	id := identity.ID(n)
	given, ok := s.handed[id]
	if err != nil || !ok || c.version < given.version {
		return nil
	}
	delete(s.handed, id)
	if _, known := s.assembler.Get(c.key); known || c.kind != removed {
		return nil
	}
	return cluster.IdentityDelete{ID: id}
}

// vanished lists the identities that Allocate handed out and that a list of this version lacks.
func (s *Store) vanished(listed map[objectName]seen, at uint64) []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []change
	for id, given := range s.handed {
		key := identityKey(id)
		if _, ok := listed[objectName{name: key.Name}]; !ok && given.version <= at {
			out = append(out, change{kind: removed, key: key, version: at})
		}
	}
	return out
}

// troubled notes why nothing is heard of a kind; empty: it is. It says whether there was trouble before.
func (s *Store) troubled(kind, why string) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, before = s.trouble[kind]
	if why == "" {
		delete(s.trouble, kind)
	} else {
		s.trouble[kind] = cluster.Finding{Object: kind, Message: why, Warning: true}
	}
	return before
}

// sawNode notes the UID of this node's object.
func (s *Store) sawNode(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodeUID = types.UID(uid)
}

// Findings implements ports.Source, by object. Before the first Watch there are none.
func (s *Store) Findings() []cluster.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.good.trouble()
	for _, kind := range sorted(s.trouble, func(a, b string) bool { return a < b }) {
		out = append(out, s.trouble[kind])
	}
	inForce := s.assembler.Findings() // of what the objects in force come to
	keys := map[manifest.Key]bool{}
	for k := range s.findings {
		keys[k] = true
	}
	for k := range inForce {
		keys[k] = true
	}
	for _, k := range sorted(keys, manifest.Key.Less) {
		all := s.findings[k]
		out = append(out, all...)
		out = append(out, inForce[k]...)
		if !slices.ContainsFunc(all, func(f cluster.Finding) bool { return !f.Warning }) {
			continue
		}
		about := cluster.Finding{Object: k.String(), Message: "refused; nothing of it is in force"}
		if _, ok := s.assembler.Get(k); ok {
			about.Message = "refused; its last good version stays in force"
		}
		out = append(out, about)
	}
	return out
}

func sorted[K comparable, V any](m map[K]V, less func(a, b K) bool) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b K) int {
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return 0
	})
	return out
}
