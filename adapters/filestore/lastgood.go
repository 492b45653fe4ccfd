package filestore

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// lastGood keeps the last good version of each manifest in a directory. What agents publish is not
// kept: it is written whole, and anew after a restart.
type lastGood struct {
	dir     string // empty: nothing is kept; versions in force are in memory anyway
	records map[manifest.Key]goodRecord
	failed  error // of the last write
}

type goodRecord struct {
	File   string          `json:"file"` // below the watched directory
	Object json.RawMessage `json:"object"`
}

func newLastGood(dir string) *lastGood {
	return &lastGood{dir: dir, records: map[manifest.Key]goodRecord{}}
}

// openLastGood reads what an earlier process kept. A record that can't be read is none.
func openLastGood(dir string) (*lastGood, error) {
	g := newLastGood(dir)
	if dir == "" {
		return g, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read last good versions: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || hidden(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read last good versions: %w", err)
		}
		var rec goodRecord
		if json.Unmarshal(data, &rec) != nil {
			continue
		}
		if o, _ := manifest.Decode("", rec.Object); o.Valid() && recordName(o.Key) == e.Name() {
			g.records[o.Key] = rec
		}
	}
	return g, nil
}

// recordName names the file of an object's version. The names of long objects are cut, so that what
// keeps them apart is the checksum.
func recordName(k manifest.Key) string {
	name := k.Kind + "_" + k.Namespace + "_" + k.Name
	return fmt.Sprintf("%.150s-%.8x.json", name, sha256.Sum256([]byte(name)))
}

func (g *lastGood) remember(k manifest.Key, file string, doc []byte) {
	if g.dir == "" || strings.HasPrefix(filepath.ToSlash(file), statusDir+"/") {
		return
	}
	rec := goodRecord{file, doc}
	if old, ok := g.records[k]; ok && old.File == rec.File && string(old.Object) == string(rec.Object) {
		return
	}
	data, err := json.Marshal(rec)
	if err == nil {
		err = writeFile(filepath.Join(g.dir, recordName(k)), data, false)
	}
	g.failed = err
	if err == nil {
		g.records[k] = rec
	}
}

func (g *lastGood) forget(k manifest.Key) {
	if _, ok := g.records[k]; !ok {
		return
	}
	if err := os.Remove(filepath.Join(g.dir, recordName(k))); err != nil && !os.IsNotExist(err) {
		g.failed = err
		return
	}
	delete(g.records, k)
}

// recall returns the version kept.
func (g *lastGood) recall(k manifest.Key) (manifest.Object, bool) {
	rec, ok := g.records[k]
	if !ok {
		return manifest.Object{}, false
	}
	o, _ := manifest.Decode("", rec.Object)
	return o, o.Valid()
}

// definedBy lists the objects whose kept version came from a file.
func (g *lastGood) definedBy(file string) []manifest.Key {
	var out []manifest.Key
	for _, k := range g.keys() {
		if g.records[k].File == file {
			out = append(out, k)
		}
	}
	return out
}

func (g *lastGood) keys() []manifest.Key {
	out := make([]manifest.Key, 0, len(g.records))
	for k := range g.records {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Less(out[j]) })
	return out
}

func (g *lastGood) trouble() []cluster.Finding {
	if g.failed == nil {
		return nil
	}
	return []cluster.Finding{{File: g.dir, Warning: true,
		Message: fmt.Sprintf("the last good versions can't be kept, so a restart would lose them: %v", g.failed)}}
}
