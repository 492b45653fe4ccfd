package filestore

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports/porttest"
)

// A file that was put in its place as a whole is taken in at once; the pause for files that are being written is
// not spent on it.
func TestCompleteFilesDoNotWait(t *testing.T) {
	dir := t.TempDir()
	w := watched(t, open(t, Options{Dir: dir}))
	best := time.Hour
	for i := range 20 {
		port := string(rune('a' + i))
		tmp := filepath.Join(dir, ".new")
		require.NoError(t, os.WriteFile(tmp, []byte(policyYAML("p"+port, "80")), 0o644))
		start := time.Now()
		require.NoError(t, os.Rename(tmp, filepath.Join(dir, "p"+port+".yaml")))
		w.Eventually(t, "the file", func(k porttest.Known) bool { return portOf(k, "p"+port) == 80 })
		best = min(best, time.Since(start))
	}
	assert.Less(t, best, quiet, "not one of twenty was taken in before the pause was over")
}

// What is written in place is not read before its writer closes it, or pauses.
func TestFilesBeingWrittenWait(t *testing.T) {
	dir := t.TempDir()
	w := watched(t, open(t, Options{Dir: dir}))
	f, err := os.Create(filepath.Join(dir, "a.yaml"))
	require.NoError(t, err)
	_, err = f.WriteString(policyYAML("a", "80"))
	require.NoError(t, err)
	w.Eventually(t, "after the pause", func(k porttest.Known) bool { return portOf(k, "a") == 80 })
	_, err = f.WriteString("---" + policyYAML("b", "81"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	w.Eventually(t, "after closing", func(k porttest.Known) bool { return portOf(k, "b") == 81 })
}

// Editors move the file away, write another and remove the old one: the object is there all the time.
func TestReplacedFileIsNeverGone(t *testing.T) {
	for range 20 {
		if replaceTwice(t) {
			return
		}
	}
	t.Fatal("not one of twenty times was the file back in time")
}

// replaceTwice says whether the file was back within quiet, both times: a busy machine may take longer than that
// between two lines, and then the file was gone indeed.
func replaceTwice(t *testing.T) (intime bool) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80")})
	w := watched(t, open(t, Options{Dir: dir}))
	path := filepath.Join(dir, "a.yaml")
	gone := time.Now()
	require.NoError(t, os.Rename(path, path+"~"))
	time.Sleep(quiet / 6) // longer than complete files wait
	require.NoError(t, os.WriteFile(path, []byte(policyYAML("a", "81")), 0o644))
	intime = time.Since(gone) < quiet
	require.NoError(t, os.Remove(path+"~"))
	w.Eventually(t, "the new version", func(k porttest.Known) bool { return portOf(k, "a") == 81 })
	// A file that is gone before it was looked at may come back, too.
	gone = time.Now()
	require.NoError(t, os.WriteFile(path, []byte(policyYAML("a", "82")), 0o644))
	require.NoError(t, os.Remove(path))
	time.Sleep(quiet / 6)
	require.NoError(t, os.WriteFile(path, []byte(policyYAML("a", "83")), 0o644))
	intime = intime && time.Since(gone) < quiet
	w.Eventually(t, "the latest version", func(k porttest.Known) bool { return portOf(k, "a") == 83 })
	if intime {
		for _, e := range w.Events() {
			_, deleted := e.(cluster.PolicyDelete)
			assert.False(t, deleted)
		}
	}
	return intime
}

// Several processes' worth of versions: what is superseded makes room.
func TestLogOfVersionsDoesNotGrow(t *testing.T) {
	dir := t.TempDir()
	g, err := openLastGood(dir)
	require.NoError(t, err)
	ns := func(i byte) []byte {
		return []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","annotations":{"a":"` + string(make20k(i)) + `"}}}`)
	}
	var o [2]bool
	for i := range 1000 {
		doc := ns('a' + byte(i%20))
		g.remember(namespaceKey, "a.yaml", doc, checksumOf(doc))
		g.flush()
	}
	require.Empty(t, g.trouble())
	fi, err := os.Stat(filepath.Join(dir, goodLog))
	require.NoError(t, err)
	assert.Less(t, fi.Size(), int64(2*compactAt))
	_, o[0] = g.recall(namespaceKey)
	g.close()
	g, err = openLastGood(dir)
	require.NoError(t, err)
	defer g.close()
	_, o[1] = g.recall(namespaceKey)
	assert.Equal(t, [2]bool{true, true}, o)
}

var namespaceKey = manifest.Key{Kind: manifest.KindNamespace, Name: "shop"}

func make20k(c byte) []byte { return bytes.Repeat([]byte{c}, 20_000) }

// The note that a file is complete may be older than the file's end.
func TestCompleteFileThatIsGoneWaits(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80")})
	ix := newIndex(dir, nil)
	res, err := ix.scan()
	require.NoError(t, err)
	require.Len(t, ix.update(res), 1)
	var told []cluster.Event
	w := &watch{ix: ix, store: open(t, Options{Dir: dir}), deliver: func(e cluster.Event) { told = append(told, e) },
		complete: map[string]bool{"a.yaml": true}, unsettled: map[string]bool{}}
	require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
	require.True(t, w.actOnComplete(), "something is left for later")
	require.Empty(t, told)
	w.act()
	require.Equal(t, []string{"no policy NetworkPolicy shop/a"}, kinds(told))
}
