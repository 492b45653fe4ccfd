package cni_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
)

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net.d")
	c := cni.Conflist{AgentSocket: "/run/weir/weir.sock", LogFile: "/var/log/cni.log", AgentTimeout: 2500 * time.Millisecond}
	path, err := c.Install(dir)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "05-cilium.conflist"), path)

	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"cniVersion": "1.0.0",
		"cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
		"name": "cilium",
		"plugins": [{
			"type": "weir-cni",
			"capabilities": {"ips": true},
			"agentSocket": "/run/weir/weir.sock",
			"logFile": "/var/log/cni.log",
			"agentTimeout": 2.5
		}]
	}`, string(b))

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file stays")
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode().Perm())
}

func TestInstallReplacesAndLeavesAlone(t *testing.T) {
	dir := t.TempDir()
	path, err := cni.Conflist{}.Install(dir)
	require.NoError(t, err)
	before, err := os.Stat(path)
	require.NoError(t, err)
	_, err = cni.Conflist{}.Install(dir)
	require.NoError(t, err)
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "the same text is not written again")
	_, err = cni.Conflist{Type: "cilium-cni"}.Install(dir)
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"cilium-cni"`)
}

func TestConflistRefuses(t *testing.T) {
	for _, c := range []cni.Conflist{{Type: "../sh"}, {AgentSocket: "weir.sock"}, {LogFile: "x.log"}, {AgentTimeout: time.Hour}, {AgentTimeout: -1}} {
		_, err := c.Install(t.TempDir())
		assert.Error(t, err, "%+v", c)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := cni.Conflist{}.Install(file)
	assert.Error(t, err)
}
