package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// lastGood keeps the last good version of each policy and CIDR group over a restart, one file each. A mistake in one must
// not open what its former version closed; other kinds are not kept. The server is the truth: who is missing
// there is forgotten here. It belongs to one Watch at a time.
type lastGood struct {
	dir    string // empty: nothing is kept; versions in force are in memory anyway
	failed error  // of the last write
}

const (
	goodPrefix = "good-"
	goodSuffix = ".json"
)

// keptOverRestart says whether the last good versions of a kind are kept.
func keptOverRestart(kind string) bool {
	switch kind {
	case manifest.KindNetworkPolicy, manifest.KindCiliumNetworkPolicy, manifest.KindCiliumClusterwideNetworkPolicy,
		manifest.KindClusterNetworkPolicy, manifest.KindAdminNetworkPolicy, manifest.KindBaselineAdminNetworkPolicy,
		manifest.KindCiliumCIDRGroup:
		return true
	}
	return false
}

// path is distinct for each object; names may be longer than file names.
func (g *lastGood) path(k manifest.Key) string {
	sum := sha256.Sum256([]byte(k.Kind + "\x00" + k.Namespace + "\x00" + k.Name))
	return filepath.Join(g.dir, fmt.Sprintf("%s%x%s", goodPrefix, sum[:16], goodSuffix))
}

func (g *lastGood) keeps(k manifest.Key) bool { return g.dir != "" && keptOverRestart(k.Kind) }

// keep notes a version that takes effect.
func (g *lastGood) keep(k manifest.Key, doc []byte) {
	if !g.keeps(k) {
		return
	}
	path := g.path(k)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, doc) {
		return
	}
	g.failed = replaceFile(path, doc)
}

// replaceFile writes a file so that a crash leaves the old one or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// recall returns the version kept.
func (g *lastGood) recall(k manifest.Key) (manifest.Object, bool) {
	if !g.keeps(k) {
		return manifest.Object{}, false
	}
	doc, err := os.ReadFile(g.path(k))
	if err != nil {
		return manifest.Object{}, false
	}
	o, _ := manifest.Decode("", doc)
	return o, o.Valid() && o.Key == k
}

// forget drops the version kept, if there is one.
func (g *lastGood) forget(k manifest.Key) {
	if !g.keeps(k) {
		return
	}
	if err := os.Remove(g.path(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
		g.failed = err
	}
}

// prune forgets every version but those of the objects that there are.
func (g *lastGood) prune(exists func(manifest.Key) bool) {
	if g.dir == "" {
		return
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		g.failed = err
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), goodPrefix) || !strings.HasSuffix(e.Name(), goodSuffix) {
			continue
		}
		path := filepath.Join(g.dir, e.Name())
		doc, err := os.ReadFile(path)
		if err == nil {
			if o, _ := manifest.Decode("", doc); o.Known() && exists(o.Key) {
				continue
			}
		}
		os.Remove(path)
	}
}

func (g *lastGood) trouble() []cluster.Finding {
	if g.failed == nil {
		return nil
	}
	return []cluster.Finding{{File: g.dir, Warning: true,
		Message: fmt.Sprintf("the last good versions of policies can't be kept, so a restart would lose them: %v", g.failed)}}
}
