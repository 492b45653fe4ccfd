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

	"github.com/fsnotify/fsnotify"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// After a notification Watch waits until nothing happened for quiet, but no longer than patience: a
// file that is being written is not read half, and a file that moves is seen to move.
const (
	quiet    = 30 * time.Millisecond
	patience = 300 * time.Millisecond
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
	w := &watch{ix: newIndex(s.opts.Dir, good), store: s, deliver: deliver, dirty: map[string]bool{}}
	every := s.opts.Rescan
	notes, err := fsnotify.NewWatcher()
	if err == nil {
		defer notes.Close()
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
	ix      *index
	store   *Store
	deliver func(cluster.Event)
	notes   *fsnotify.Watcher // nil: none to be had
	dirty   map[string]bool   // files to read again
	all     bool              // look at everything
}

func (w *watch) run(ctx context.Context, every time.Duration) {
	rescan := time.NewTicker(every)
	defer rescan.Stop()
	var notes <-chan fsnotify.Event
	var faults <-chan error
	if w.notes != nil {
		notes, faults = w.notes.Events, w.notes.Errors
	}
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	var since time.Time // of the first note not yet acted on
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-notes:
			if !ok {
				notes = nil
				continue
			}
			if !w.take(e) {
				continue
			}
		case _, ok := <-faults:
			if !ok {
				faults = nil
				continue
			}
			w.all = true // notifications were lost
		case <-rescan.C:
			w.all = true
			w.act()
			since = time.Time{}
			continue
		case <-settled.C:
			w.act()
			since = time.Time{}
			continue
		}
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		settled.Reset(max(0, min(quiet, patience-now.Sub(since))))
	}
}

// take notes what a notification is about, and says whether it matters.
func (w *watch) take(e fsnotify.Event) bool {
	rel, err := filepath.Rel(w.ix.dir, e.Name)
	if err != nil {
		return false
	}
	switch {
	case strings.HasPrefix(filepath.Base(rel), ".."):
		w.all = true // the directory that a mounted ConfigMap's files lead through
	case hidden(rel):
		return false
	case isManifest(rel):
		if e.Op == fsnotify.Chmod && w.ix.files[rel] != nil && !w.ix.files[rel].unknown {
			return false
		}
		w.dirty[rel] = true
	case e.Op == fsnotify.Write || e.Op == fsnotify.Chmod:
		return false
	default:
		w.all = true // perhaps a directory
	}
	return true
}

// act reads what may have changed and delivers what follows.
func (w *watch) act() {
	w.store.mu.Lock()
	changed := w.ix.look(sorted(w.dirty))
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
	w.dirty = map[string]bool{}
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
		if err := w.notes.Add(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		w.ix.blind = fmt.Sprintf("not every directory gives notifications (%v), so some changes are seen only every %s", err, w.store.opts.Rescan)
	}
}
