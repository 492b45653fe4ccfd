package cni_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestInstallBinary(t *testing.T) {
	dir := t.TempDir()
	i := cni.Install{Binary: filepath.Join(dir, "image/weir-cni"), BinDir: filepath.Join(dir, "bin")}
	assert.Error(t, i.InstallBinary(), "there is none")
	write(t, i.Binary, "one")
	to := filepath.Join(i.BinDir, "weir-cni")
	same := func(want string) os.FileInfo {
		t.Helper()
		b, err := os.ReadFile(to)
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
		info, err := os.Stat(to)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o755), info.Mode().Perm())
		assert.Equal(t, []string{cni.LoopbackName, "weir-cni"}, names(t, i.BinDir), "no temporary file stays")
		return info
	}
	require.NoError(t, i.InstallBinary())
	first := same("one")
	require.NoError(t, i.InstallBinary())
	assert.True(t, os.SameFile(first, same("one")), "the same is left alone")

	write(t, i.Binary, "two")
	old, err := os.Open(to) // somebody runs it
	require.NoError(t, err)
	defer old.Close()
	require.NoError(t, i.InstallBinary())
	assert.False(t, os.SameFile(first, same("two")), "exchanged, not written over")

	require.NoError(t, os.Chmod(to, 0o644))
	require.NoError(t, i.InstallBinary())
	same("two")
	require.NoError(t, os.Remove(to))
	require.NoError(t, os.Symlink("/nowhere", to))
	require.NoError(t, i.InstallBinary())
	same("two")
	require.NoError(t, i.RemoveBinary())
	require.NoError(t, i.RemoveBinary())
	assert.Empty(t, names(t, i.BinDir))
	assert.NoError(t, cni.Install{Binary: "/absent"}.InstallBinary(), "nowhere to put it")
}

func TestExclusiveConfiguration(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"00-first.conf", "10-bridge.conflist", "99.json", "README", ".hidden.conf", "old.conf.cilium_bak", "x.conflist.tmp"} {
		write(t, filepath.Join(dir, n), n)
	}
	i := cni.Install{ConfDir: dir}
	require.NoError(t, i.InstallConflist())
	assert.Contains(t, names(t, dir), "00-first.conf", "it is not exclusive")
	i.Exclusive = true
	want := []string{".hidden.conf", "00-first.conf.cilium_bak", "05-cilium.conflist", "10-bridge.conflist.cilium_bak", "99.json.cilium_bak",
		"README", "old.conf.cilium_bak", "x.conflist.tmp"}
	for range 2 {
		require.NoError(t, i.InstallConflist())
		assert.Equal(t, want, names(t, dir))
	}
	write(t, filepath.Join(dir, "10-bridge.conflist"), "another")
	require.NoError(t, i.InstallConflist())
	assert.Equal(t, want, names(t, dir), "who comes back is put aside again")

	write(t, filepath.Join(dir, "99.json"), "newer")
	require.NoError(t, i.Remove())
	assert.Equal(t, []string{".hidden.conf", "00-first.conf", "10-bridge.conflist", "99.json", "99.json.cilium_bak", "README", "old.conf", "x.conflist.tmp"}, names(t, dir))
	b, err := os.ReadFile(filepath.Join(dir, "99.json"))
	require.NoError(t, err)
	assert.Equal(t, "newer", string(b), "what is there is not written over")
	require.NoError(t, i.Remove())
	assert.NoError(t, cni.Install{ConfDir: filepath.Join(dir, "absent")}.Remove())
	assert.NoError(t, cni.Install{}.InstallConflist())
	assert.NoError(t, cni.Install{}.Remove())
}

func TestCustomConfiguration(t *testing.T) {
	dir := t.TempDir()
	custom := filepath.Join(dir, "custom")
	i := cni.Install{ConfDir: filepath.Join(dir, "net.d"), Custom: custom}
	assert.ErrorContains(t, i.InstallConflist(), "custom conflist")
	for _, bad := range []string{"{", "{}", `{"name": "x"}`, `{"name": "x", "plugins": []}`, `{"plugins": [{}]}`} {
		write(t, custom, bad)
		assert.ErrorContains(t, i.InstallConflist(), "custom conflist", bad)
	}
	assert.NoDirExists(t, i.ConfDir)
	text := `{"name": "x", "cniVersion": "1.0.0", "plugins": [{"type": "weir-cni"}, {"type": "tuning"}]}`
	write(t, custom, text)
	require.NoError(t, i.InstallConflist())
	b, err := os.ReadFile(filepath.Join(i.ConfDir, cni.ConflistName))
	require.NoError(t, err)
	assert.Equal(t, text, string(b))
}

func TestPortMapIsCalledAfterOurs(t *testing.T) {
	b, err := cni.Conflist{PortMap: true}.Marshal()
	require.NoError(t, err)
	assert.JSONEq(t, `{"cniVersion": "1.0.0", "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"], "name": "cilium",
		"plugins": [{"type": "weir-cni", "capabilities": {"ips": true}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`, string(b))
}
