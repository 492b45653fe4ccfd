package filestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// stamp changes when a file does, as far as the file system tells.
type stamp struct {
	inode             uint64
	size              int64
	modified, changed int64 // nanoseconds
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{inode: st.Ino, size: st.Size, modified: st.Mtim.Nano(), changed: st.Ctim.Nano()}
}

// index knows what every file of a directory defines and which definition of each object counts. It
// is not safe for concurrent use.
type index struct {
	dir       string
	files     map[string]*content       // by path below dir
	owners    map[manifest.Key][]string // files, sorted
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
		dir: dir, files: map[string]*content{}, owners: map[manifest.Key][]string{},
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
	var unread []string
	err := filepath.WalkDir(ix.dir, func(path string, d fs.DirEntry, err error) error {
		rel := "."
		if path != ix.dir {
			rel = path[len(ix.dir)+1:]
		}
		switch {
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
		if old := ix.files[rel]; old != nil {
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil && old.stamp == stampOf(&st) {
				seen[rel] = true
				return nil
			}
		}
		unread = append(unread, rel)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, c := range ix.readAll(unread) {
		if c != nil {
			seen[unread[i]] = true
			changed[unread[i]] = c
		}
	}
	ix.trouble = trouble
	for rel := range ix.files {
		if !seen[rel] && !below(rel, blind) {
			changed[rel] = nil
		}
	}
	return changed, nil
}

// readAll reads files on all processors; those that are not there, or no files, are nil.
func (ix *index) readAll(rels []string) []*content {
	out := make([]*content, len(rels))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(rels)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(rels)); i = next.Add(1) - 1 {
				if c, err := readContent(ix.dir, rels[i]); err == nil {
					out[i] = c
				}
			}
		})
	}
	wg.Wait()
	return out
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
	for i, c := range ix.readAll(rels) {
		if c == nil && (ix.files[rels[i]] == nil || isDir(filepath.Join(ix.dir, rels[i]))) {
			continue
		}
		changed[rels[i]] = c
	}
	return changed
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
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
	slices.SortFunc(keys, manifest.Key.Compare)
	var changes []manifest.Change
	for _, k := range keys {
		rel, def := ix.winner(k)
		switch {
		case def == nil:
			ix.good.forget(k)
			changes = append(changes, manifest.Change{Remove: k})
		case def.obj.Valid():
			ix.remember(rel, def)
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
	ix.good.flush()
	for _, c := range changed {
		c.drop()
	}
	return ix.assembler.Apply(changes)
}

// remember keeps the version of an object that takes effect.
func (ix *index) remember(rel string, def *definition) {
	if !ix.good.keeps(rel) || ix.good.has(def.obj.Key, rel, def.sum) {
		return
	}
	if doc := def.doc; doc != nil {
		ix.good.remember(def.obj.Key, rel, doc, def.sum)
		return
	}
	// It was taken in long ago, but did not count. If the file has changed meanwhile there is news to come.
	c, err := readContent(ix.dir, rel)
	if err != nil {
		return
	}
	for _, d := range c.defs {
		if d.obj.Key == def.obj.Key && d.sum == def.sum {
			ix.good.remember(d.obj.Key, rel, d.doc, d.sum)
			return
		}
	}
}

// drop lets go of the documents, which are taken in. It may be called on nil.
func (c *content) drop() {
	if c == nil {
		return
	}
	for i := range c.defs {
		c.defs[i].doc = nil
	}
}

// replace puts a file's content in the place of what it held, and marks the objects of both.
func (ix *index) replace(rel string, c *content, affected map[manifest.Key]bool) {
	before := ix.good.definedBefore(rel)
	if old := ix.files[rel]; old != nil {
		before = before[:0]
		for _, d := range old.defs {
			before = append(before, d.obj.Key)
		}
	}
	delete(ix.files, rel)
	for _, k := range before {
		affected[k] = true
		if left := slices.DeleteFunc(ix.owners[k], func(f string) bool { return f == rel }); len(left) > 0 {
			ix.owners[k] = left
		} else {
			delete(ix.owners, k)
		}
	}
	if c == nil {
		return
	}
	if c.unknown {
		for _, k := range before {
			if !c.defines(k) {
				c.defs = append(c.defs, definition{obj: manifest.Object{Key: k}})
			}
		}
	}
	ix.files[rel] = c
	for _, d := range c.defs {
		affected[d.obj.Key] = true
		owners := ix.owners[d.obj.Key]
		if at, is := slices.BinarySearch(owners, rel); !is {
			ix.owners[d.obj.Key] = slices.Insert(owners, at, rel)
		}
	}
}

func (c *content) defines(k manifest.Key) bool {
	return slices.ContainsFunc(c.defs, func(d definition) bool { return d.obj.Key == k })
}

// winner returns the definition of an object that counts, nil if there is none: of the file that
// comes first by name the first. A file that merely may still define it gives way to one that does.
func (ix *index) winner(k manifest.Key) (rel string, def *definition) {
	for _, file := range ix.owners[k] {
		defs := ix.files[file].defs
		for i := range defs {
			if defs[i].obj.Key != k {
				continue
			}
			if defs[i].stated {
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
	for k := range ix.good.records {
		if len(ix.owners[k]) == 0 {
			ix.good.forget(k)
		}
	}
	ix.good.flush()
	clear(ix.good.restored)
}

// inOrder says quickly that there is nothing to find about a file.
func (ix *index) inOrder(c *content) bool {
	if len(c.findings) > 0 {
		return false
	}
	for i := range c.defs {
		d := &c.defs[i]
		if len(d.findings) > 0 || !d.obj.Valid() || len(ix.owners[d.obj.Key]) > 1 || len(ix.assembler.Findings()[d.obj.Key]) > 0 {
			return false
		}
	}
	return len(c.defs) < 2 || !c.repeats()
}

// repeats says whether an object is defined twice.
func (c *content) repeats() bool {
	seen := make(map[manifest.Key]bool, len(c.defs))
	for i := range c.defs {
		seen[c.defs[i].obj.Key] = true
	}
	return len(seen) < len(c.defs)
}

// findings lists what is wrong, by file.
func (ix *index) findings() []cluster.Finding {
	out := append([]cluster.Finding(nil), ix.trouble...)
	if ix.blind != "" {
		out = append(out, cluster.Finding{File: ix.dir, Message: ix.blind, Warning: true})
	}
	out = append(out, ix.good.trouble()...)
	var doubtful []string
	for rel, c := range ix.files {
		if !ix.inOrder(c) {
			doubtful = append(doubtful, rel)
		}
	}
	slices.Sort(doubtful)
	for _, rel := range doubtful {
		c := ix.files[rel]
		out = append(out, c.findings...)
		seen := map[manifest.Key]bool{}
		for i := range c.defs {
			d := &c.defs[i]
			if !d.stated {
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
			for _, f := range ix.assembler.Findings()[d.obj.Key] {
				f.File = about.File
				out = append(out, f)
			}
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
