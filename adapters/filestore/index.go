package filestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// stamp changes when a file does, as far as the file system tells.
type stamp struct {
	size         int64
	modified     time.Time
	inode        uint64
	changedSec   int64
	changedNanos int64
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{size: fi.Size(), modified: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode, s.changedSec, s.changedNanos = st.Ino, st.Ctim.Sec, st.Ctim.Nsec
	}
	return s
}

// index knows what every file of a directory defines and which definition of each object counts. It
// is not safe for concurrent use.
type index struct {
	dir       string
	files     map[string]*content // by path below dir
	owners    map[manifest.Key]map[string]bool
	assembler *manifest.Assembler
	good      *lastGood
	trouble   []cluster.Finding // of the last scan
	blind     string            // why changes may be seen late; empty: they are not
}

func newIndex(dir string, good *lastGood) *index {
	if good == nil {
		good = newLastGood("")
	}
	return &index{
		dir: dir, files: map[string]*content{}, owners: map[manifest.Key]map[string]bool{},
		assembler: manifest.NewAssembler(), good: good,
	}
}

// scan looks at every file and returns the contents of those that changed since they were last taken
// in; nil stands for a file that is gone. The error is for the directory itself; then nothing is
// known to have changed.
func (ix *index) scan() (map[string]*content, error) {
	changed := map[string]*content{}
	seen := map[string]bool{}
	var trouble []cluster.Finding
	var blind []string // directories that can't be listed: what they held stays
	err := filepath.WalkDir(ix.dir, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(ix.dir, path)
		switch {
		case relErr != nil:
			return relErr
		case err != nil && rel == ".":
			return err
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			blind = append(blind, rel)
			trouble = append(trouble, cluster.Finding{File: path, Message: "can't be listed: " + err.Error() + "; what it last held stays in force"})
			return fs.SkipDir
		case hidden(rel) && d.IsDir():
			return fs.SkipDir
		case d.IsDir() || !isManifest(rel):
			return nil
		}
		fi, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		var st stamp
		if err == nil {
			if fi.IsDir() {
				return nil
			}
			st = stampOf(fi)
		}
		seen[rel] = true
		if old := ix.files[rel]; old != nil && err == nil && old.stamp == st {
			return nil
		}
		c, err := readContent(ix.dir, rel, st)
		if err != nil {
			delete(seen, rel)
			return nil
		}
		changed[rel] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	ix.trouble = trouble
	for rel := range ix.files {
		if !seen[rel] && !below(rel, blind) {
			changed[rel] = nil
		}
	}
	return changed, nil
}

func below(rel string, dirs []string) bool {
	for _, d := range dirs {
		if len(rel) > len(d) && rel[:len(d)] == d && rel[len(d)] == filepath.Separator {
			return true
		}
	}
	return false
}

// look reads some files again, whatever their stamp says. With the directory itself gone nothing is
// known to have changed.
func (ix *index) look(rels []string) map[string]*content {
	changed := map[string]*content{}
	if _, err := os.Stat(ix.dir); err != nil {
		return changed
	}
	for _, rel := range rels {
		fi, err := os.Stat(filepath.Join(ix.dir, rel))
		if err == nil && fi.IsDir() {
			continue
		}
		var st stamp
		if err == nil {
			st = stampOf(fi)
		}
		c, err := readContent(ix.dir, rel, st)
		if err != nil && ix.files[rel] == nil {
			continue
		}
		changed[rel] = c
	}
	return changed
}

// update takes in contents and returns the events that follow.
func (ix *index) update(changed map[string]*content) []cluster.Event {
	affected := map[manifest.Key]bool{}
	for _, rel := range sorted(changed) {
		ix.replace(rel, changed[rel], affected)
	}
	keys := make([]manifest.Key, 0, len(affected))
	for k := range affected {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].Less(keys[j]) })
	var changes []manifest.Change
	for _, k := range keys {
		rel, def := ix.winner(k)
		switch {
		case def == nil:
			ix.good.forget(k)
			changes = append(changes, manifest.Change{Remove: k})
		case def.obj.Valid():
			ix.good.remember(k, rel, def.doc)
			changes = append(changes, manifest.Change{Put: def.obj})
		default:
			if _, inForce := ix.assembler.Get(k); inForce {
				continue
			}
			if o, ok := ix.good.recall(k); ok {
				changes = append(changes, manifest.Change{Put: o})
			}
		}
	}
	return ix.assembler.Apply(changes)
}

