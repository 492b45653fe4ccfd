package main

import (
	"archive/zip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

var testContext = context.Background()

func fixtureAgent(string) ports.Inspector { return fixture() }

func TestInstallFindsOutWhatIsNotSet(t *testing.T) {
	f, h := newFakeCluster(), &fakeHelm{}
	r := onCluster(t, f, h, "cilium", "install")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, []string{"install"}, h.calls)
	assert.Contains(t, r.out, "ℹ️  Using weir version v0.0.0-test\n🔮 Auto-detected cluster name: kind\n🔮 Auto-detected kube-proxy has not been installed\n")
	for path, want := range map[string]any{"cluster.name": "kind", "kubeProxyReplacement": true, "k8sServiceHost": "172.18.0.2", "k8sServicePort": "6443"} {
		assert.Equal(t, want, helm.At(h.values, strings.Split(path, ".")...), path)
	}
	assert.Contains(t, h.current.Manifest, "docker.io/weirnet/weir:v0.0.0-test", "the image is of this program's version")

	f, h = newFakeCluster(), &fakeHelm{}
	f.proxy, f.nodes.Count = true, 1
	r = onCluster(t, f, h, "cilium", "install", "--set", "cluster.name=mine,kubeProxyReplacement=true", "--set", "k8sServiceHost=192.0.2.1")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "Auto-detected kube-proxy has been installed\n⚠️  kube-proxy goes on beside weir")
	assert.Equal(t, "mine", helm.At(h.values, "cluster", "name"))
	assert.Equal(t, "192.0.2.1", helm.At(h.values, "k8sServiceHost"))
	assert.EqualValues(t, 1, helm.At(h.values, "operator", "replicas"))

	f, h = newFakeCluster(), &fakeHelm{}
	f.proxy = true
	require.Zero(t, onCluster(t, f, h, "cilium", "install").code)
	assert.Nil(t, helm.At(h.values, "kubeProxyReplacement"), "kube-proxy stays in charge")
	assert.Nil(t, helm.At(h.values, "k8sServiceHost"))
}

func TestInstallRefuses(t *testing.T) {
	for _, tt := range []struct {
		line, says string
		code       int
		change     func(*fakeCluster, *fakeHelm)
	}{
		{"install --set kubeProxyReplacment=true", "kubeProxyReplacment is no value of this chart; is kubeProxyReplacement meant?", exitFailed, nil},
		{"install --set kubeProxyReplacement=strict", `"strict" is an old word`, exitFailed, nil},
		{"install --set ipam.mode=host-scope", "/ipam/mode", exitFailed, nil},
		{"install --set kubeProxyReplacement=true,k8sServiceHost=10.96.0.1", "k8sServiceHost: 10.96.0.1 is the address of the Service default/kubernetes", exitFailed, nil},
		{"install", "give --set k8sServiceHost=ADDRESS --set k8sServicePort=PORT", exitFailed, func(f *fakeCluster, _ *fakeHelm) { f.advertised = "" }},
		{"install", "use 'weir upgrade'", exitFailed, func(_ *fakeCluster, h *fakeHelm) { *h = *installed() }},
		{"install --version v9.9.9", "not available: version v9.9.9: this program holds version v0.0.0-test only", exitFailed, nil},
		{"install --repository https://example.com", "not available: --repository", exitFailed, nil},
		{"install --datapath-mode bridge", "allowed: tunnel, native", exitUsage, nil},
		{"install --set novalue", "values:", exitUsage, nil},
		{"install --chart-directory no/such", "chart no/such", exitFailed, nil},
		{"upgrade", "use 'weir install'", exitFailed, nil},
		{"upgrade --reset-values --reuse-values", "exclude each other", exitUsage, nil},
		{"upgrade --history-max -1", "0 or more", exitUsage, nil},
		{"config set debug perhaps", `debug: "perhaps" is not a truth value; allowed: true, false`, exitFailed, nil},
		{"config view", "ConfigMap cilium-config in namespace kube-system: not found", exitFailed, func(f *fakeCluster, _ *fakeHelm) { f.config = nil }},
	} {
		t.Run(tt.line, func(t *testing.T) {
			f, h := newFakeCluster(), &fakeHelm{}
			if tt.change != nil {
				tt.change(f, h)
			}
			r := onCluster(t, f, h, "weir", strings.Fields(tt.line)...)
			assert.Equal(t, tt.code, r.code)
			assert.Contains(t, r.err, tt.says)
			assert.Empty(t, h.calls)
		})
	}
}

