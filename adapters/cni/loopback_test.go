package cni_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
)

func TestInstallStandsInForLoopback(t *testing.T) {
	program := filepath.Join(t.TempDir(), "weir-cni")
	require.NoError(t, os.WriteFile(program, []byte("program"), 0o755))

	dir := t.TempDir()
	loopback := filepath.Join(dir, "loopback")
	i := cni.Install{Binary: program, BinDir: dir}
	require.NoError(t, i.InstallBinary())
	require.NoError(t, os.Remove(loopback))
	require.NoError(t, i.InstallBinary(), "what is missing comes back, the program being there")
	text, err := os.ReadFile(loopback)
	require.NoError(t, err)
	assert.Equal(t, "program", string(text))
	require.NoError(t, i.RemoveBinary())
	assert.NoFileExists(t, loopback)

	require.NoError(t, os.WriteFile(loopback, []byte("theirs"), 0o755))
	require.NoError(t, i.InstallBinary())
	require.NoError(t, i.RemoveBinary())
	text, err = os.ReadFile(loopback)
	require.NoError(t, err)
	assert.Equal(t, "theirs", string(text))
}
