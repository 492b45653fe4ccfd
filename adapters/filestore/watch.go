package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// After a notification Watch waits a little: several files that change together are best seen together. A
// file that is complete waits until nothing happened for gather, but no longer than gatherMost. One that
// is being written or went waits for quiet, but no longer than patience: it is not read half, and a file
// that moves, or that an editor puts back under its name, is never seen to be gone.
const (
	gather     = 500 * time.Microsecond
	gatherMost = 20 * time.Millisecond
	quiet      = 30 * time.Millisecond
	patience   = 300 * time.Millisecond
	// polling is how often everything is looked at when the kernel gives no notifications.
	polling = time.Second
)

// Watch implements ports.Source. It returns nil when the context ends; ErrConflict if another Watch
// of the Store runs. A directory that vanishes is an outage: what was said stays true.
func (s *Store) Watch(ctx context.Context, deliver func(cluster.Event)) error {
	s.mu.Lock()
	if s.watching {
		s.mu.Unlock()
		return fmt.Errorf("watch %s: already watched: %w", s.opts.Dir, ports.ErrConflict)
	}
	s.watching = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watching = false
		s.mu.Unlock()
	}()

	good, err := openLastGood(s.opts.StateDir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.opts.Dir, err)
	}
	defer func() {
		s.mu.Lock()
		good.close()
		s.mu.Unlock()
	}()
	w := &watch{ix: newIndex(s.opts.Dir, good), store: s, deliver: deliver, complete: map[string]bool{}, unsettled: map[string]bool{}}
	every := s.opts.Rescan
	notes, err := newNotifier()
	if err == nil {
		defer notes.close()
		w.notes = notes
		w.addDirs()
	} else {
		w.ix.blind = fmt.Sprintf("the kernel gives no notifications (%v), so changes are looked for every %s", err, polling)
		every = min(every, polling)
	}
	changed, err := w.ix.scan()
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.opts.Dir, err)
	}
	s.mu.Lock()
	s.state = w.ix
	events := w.ix.update(changed)
	w.ix.prune()
	s.mu.Unlock()
	for _, e := range events {
		deliver(e)
	}
	deliver(cluster.Synced{})
	w.run(ctx, every)
	return nil
}

// watch is the state of one Watch.
type watch struct {
	ix        *index
	store     *Store
	deliver   func(cluster.Event)
	notes     *notifier       // nil: none to be had
	complete  map[string]bool // files to read again, soon
	unsettled map[string]bool // once they have come to rest
	all       bool            // look at everything, likewise
}

// pause is a wait that news prolong, up to a bound.
type pause struct {
	timer       *time.Timer
	least, most time.Duration
	since       time.Time // of the first news; zero: nothing waits
}

func newPause(least, most time.Duration) *pause {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &pause{timer: t, least: least, most: most}
}

func (p *pause) prolong() {
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
	}
	p.timer.Reset(max(0, min(p.least, p.most-now.Sub(p.since))))
}

func (p *pause) end() {
	p.timer.Stop()
	p.since = time.Time{}
}

func (w *watch) run(ctx context.Context, every time.Duration) {
	rescan := time.NewTicker(every)
	defer rescan.Stop()
	var notes <-chan []note
	if w.notes != nil {
		notes = w.notes.notes
	}
	soon, later := newPause(gather, gatherMost), newPause(quiet, patience)
	defer soon.end()
	defer later.end()
	for {
		select {
		case <-ctx.Done():
			return
		case list, ok := <-notes:
			if !ok {
				notes = nil
				continue
			}
			for _, n := range list {
				switch complete, matters := w.take(n); {
				case complete:
					soon.prolong()
				case matters:
					later.prolong()
				}
			}
		case <-soon.timer.C:
			soon.end()
			if w.actOnComplete() {
				later.prolong()
			}
		case <-later.timer.C:
			soon.end()
			later.end()
			w.act()
		case <-rescan.C:
			soon.end()
			later.end()
			w.all = true
			w.act()
		}
	}
}

// take notes what a notification is about, and says whether it matters and whether it does soon.
func (w *watch) take(n note) (complete, matters bool) {
	rel, err := filepath.Rel(w.ix.dir, n.path)
	if err != nil {
		return false, false
	}
	switch {
	case n.kind == noteLost, strings.HasPrefix(filepath.Base(rel), ".."):
		w.all = true // the latter: the directory that a mounted ConfigMap's files lead through
	case hidden(rel):
		return false, false
	case n.kind == noteDirectory:
		w.all = true
	case !isManifest(rel):
		return false, false
	case n.kind == noteComplete:
		w.complete[rel] = true
		delete(w.unsettled, rel)
		return true, true
	case n.kind == noteAttributes && w.ix.files[rel] != nil && !w.ix.files[rel].unknown:
		return false, false
	default:
		w.unsettled[rel] = true
		delete(w.complete, rel)
	}
	return false, true
}

// actOnComplete takes in the files that are complete, and says whether it left some for later: those that
// have gone since.
func (w *watch) actOnComplete() (left bool) {
	if w.all {
		w.act()
		return false
	}
	w.store.mu.Lock()
	changed := w.ix.look(sorted(w.complete))
	for rel, c := range changed {
		if c == nil {
			delete(changed, rel)
			w.unsettled[rel] = true
			left = true
		}
	}
	clear(w.complete)
	w.takeIn(changed)
	return left
}

// act reads what may have changed and delivers what follows.
func (w *watch) act() {
	w.store.mu.Lock()
	for rel := range w.complete {
		w.unsettled[rel] = true
	}
	changed := w.ix.look(sorted(w.unsettled))
	if w.all {
		w.addDirs()
		scanned, err := w.ix.scan()
		if err != nil {
			w.ix.trouble = []cluster.Finding{{File: w.ix.dir,
				Message: fmt.Sprintf("can't be listed: %v; what it last held stays in force", err)}}
		} else {
			w.all = false
		}
		for rel, c := range scanned {
			changed[rel] = c
		}
	}
	clear(w.complete)
	clear(w.unsettled)
	w.takeIn(changed)
}

// takeIn updates the index, which is locked, unlocks it and delivers what follows.
func (w *watch) takeIn(changed map[string]*content) {
	events := w.ix.update(changed)
	w.store.mu.Unlock()
	for _, e := range events {
		w.deliver(e)
	}
}

// addDirs asks for notifications from every directory; those already asked for cost nothing.
func (w *watch) addDirs() {
	if w.notes == nil {
		return
	}
	w.ix.blind = ""
	err := filepath.WalkDir(w.ix.dir, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(w.ix.dir, path)
		if err != nil || relErr != nil {
			return nil // the scan tells of it
		}
		if !d.IsDir() {
			return nil
		}
		if hidden(rel) {
			return fs.SkipDir
		}
		if err := w.notes.watch(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		w.ix.blind = fmt.Sprintf("not every directory gives notifications (%v), so some changes are seen only every %s", err, w.store.opts.Rescan)
	}
}
