package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStorable(t *testing.T) {
	dir := t.TempDir()
	require.ErrorContains(t, storable(filepath.Join(dir, "absent", "run.json")), "--store")
	require.ErrorContains(t, storable(dir), "--store", "a directory")

	there := filepath.Join(dir, "run.json")
	require.NoError(t, os.WriteFile(there, []byte("{}"), 0o600))
	require.NoError(t, storable(there))
	text, err := os.ReadFile(there)
	require.NoError(t, err)
	require.Equal(t, "{}", string(text), "what was there is kept until the run is over")
}
