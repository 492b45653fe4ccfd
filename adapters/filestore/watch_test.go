package filestore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestMain(m *testing.M) {
	if os.Getenv(allocatorDir) != "" {
		allocateAll()
		return
	}
	goleak.VerifyTestMain(m)
}

func watched(t *testing.T, s *Store) *porttest.SourceWatch {
	t.Helper()
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", func(k porttest.Known) bool { return k.Synced == 1 })
	return w
}

func policyYAML(name, port string) string {
	return "\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name + ", namespace: shop}\n" +
		"spec: {podSelector: {}, ingress: [{ports: [{port: " + port + "}]}]}\n"
}

// portOf is the port that a policy of policyYAML allows, 0 if it is unknown.
func portOf(k porttest.Known, name string) uint16 {
	p, ok := k.Policies["NetworkPolicy shop/"+name]
	if !ok {
		return 0
	}
	return p.Specs[0].Rules[0].Ports[0].First
}

func messages(s *Store) string {
	var out []string
	for _, f := range s.Findings() {
		out = append(out, f.String())
	}
	return strings.Join(out, "\n")
}

func TestLastGoodVersionOverRestart(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{
		"a.yaml": policyYAML("a", "80"), "b.yaml": policyYAML("b", "81") + "---" + policyYAML("b2", "82"),
		"c.yaml": policyYAML("c", "83"), "d.yaml": policyYAML("d", "84"),
	})
	w := watched(t, open(t, Options{Dir: dir, StateDir: state}))
	w.Stop(t)

	// The agent is down: one object is broken, one file can't be read, one object goes, one changes.
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "70000"), "b.yaml": "spec: [", "d.yaml": policyYAML("d", "94")})
	require.NoError(t, os.Remove(filepath.Join(dir, "c.yaml")))
	s := open(t, Options{Dir: dir, StateDir: state})
	w = watched(t, s)
	k := porttest.Digest(w.Events())
	assert.Equal(t, [5]uint16{80, 81, 82, 0, 94}, [5]uint16{portOf(k, "a"), portOf(k, "b"), portOf(k, "b2"), portOf(k, "c"), portOf(k, "d")})
	assert.Contains(t, messages(s), "NetworkPolicy shop/a: spec.ingress[0].ports[0].port: 70000 is out of range; allowed: 1 to 65535")
	assert.Contains(t, messages(s), "NetworkPolicy shop/a: refused; its last good version stays in force")
	assert.Contains(t, messages(s), "b.yaml: is not valid YAML")

	// Deleted is deleted, however broken it was.
	require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
	require.NoError(t, os.Remove(filepath.Join(dir, "b.yaml")))
	w.Eventually(t, "both gone", func(k porttest.Known) bool { return len(k.Policies) == 1 })
	w.Stop(t)

	// And nothing of it comes back.
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "70000"), "b.yaml": "spec: ["})
	s = open(t, Options{Dir: dir, StateDir: state})
	k = porttest.Digest(watched(t, s).Events())
	assert.Equal(t, [4]uint16{0, 0, 0, 94}, [4]uint16{portOf(k, "a"), portOf(k, "b"), portOf(k, "b2"), portOf(k, "d")})
	assert.Contains(t, messages(s), "NetworkPolicy shop/a: refused; nothing of it is in force")
}

func TestWithoutStateDirNothingSurvives(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80")})
	watched(t, open(t, Options{Dir: dir})).Stop(t)
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "70000")})
	assert.Empty(t, porttest.Digest(watched(t, open(t, Options{Dir: dir})).Events()).Policies)
}

func TestUnreadableFileKeepsItsObjects(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80") + "---" + policyYAML("b", "81")})
	s := open(t, Options{Dir: dir})
	w := watched(t, s)
	// The second document can't be read; the first changes.
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "90") + "---\nfoo: [", "mark.yaml": policyYAML("mark", "1")})
	k := w.Eventually(t, "the change", func(k porttest.Known) bool { return portOf(k, "a") == 90 && portOf(k, "mark") == 1 })
	assert.Equal(t, uint16(81), portOf(k, "b"))
	// An object without a name may be any that the file defined.
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "91") + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nspec: {}\n"})
	k = w.Eventually(t, "the change", func(k porttest.Known) bool { return portOf(k, "a") == 91 })
	assert.Equal(t, uint16(81), portOf(k, "b"))
	// An empty file is one that is being written.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), nil, 0o644))
	put(t, dir, map[string]string{"mark.yaml": policyYAML("mark", "2")})
	k = w.Eventually(t, "the mark", func(k porttest.Known) bool { return portOf(k, "mark") == 2 })
	assert.Equal(t, [2]uint16{91, 81}, [2]uint16{portOf(k, "a"), portOf(k, "b")})
	assert.Contains(t, messages(s), "a.yaml: is empty")
	// What is kept gives way to a definition elsewhere.
	put(t, dir, map[string]string{"z.yaml": policyYAML("b", "99")})
	w.Eventually(t, "b from z.yaml", func(k porttest.Known) bool { return portOf(k, "b") == 99 })
	assert.NotContains(t, messages(s), "defined before")
	// Readable again, and without b.
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "92")})
	w.Eventually(t, "a changed", func(k porttest.Known) bool { return portOf(k, "a") == 92 })
	require.NoError(t, os.Remove(filepath.Join(dir, "z.yaml")))
	w.Eventually(t, "b gone", func(k porttest.Known) bool { return portOf(k, "b") == 0 })
}

