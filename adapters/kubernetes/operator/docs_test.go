package operator

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of settings into docs/operator.md")

// The documentation lists the keys that there are.
func TestSettingsAreDocumented(t *testing.T) {
	t.Setenv("CILIUM_K8S_NAMESPACE", "")
	const file, head = "../../../docs/operator.md", "| key | default | meaning |\n|---|---|---|\n"
	var table strings.Builder
	for _, s := range Settings() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", s.Key, value, s.Help)
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	before, _, ok := strings.Cut(string(data), head)
	require.True(t, ok)
	want := before + head + table.String()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(data), "go test -run TestSettingsAreDocumented -update")
}
