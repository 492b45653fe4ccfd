// Package chart_test renders the Helm chart of deploy/chart for a dozen sets of values and checks what
// comes out: against goldens, and with Kubernetes' own types, which take no field they do not know.
package chart_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/deploy"
)

var update = flag.Bool("update", false, "write the goldens, and defaults.yaml from values.yaml, instead of comparing them")

func load(t *testing.T) *helm.Chart {
	t.Helper()
	c, err := helm.Load(deploy.Chart(), "")
	require.NoError(t, err)
	return c
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &v))
	return v
}

func render(t *testing.T, text string) helm.Rendered {
	t.Helper()
	out, err := load(t).Render("cilium", "kube-system", "1.30.0", values(t, text))
	require.NoError(t, err)
	return out
}

func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/values/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			out := render(t, string(text))
			consistent(t, decode(t, out.Manifest))

			got := "# Notes:\n# " + strings.ReplaceAll(strings.TrimSpace(out.Notes), "\n", "\n# ") + "\n" + out.Manifest
			got = strings.ReplaceAll(got, "# \n", "#\n")
			golden(t, filepath.Join("testdata/golden", filepath.Base(file)), got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "go test ./test/chart -update writes it")
	assert.Equal(t, string(want), got, "go test ./test/chart -update accepts the change")
}

// Templates cannot read values.yaml, so that they get what an older release lacks from a copy.
func TestDefaultsAreTheValues(t *testing.T) {
	text, err := fs.ReadFile(deploy.Chart(), "values.yaml")
	require.NoError(t, err)
	want, err := yaml.Marshal(values(t, string(text)))
	require.NoError(t, err)
	golden(t, "../../deploy/chart/defaults.yaml", string(want))
}

// An upgrade with --reuse-values brings the values of the chart that was installed before and nothing of
// the new one. Whatever was missing then has to count as its default now.
func TestReusedValuesOfAnOlderChart(t *testing.T) {
	want := render(t, "{}")
	c := load(t)
	c.ForgetDefaults()
	for name, text := range map[string]string{
		"nothing":        "{}",
		"half a section": "{hubble: {enabled: true}, operator: {replicas: 2}, ipam: {mode: cluster-pool}}",
		"nulls":          "{hubble: null, operator: {image: null, affinity: null}, bpf: {autoMount: null}}",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.Render("cilium", "kube-system", "1.30.0", values(t, text))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct{ name, values, says string }{
		{"typo", "{hubble: {relay: {enabld: true}}}", "hubble.relay.enabld is no value of this chart; is hubble.relay.enabled meant?"},
		{"typo at the top", "{kubeProxyReplacment: true}", "kubeProxyReplacment is no value of this chart; is kubeProxyReplacement meant?"},
		{"unknown", "{somethingElse: 1}", "somethingElse is no value of this chart"},
		{"type", "{ipv6: {enabled: yes please}}", "at '/ipv6/enabled'"},
		{"number", "{healthPort: high}", "at '/healthPort'"},
		{"mode", "{ipam: {mode: host-scope}}", "at '/ipam/mode': value must be one of 'cluster-pool', 'kubernetes', 'delegated-plugin'"},
		{"old word", "{kubeProxyReplacement: strict}", `kubeProxyReplacement: "strict" is not known ("strict" is an old word: write true for what strict meant`},
		{"old word disabled", "{kubeProxyReplacement: disabled}", "disabled is an old word for false"},
		{"nonsense", "{kubeProxyReplacement: maybe}", `kubeProxyReplacement: "maybe" is not known; allowed: true, false`},
		{"old tunnel", "{tunnel: disabled}", "tunnel: the value is gone; write routingMode=native instead"},
		{"old tunnel protocol", "{tunnel: geneve}", "write routingMode=tunnel and tunnelProtocol=geneve instead"},
		{"no family", "{ipv4: {enabled: false}}", "at least one address family"},
		{"ui without relay", "{hubble: {ui: {enabled: true}}}", "hubble.ui.enabled=true needs hubble.relay.enabled=true"},
		{"relay without hubble", "{hubble: {enabled: false, relay: {enabled: true}}}", "needs hubble.enabled=true"},
		{"auto without cluster", "{k8sServiceHost: auto}", "there is no ConfigMap cluster-info in namespace kube-public"},
		{"both hosts", "{k8sServiceHost: auto, k8sServiceHostRef: {name: a, key: b}}", "exclude each other"},
		{"ref without key", "{k8sServiceHostRef: {name: a}}", "k8sServiceHostRef.key: missing"},
		{"another's image", "{image: {repository: quay.io/cilium/cilium}}", "holds Cilium's programs"},
		{"cluster name", "{cluster: {name: Not_A_Name}}", "at '/cluster/name'"},
		{"cluster id", "{cluster: {id: 3}}", `cluster.name: "default" is not allowed`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t).Render("cilium", "kube-system", "1.30.0", values(t, tt.values))
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestWordsForBooleans(t *testing.T) {
	assert.Equal(t, render(t, "{ipv6: {enabled: true}}"), render(t, `{ipv6: {enabled: "true"}}`))
	assert.Equal(t, render(t, "{kubeProxyReplacement: true}"), render(t, `{kubeProxyReplacement: "true"}`))
	assert.Equal(t, render(t, "{operator: {enabled: false}}"), render(t, `{operator: {enabled: "false"}}`))
}

// What does not exist yet has to be told and must not look as if it did.
func TestNotesNameWhatHasNoEffect(t *testing.T) {
	notes := render(t, "{encryption: {enabled: true, type: wireguard}, bgpControlPlane: {enabled: true}}").Notes
	assert.Contains(t, notes, "encryption.enabled: traffic between nodes is NOT encrypted")
	assert.Contains(t, notes, "bgpControlPlane.enabled: nothing is announced")
	assert.NotContains(t, render(t, "{}").Notes, "does not exist yet")
}

func TestOldClustersGetAnnotationsForAppArmor(t *testing.T) {
	out, err := load(t).Render("cilium", "kube-system", "1.28.0", nil)
	require.NoError(t, err)
	assert.NotContains(t, out.Manifest, "appArmorProfile")
	assert.Contains(t, out.Manifest, "container.apparmor.security.beta.kubernetes.io/cilium-agent: unconfined")
}