func TestDefinedTwice(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"b.yaml": policyYAML("p", "80"), "c.yaml": policyYAML("p", "81") + "---" + policyYAML("p", "82")})
	s := open(t, Options{Dir: dir})
	w := watched(t, s)
	assert.Equal(t, uint16(80), portOf(porttest.Digest(w.Events()), "p"))
	assert.Contains(t, messages(s), "c.yaml: NetworkPolicy shop/p: defined before in "+filepath.Join(dir, "b.yaml"))
	require.NoError(t, os.Remove(filepath.Join(dir, "b.yaml")))
	w.Eventually(t, "the other file's", func(k porttest.Known) bool { return portOf(k, "p") == 81 })
	assert.Contains(t, messages(s), "defined before in this file")
	put(t, dir, map[string]string{"a.yaml": policyYAML("p", "79")})
	w.Eventually(t, "the first file's", func(k porttest.Known) bool { return portOf(k, "p") == 79 })
	for _, e := range w.Events() {
		_, deleted := e.(cluster.PolicyDelete)
		assert.False(t, deleted, "it was there all the time")
	}
}

func TestMovedObjectIsNeverGone(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("p", "80"), "sub/x.yaml": policyYAML("q", "80")})
	w := watched(t, open(t, Options{Dir: dir}))
	require.NoError(t, os.Rename(filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")))
	require.NoError(t, os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "other")))
	put(t, dir, map[string]string{"mark.yaml": policyYAML("mark", "1")})
	w.Eventually(t, "the mark", func(k porttest.Known) bool { return portOf(k, "mark") == 1 })
	put(t, dir, map[string]string{"b.yaml": policyYAML("p", "81"), "other/x.yaml": policyYAML("q", "81")})
	w.Eventually(t, "changes in the new places", func(k porttest.Known) bool { return portOf(k, "p") == 81 && portOf(k, "q") == 81 })
	for _, e := range w.Events() {
		_, deleted := e.(cluster.PolicyDelete)
		assert.False(t, deleted)
	}
}

func TestDirectoriesComeAndGo(t *testing.T) {
	dir := t.TempDir()
	w := watched(t, open(t, Options{Dir: dir}))
	put(t, dir, map[string]string{"x/y/z/a.yaml": policyYAML("a", "80")})
	w.Eventually(t, "a file in a new directory", func(k porttest.Known) bool { return portOf(k, "a") == 80 })
	put(t, dir, map[string]string{"x/y/z/a.yaml": policyYAML("a", "81")})
	w.Eventually(t, "a change there", func(k porttest.Known) bool { return portOf(k, "a") == 81 })
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "x")))
	w.Eventually(t, "gone with its directory", func(k porttest.Known) bool { return portOf(k, "a") == 0 })
	// In place, as some editors write.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(policyYAML("b", "80")), 0o644))
	w.Eventually(t, "a file written in place", func(k porttest.Known) bool { return portOf(k, "b") == 80 })
	// Through a link that is exchanged, as ConfigMaps are mounted.
	put(t, dir, map[string]string{"..1/c.yaml": policyYAML("c", "80"), "..2/c.yaml": policyYAML("c", "81")})
	require.NoError(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/c.yaml", filepath.Join(dir, "c.yaml")))
	w.Eventually(t, "a file behind links", func(k porttest.Known) bool { return portOf(k, "c") == 80 })
	require.NoError(t, os.Symlink("..2", filepath.Join(dir, "..new")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	w.Eventually(t, "the exchanged file", func(k porttest.Known) bool { return portOf(k, "c") == 81 })
}

func TestVanishedDirectoryIsAnOutage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := open(t, Options{Dir: dir, Rescan: 20 * time.Millisecond})
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80")})
	w := watched(t, s)
	require.NoError(t, os.Rename(dir, dir+"-away"))
	require.Eventually(t, func() bool { return strings.Contains(messages(s), "can't be listed") }, 10*time.Second, time.Millisecond)
	assert.Equal(t, uint16(80), portOf(porttest.Digest(w.Events()), "a"))
	put(t, dir+"-away", map[string]string{"a.yaml": policyYAML("a", "81")})
	require.NoError(t, os.Rename(dir+"-away", dir))
	w.Eventually(t, "the directory is back", func(k porttest.Known) bool { return portOf(k, "a") == 81 })
	assert.Empty(t, messages(s))
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "82")})
	w.Eventually(t, "changes are seen again", func(k porttest.Known) bool { return portOf(k, "a") == 82 })
}

// The safety net alone: no notifications at all.
func TestRescanFindsWhatWasNotNotified(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "80"), "b.yaml": policyYAML("b", "80")})
	ix := newIndex(dir, nil)
	res, err := ix.scan()
	require.NoError(t, err)
	require.Len(t, ix.update(res), 2)
	res, err = ix.scan()
	require.NoError(t, err)
	assert.Empty(t, res, "nothing changed, nothing is read")
	put(t, dir, map[string]string{"a.yaml": policyYAML("a", "81"), "new/c.yaml": policyYAML("c", "80")})
	require.NoError(t, os.Remove(filepath.Join(dir, "b.yaml")))
	res, err = ix.scan()
	require.NoError(t, err)
	assert.Equal(t, []string{"policy NetworkPolicy shop/a", "policy NetworkPolicy shop/c", "no policy NetworkPolicy shop/b"}, kinds(ix.update(res)))
}

func TestOneWatchAtATime(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	watched(t, s)
	assert.ErrorIs(t, s.Watch(t.Context(), func(cluster.Event) {}), ports.ErrConflict)
}

func TestIdentitiesOutsideTheirPlaceAreRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"i.yaml": "apiVersion: cilium.io/v2\nkind: CiliumIdentity\nmetadata: {name: \"300\"}\nsecurity-labels: {\"k8s:app\": x}\n"})
	events, findings, err := ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, events)
	assert.Contains(t, findings[0].Message, "identities are numbered by the agents, in status/identities")
}
