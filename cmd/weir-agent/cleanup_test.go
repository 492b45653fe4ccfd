package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/config"
)

func TestCleanupKnowsTheDirectoriesOfANode(t *testing.T) {
	s, err := cleanupSettings("", "", config.Settings{})
	require.NoError(t, err)
	assert.Equal(t, "/etc/cni/net.d", s.CNI.ConfDir)
	assert.Equal(t, "/opt/cni/bin", s.CNI.BinDir)
	assert.Equal(t, "/sys/fs/bpf/weir", s.BPFFS)

	var given config.Settings
	given.CNI.BinDir = "/else"
	s, err = cleanupSettings("", "", given)
	require.NoError(t, err)
	assert.Equal(t, "/else", s.CNI.BinDir)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cni-conf-dir"), []byte("/configured"), 0o644))
	s, err = cleanupSettings(dir, "", config.Settings{})
	require.NoError(t, err)
	assert.Equal(t, "/configured", s.CNI.ConfDir)
	assert.Empty(t, s.CNI.BinDir, "the configuration says all")
}