func TestInstallDryRuns(t *testing.T) {
	h := &fakeHelm{}
	r := onCluster(t, newFakeCluster(), h, "weir", "install", "--dry-run", "--datapath-mode", "native", "--set", "ipv4NativeRoutingCIDR=10.0.0.0/8")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "kind: DaemonSet")
	assert.Contains(t, r.out, `routing-mode: "native"`)
	assert.NotContains(t, r.out, "🔮", "the output is YAML and nothing else")
	r = onCluster(t, newFakeCluster(), h, "weir", "install", "--dry-run-helm-values")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "k8sServiceHost: 172.18.0.2\n")
	assert.Empty(t, h.calls)
	assert.Contains(t, onCluster(t, newFakeCluster(), h, "weir", "install", "--list-versions").out, "v0.0.0-test (default)")
}

func TestInstallWaits(t *testing.T) {
	r := onCluster(t, newFakeCluster(), &fakeHelm{}, "weir", "install", "--wait")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "Cilium:             OK")
	f := newFakeCluster()
	f.overview.Components[0].Ready = 0
	r = onCluster(t, f, &fakeHelm{}, "weir", "install", "--wait", "--wait-duration", "0s")
	assert.Equal(t, exitFailed, r.code)
}

func TestUpgradeAndUninstall(t *testing.T) {
	f, h := newFakeCluster(), installed()
	r := onCluster(t, f, h, "weir", "upgrade", "--set", "debug.enabled=true", "-r")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, h.calls[0], "upgrade 0 10")
	assert.Equal(t, 1, f.restarts)
	require.Zero(t, onCluster(t, f, h, "weir", "upgrade", "--reuse-values", "--history-max", "3").code)
	assert.Contains(t, h.calls, "upgrade 1 3")
	require.Zero(t, onCluster(t, f, h, "weir", "upgrade", "--reset-values").code)
	assert.Contains(t, h.calls, "upgrade 2 10")

	r = onCluster(t, f, h, "weir", "uninstall", "--wait", "--timeout", "1m")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, []string{"cilium-test-1"}, f.deleted)
	assert.Contains(t, h.calls, "uninstall 1m0s")
	assert.Contains(t, r.out, "🔥 Cilium was successfully uninstalled.")
}

// What CiliumNodeConfigs change on some nodes is told, and what they say in vain.
func TestConfigOfSomeNodes(t *testing.T) {
	f := newFakeCluster()
	f.configs = []cluster.NodeConfig{
		{Overlay: config.Overlay{Name: "kube-system/a", Values: map[string]string{"mtu": "1400", "debug": "true"}}, Nodes: []string{"n1", "n2"}},
		{Overlay: config.Overlay{Name: "kube-system/b", Values: map[string]string{"mtu": "1300", "enable-policy": "never"}}, Nodes: []string{"n2"}},
		{Overlay: config.Overlay{Name: "kube-system/c", Values: map[string]string{"mtu": "1"}}, Problem: "spec.nodeSelector: bad"},
	}
	r := onCluster(t, f, installed(), "cilium", "config", "view")
	require.Zero(t, r.code, r.err)
	assert.Regexp(t, `(?m)^debug +false$`, r.out)
	assert.Regexp(t, `(?m)^mtu +1400 +kube-system/a +n1, n2$`, r.out)
	assert.Regexp(t, `(?m)^mtu +1 +kube-system/c +no node: spec.nodeSelector: bad$`, r.out)
	assert.Contains(t, r.err, `CiliumNodeConfig kube-system/b: enable-policy: "never" is refused`)
	r = onCluster(t, f, installed(), "cilium", "config", "view", "--node", "n2")
	require.Zero(t, r.code, r.err)
	assert.Regexp(t, `(?m)^mtu +1300 +CiliumNodeConfig kube-system/b$`, r.out)
	assert.Regexp(t, `(?m)^debug +true +CiliumNodeConfig kube-system/a$`, r.out)
	assert.Regexp(t, `(?m)^ipam +kubernetes +ConfigMap cilium-config$`, r.out)
	r = onCluster(t, f, installed(), "cilium", "config", "view", "--node", "n1", "-o", "json")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, `"source": "CiliumNodeConfig kube-system/a"`)
	r = onCluster(t, f, installed(), "cilium", "config", "view", "--node", "n3")
	assert.Contains(t, r.err, `no agent runs on node "n3"; agents run on n1, n2`)
	assert.Equal(t, exitFailed, r.code)
	r = onCluster(t, f, installed(), "cilium", "config", "set", "debug", "false")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.err, `debug is "true" by CiliumNodeConfig kube-system/a on n1, n2`)

	f.config["enable-cilium-node-config"] = "false"
	r = onCluster(t, f, installed(), "cilium", "config", "view")
	assert.NotContains(t, r.out, "kube-system/a")
}

