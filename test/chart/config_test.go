package chart_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/weirnet/weir/adapters/kubernetes"
	"github.com/weirnet/weir/adapters/kubernetes/operator"
	"github.com/weirnet/weir/core/config"
)

// What the chart writes to cilium-config is what agent and operator read: no key that neither knows, and no
// value that stops an agent but a tunnel of another kind. Features that weir does not have are told.
func TestAgentAndOperatorReadTheConfiguration(t *testing.T) {
	files, err := filepath.Glob("testdata/values/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var values map[string]string
			for _, o := range decode(t, render(t, string(text)).Manifest) {
				if c, ok := o.(*corev1.ConfigMap); ok && c.Name == "cilium-config" {
					values = c.Data
				}
			}
			require.NotEmpty(t, values)
			_, err = operator.NewConfig(values)
			require.NoError(t, err)
			for _, f := range config.Check(values) {
				_, known := config.Lookup(f.Key)
				assert.True(t, known || f.Key == "my-key" || slices.Contains(operators(), f.Key), f.Message)
				assert.True(t, f.Severity != config.Refusal || f.Key == "tunnel-protocol", f.Message)
			}
		})
	}
}

// operators are the keys that the operator alone reads.
func operators() (keys []string) {
	for _, s := range operator.Settings() {
		keys = append(keys, s.Key)
	}
	return keys
}

// The agent's role allows what its adapter says it asks for.
func TestAgentMayDoWhatItAsksFor(t *testing.T) {
	for _, o := range []kubernetes.Options{{Node: "n1"}, {Node: "n1", EndpointSlices: true}, {Node: "n1", ClusterPool: true}} {
		allowed(t, "cilium", kubernetes.Rules(o))
	}
}

// So does the operator's, with and without slices.
func TestOperatorMayDoWhatItAsksFor(t *testing.T) {
	for _, slices := range []string{"false", "true"} {
		c, err := operator.NewConfig(map[string]string{"enable-cilium-endpoint-slice": slices})
		require.NoError(t, err)
		everywhere, _ := operator.Rules(c)
		allowed(t, "cilium-operator", everywhere)
	}
}

func allowed(t *testing.T, role string, rules []kubernetes.Rule) {
	t.Helper()
	may := map[string]bool{}
	for _, o := range decode(t, render(t, "{}").Manifest) {
		if r, ok := o.(*rbacv1.ClusterRole); ok && r.Name == role {
			for _, rule := range r.Rules {
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						for _, verb := range rule.Verbs {
							may[group+"/"+resource+" "+verb] = true
						}
					}
				}
			}
		}
	}
	for _, r := range rules {
		for _, verb := range r.Verbs {
			assert.True(t, may[r.Group+"/"+r.Resource+" "+verb], "%s: %s/%s %s", role, r.Group, r.Resource, verb)
		}
	}
}
