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
	"github.com/weirnet/weir/adapters/kubernetes/nodeconfig"
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

// The agent's role allows what its adapter says it asks for, and nothing else.
func TestAgentMayDoWhatItAsksForAndNothingElse(t *testing.T) {
	for _, slices := range []string{"false", "true"} {
		values := "ciliumEndpointSlice: {enabled: " + slices + "}"
		everywhere, there := granted(t, values, "cilium")
		assert.Equal(t, asked(kubernetes.Rules(kubernetes.Options{Node: "n1", EndpointSlices: slices == "true"})), everywhere)
		assert.Equal(t, asked(nodeconfig.Rules()), there)
	}
}

// What daemon.* says of CiliumNodeConfigs is what the agent understands.
func TestLimitsOfNodeConfigs(t *testing.T) {
	values := configMap(t, "daemon: {configSources: \"config-map:cilium-config,cilium-node-config\", allowedConfigOverrides: \"mtu, debug\"}")
	_, count := config.NodeConfigs(values)
	assert.True(t, count)
	r := config.Resolve(values, []config.Overlay{{Name: "kube-system/a", Values: map[string]string{"mtu": "1400", "cluster-name": "x"}}}, nil)
	assert.Equal(t, map[string]string{"mtu": "kube-system/a"}, r.From)
	assert.Contains(t, r.Findings[0].Message, "cluster-name: may not be overridden; allowed by config-sources-overrides: mtu, debug")
	values = configMap(t, "daemon: {configSources: \"config-map:cilium-config\", blockedConfigOverrides: mtu}")
	_, count = config.NodeConfigs(values)
	assert.False(t, count)
	assert.Equal(t, `{"allowConfigKeys":[],"denyConfigKeys":["mtu"]}`, values["config-sources-overrides"])
}

func configMap(t *testing.T, text string) map[string]string {
	t.Helper()
	for _, o := range decode(t, render(t, text).Manifest) {
		if c, ok := o.(*corev1.ConfigMap); ok && c.Name == "cilium-config" {
			return c.Data
		}
	}
	t.Fatal("no cilium-config")
	return nil
}

// So does the operator's.
func TestOperatorMayDoWhatItAsksForAndNothingElse(t *testing.T) {
	for _, set := range []map[string]string{
		{"enable-cilium-endpoint-slice": "false"}, {"enable-cilium-endpoint-slice": "true"}, {"skip-crd-creation": "true"}, {"unmanaged-pod-watcher-interval": "0s"},
	} {
		c, err := operator.NewConfig(set)
		require.NoError(t, err)
		cluster, namespaced := operator.Rules(c)
		everywhere, there := granted(t, "ciliumEndpointSlice: {enabled: "+or(set["enable-cilium-endpoint-slice"], "false")+
			"}\noperator: {skipCRDCreation: "+or(set["skip-crd-creation"], "false")+
			", unmanagedPodWatcher: {restart: "+map[string]string{"": "true", "0s": "false"}[set["unmanaged-pod-watcher-interval"]]+"}}", "cilium-operator")
		assert.Equal(t, asked(cluster), everywhere)
		assert.Equal(t, asked(namespaced), there)
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// granted lists what the roles that are bound to an account allow, in the cluster and in their namespace.
func granted(t *testing.T, values, account string) (everywhere, there []string) {
	t.Helper()
	objects := decode(t, render(t, values).Manifest)
	bound := func(subjects []rbacv1.Subject) bool {
		return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool { return s.Kind == "ServiceAccount" && s.Name == account })
	}
	roles, clusterRoles := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		switch b := o.(type) {
		case *rbacv1.ClusterRoleBinding:
			clusterRoles[b.RoleRef.Name] = clusterRoles[b.RoleRef.Name] || bound(b.Subjects)
		case *rbacv1.RoleBinding:
			roles[b.RoleRef.Name] = roles[b.RoleRef.Name] || bound(b.Subjects)
		}
	}
	for _, o := range objects {
		switch r := o.(type) {
		case *rbacv1.ClusterRole:
			if clusterRoles[r.Name] {
				everywhere = append(everywhere, list(r.Rules)...)
			}
		case *rbacv1.Role:
			if roles[r.Name] {
				there = append(there, list(r.Rules)...)
			}
		}
	}
	return sorted(everywhere), sorted(there)
}

func list(rules []rbacv1.PolicyRule) (out []string) {
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					out = append(out, group+"/"+resource+" "+verb)
				}
			}
		}
	}
	return out
}

func asked(rules []kubernetes.Rule) (out []string) {
	for _, r := range rules {
		for _, verb := range r.Verbs {
			out = append(out, r.Group+"/"+r.Resource+" "+verb)
		}
	}
	return sorted(out)
}

func sorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