func TestConfig(t *testing.T) {
	f := newFakeCluster()
	r := onCluster(t, f, installed(), "cilium", "config", "view")
	assert.Equal(t, `debug                    false
ipam                     kubernetes
kube-proxy-replacement   true
routing-mode             tunnel
tunnel-protocol          vxlan
`, r.out)
	r = onCluster(t, f, installed(), "cilium", "config", "set", "debug", "true")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, "✨ Patching ConfigMap cilium-config with debug=true...\n♻️  Restarted Cilium pods\n", r.out)
	assert.Equal(t, "true", f.config["debug"])
	assert.Equal(t, 1, f.restarts)
	r = onCluster(t, f, installed(), "cilium", "config", "set", "debgu", "true", "-r=false")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.err, "is debug meant?")
	assert.Equal(t, 1, f.restarts)
	require.Zero(t, onCluster(t, f, installed(), "cilium", "config", "delete", "debug").code)
	assert.NotContains(t, f.config, "debug")
}

func TestSysdump(t *testing.T) {
	dir := t.TempDir()
	f := newFakeCluster()
	h := installed()
	h.values = map[string]any{"hubble": map[string]any{"tls": map[string]any{"server": map[string]any{"key": "private", "cert": "public"}}}, "debug": map[string]any{"enabled": true}}
	f.agents["cilium-b"] = nil
	r := onCluster(t, f, h, "cilium", "sysdump", "--output-filename", filepath.Join(dir, "dump-<ts>"))
	require.Zero(t, r.code, r.err)
	path := filepath.Join(dir, "dump-20240501-130000.zip")
	assert.Contains(t, r.out, "🗳 Sysdump has been saved to "+path)
	files := unzip(t, path)
	const prefix, stamp = "cilium-sysdump-20240501-130000/", "-20240501-130000"
	for _, name := range []string{"nodes" + stamp + ".yaml", "k8s-version" + stamp + ".txt", "cilium-helm-values" + stamp + ".yaml", "cilium-helm-metadata" + stamp + ".yaml",
		"logs-cilium-a-cilium-agent" + stamp + ".log", "logs-cilium-a-cilium-agent" + stamp + "-prev.log", "cilium-status-cilium-a" + stamp + ".txt",
		"endpoints-cilium-a" + stamp + ".json", "bpf-lb-cilium-a" + stamp + ".txt", "hubble-flows-cilium-a" + stamp + ".json"} {
		assert.Contains(t, files, prefix+name)
	}
	values := files[prefix+"cilium-helm-values"+stamp+".yaml"]
	assert.NotContains(t, values, "private")
	assert.Contains(t, values, "key: XXXXXX")
	assert.Contains(t, values, "enabled: true")
	errs := files[prefix+"sysdump-errors.txt"]
	assert.Contains(t, errs, "list gateways: forbidden")
	assert.Contains(t, errs, "agent cilium-b on node n2: status --verbose: container not running")

	r = onCluster(t, newFakeCluster(), h, "cilium", "sysdump", "--quick", "--node-list", "n2", "--output-filename", filepath.Join(dir, "quick"))
	require.Zero(t, r.code, r.err)
	for name := range unzip(t, filepath.Join(dir, "quick.zip")) {
		assert.NotContains(t, name, "logs-")
		assert.NotContains(t, name, "cilium-a")
		assert.NotContains(t, name, "hubble-flows")
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func unzip(t *testing.T, path string) map[string]string {
	t.Helper()
	z, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer z.Close()
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		out[f.Name] = string(content)
	}
	return out
}