// replace puts a file's content in the place of what it held, and marks the objects of both.
func (ix *index) replace(rel string, c *content, affected map[manifest.Key]bool) {
	before := map[manifest.Key]bool{}
	if old := ix.files[rel]; old != nil {
		for _, d := range old.defs {
			before[d.obj.Key] = true
		}
	} else {
		for _, k := range ix.good.definedBy(rel) {
			before[k] = true
		}
	}
	delete(ix.files, rel)
	for k := range before {
		affected[k] = true
		delete(ix.owners[k], rel)
		if len(ix.owners[k]) == 0 {
			delete(ix.owners, k)
		}
	}
	if c == nil {
		return
	}
	now := map[manifest.Key]bool{}
	for _, d := range c.defs {
		now[d.obj.Key] = true
	}
	if c.unknown {
		for k := range before {
			if !now[k] {
				now[k] = true
				c.defs = append(c.defs, definition{obj: manifest.Object{Key: k}})
			}
		}
	}
	ix.files[rel] = c
	for k := range now {
		affected[k] = true
		if ix.owners[k] == nil {
			ix.owners[k] = map[string]bool{}
		}
		ix.owners[k][rel] = true
	}
}

// winner returns the definition of an object that counts, nil if there is none: of the file that
// comes first by name the first. A file that merely may still define it gives way to one that does.
func (ix *index) winner(k manifest.Key) (rel string, def *definition) {
	for _, file := range sorted(ix.owners[k]) {
		defs := ix.files[file].defs
		for i := range defs {
			if defs[i].obj.Key != k {
				continue
			}
			if defs[i].doc != nil {
				return file, &defs[i]
			}
			if def == nil {
				rel, def = file, &defs[i]
			}
			break
		}
	}
	return rel, def
}

// prune forgets the last good versions of objects that nothing defines any more. Call it once the
// first scan was taken in.
func (ix *index) prune() {
	for _, k := range ix.good.keys() {
		if len(ix.owners[k]) == 0 {
			ix.good.forget(k)
		}
	}
}

// findings lists what is wrong, by file.
func (ix *index) findings() []cluster.Finding {
	out := append([]cluster.Finding(nil), ix.trouble...)
	if ix.blind != "" {
		out = append(out, cluster.Finding{File: ix.dir, Message: ix.blind, Warning: true})
	}
	out = append(out, ix.good.trouble()...)
	for _, rel := range sorted(ix.files) {
		c := ix.files[rel]
		out = append(out, c.findings...)
		seen := map[manifest.Key]bool{}
		for i := range c.defs {
			d := &c.defs[i]
			if d.doc == nil {
				continue
			}
			file, winner := ix.winner(d.obj.Key)
			about := cluster.Finding{File: filepath.Join(ix.dir, rel), Object: d.obj.Key.String()}
			switch {
			case file != rel:
				about.Message = "defined before in " + filepath.Join(ix.dir, file) + ", which counts; remove one of the two"
				out = append(out, about)
				continue
			case seen[d.obj.Key]:
				about.Message = "defined before in this file, where the first counts; remove one of the two"
				out = append(out, about)
				continue
			}
			seen[d.obj.Key] = true
			out = append(out, d.findings...)
			if winner.obj.Valid() {
				continue
			}
			about.Message = "refused; nothing of it is in force"
			if _, ok := ix.assembler.Get(d.obj.Key); ok {
				about.Message = "refused; its last good version stays in force"
			}
			out = append(out, about)
		}
	}
	return out
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
