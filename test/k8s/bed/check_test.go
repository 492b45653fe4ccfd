package bed

import (
	"encoding/json"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCheckMachineAtTheSameTime is what tests that run in parallel do: each looks at the machine for itself.
func TestCheckMachineAtTheSameTime(t *testing.T) {
	if err := CheckMachine(); err != nil {
		t.Skipf("kube-nodes: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { assert.NoError(t, CheckMachine()) })
	}
	wg.Wait()
}

// TestModulesAreThoseOfWeir keeps the build from empty caches short: what weir and the components of the cluster both
// use is compiled once, but only where both ask for the same version.
func TestModulesAreThoseOfWeir(t *testing.T) {
	weir, components := versions(t, "../../../go.mod"), versions(t, "../testdata/src/go.mod")
	shared := 0
	for path, version := range weir {
		if other, ok := components[path]; ok {
			shared++
			assert.Equal(t, version, other, path)
		}
	}
	assert.Greater(t, shared, 50, "modules in both")
}

// versions is what a go.mod asks for, by the module's path, with what replaces it.
func versions(t *testing.T, file string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", file).Output()
	require.NoError(t, err)
	var mod struct {
		Require []struct{ Path, Version string }
		Replace []struct {
			Old, New struct{ Path, Version string }
		}
	}
	require.NoError(t, json.Unmarshal(out, &mod))
	v := map[string]string{}
	for _, r := range mod.Require {
		v[r.Path] = r.Version
	}
	for _, r := range mod.Replace {
		v[r.Old.Path] = r.New.Version
	}
	return v
}
