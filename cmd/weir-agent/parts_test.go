package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

func TestAPIServerThatIsTheServiceIsRecognised(t *testing.T) {
	environment := []string{"PATH=/bin", "KUBERNETES_PORT=tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1", "KUBERNETES_PORT_443_TCP_PORT=443"}
	for _, c := range []struct {
		host, address string
		service       bool
	}{
		{"https://10.96.0.1:443", "10.96.0.1:443", true},
		{"https://10.96.0.1", "10.96.0.1:443", true},
		{"https://192.0.2.1:6443", "192.0.2.1:6443", false},
		{"https://[fd00::1]:6443", "[fd00::1]:6443", false},
		{"http://api.example", "api.example:80", false},
	} {
		a, err := apiServerOf(c.host, environment)
		require.NoError(t, err)
		assert.Equal(t, apiServer{c.address, c.service}, a)
	}
	a, err := apiServerOf("https://[fd00::1]:443", []string{"KUBERNETES_PORT_443_TCP_ADDR=fd00:0::1"})
	require.NoError(t, err)
	assert.True(t, a.serviceIP)
	for _, bad := range []string{"", "://", "10.0.0.1"} {
		_, err := apiServerOf(bad, nil)
		assert.Error(t, err, bad)
	}
	refused := errors.New("connection refused")
	loop := apiServer{"10.96.0.1:443", true}
	assert.ErrorContains(t, loop.explain(refused, true), "it is the cluster IP of the service kubernetes")
	assert.ErrorContains(t, loop.explain(refused, true), "set k8sServiceHost and k8sServicePort")
	assert.ErrorContains(t, loop.explain(refused, false), "does kube-proxy run on this node?")
	assert.ErrorContains(t, apiServer{"x:1", false}.explain(refused, true), "if it is a cluster IP, set k8sServiceHost")
	assert.ErrorIs(t, loop.explain(refused, true), refused)
}

func TestPreflight(t *testing.T) {
	var out bytes.Buffer
	features := []ports.Feature{{Name: "bpf", Required: true, Supported: true}, {Name: "tcx", Detail: "clsact is used"}}
	require.NoError(t, printPreflight(&out, "6.1.0", features))
	assert.Equal(t, "Kernel 6.1.0\nFEATURE  REQUIRED  FOUND  MEANING\nbpf      yes       yes    \ntcx      no        no     clsact is used\n", out.String())
	sock := []ports.Feature{{Name: "cgroup sock_addr"}}
	assert.NoError(t, printPreflight(io.Discard, "6.1.0", needs(sock, false)))
	assert.ErrorContains(t, printPreflight(io.Discard, "6.1.0", needs(sock, true)), "cgroup sock_addr")
	features = append(features, ports.Feature{Name: "ringbuf", Required: true, Detail: "events cannot be reported"}, ports.Feature{Name: "lpm", Required: true})
	out.Reset()
	err := printPreflight(&out, "4.19.0", features)
	assert.ErrorContains(t, err, "kernel 4.19.0 lacks what the datapath needs: ringbuf, lpm (see the table)")
	assert.Contains(t, out.String(), "ringbuf  yes       no     events cannot be reported")
}

func TestConfigCommand(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, printConfig(&out, config.Resolved{Values: map[string]string{"mtu": "1400", "unknwon": "x"}}, "table", false))
	assert.Regexp(t, `(?m)^mtu +1400 +ConfigMap cilium-config +obeyed +yes +MTU of pods`, out.String())
	assert.Contains(t, out.String(), `unknwon: unknown key`)
	assert.NotContains(t, out.String(), "routing-mode")
	out.Reset()
	require.NoError(t, printConfig(&out, config.Resolved{}, "json", true))
	var got struct{ Keys []configRow }
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	assert.Len(t, got.Keys, len(config.Keys()))
	assert.Error(t, printConfig(io.Discard, config.Resolved{Values: map[string]string{"mtu": "x"}}, "table", false))
	assert.Error(t, printConfig(io.Discard, config.Resolved{}, "xml", false))
}

func TestNotes(t *testing.T) {
	n := newNotes()
	assert.True(t, n.problem("b", errors.New("two")))
	assert.False(t, n.problem("b", errors.New("two")), "no news")
	assert.True(t, n.problem("a", errors.New("one")))
	assert.True(t, n.warn("w", "x", "y"))
	problems, warnings := n.read()
	assert.Equal(t, []string{"a: one", "b: two"}, problems)
	assert.Equal(t, []string{"x", "y"}, warnings)
	assert.True(t, n.problem("b", nil))
	assert.True(t, n.warn("w"))
	problems, warnings = n.read()
	assert.Equal(t, []string{"a: one"}, problems)
	assert.Empty(t, warnings)
}

// Flags count before the directory, the directory before defaults; and what a file cluster's defaults are.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	for k, v := range map[string]string{"mtu": "1400", "debug": "true", "cluster-name": "", "cgroup-root": "/cg", "kube-proxy-replacement": "true"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, k), []byte(v+"\n"), 0o600))
	}
	o := parse(t, "--node-name", "n", "--config-dir", dir, "--mtu", "1300", "--kubeconfig", "/k")
	require.NoError(t, o.load())
	s := o.settings
	assert.Equal(t, []any{1300, true, "default", "/k", "/var/run/cilium", "/cg", true, "/var/run/cilium/weir.sock"},
		[]any{s.MTU, s.Debug, s.ClusterName, s.Kubeconfig, s.RunDir, s.Cgroup, s.AllowRootCgroup, o.socket()})
	assert.True(t, s.Masquerade.IPv4 && s.Masquerade.IPv6)

	o = parse(t, "--node-name", "n", "--cluster-dir", "/c")
	require.NoError(t, o.load())
	s = o.settings
	assert.Equal(t, []any{"/run/weir", "/sys/fs/bpf/weir", "", uint16(0), false, "", ""},
		[]any{s.RunDir, s.BPFFS, s.Cgroup, s.HealthPort, s.AllowRootCgroup, s.CNI.ConfDir, s.CNI.BinDir})
	assert.False(t, s.Masquerade.IPv4 || s.Masquerade.IPv6)
	o = parse(t, "--node-name", "n", "--cluster-dir", "/c", "--cgroup", "/cg", "--debug")
	require.NoError(t, o.load())
	assert.Equal(t, "/cg", o.settings.Cgroup)
	assert.True(t, o.settings.Debug)

	// What is given counts before the defaults of a file cluster, and an empty value gives nothing.
	given := t.TempDir()
	for k, v := range map[string]string{"agent-health-port": "9879", "enable-ipv4-masquerade": "true", "enable-ipv6-masquerade": "", "state-dir": " "} {
		require.NoError(t, os.WriteFile(filepath.Join(given, k), []byte(v+"\n"), 0o600))
	}
	o = parse(t, "--node-name", "n", "--cluster-dir", "/c", "--config-dir", given)
	require.NoError(t, o.load())
	s = o.settings
	assert.Equal(t, []any{uint16(9879), true, false, "/run/weir"}, []any{s.HealthPort, s.Masquerade.IPv4, s.Masquerade.IPv6, s.RunDir})

	// Without kube-proxy replacement nobody's sockets are touched.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kube-proxy-replacement"), []byte("false"), 0o600))
	o = parse(t, "--node-name", "n", "--config-dir", dir)
	require.NoError(t, o.load())
	assert.Empty(t, o.settings.Cgroup)
	o = parse(t, "--node-name", "n", "--config-dir", filepath.Join(dir, "absent"))
	assert.ErrorIs(t, o.load(), os.ErrNotExist)
}

func TestConfigurationThatChanges(t *testing.T) {
	o := parse(t, "--node-name", "n", "--config-dir", t.TempDir(), "--tunnel-port", "8473")
	require.NoError(t, o.load())
	n := newNotes()
	var applied []config.Settings
	k := newConfigKeeper(o, n, slog.New(slog.DiscardHandler), func(s config.Settings) { applied = append(applied, s) })
	k.changed(map[string]string{"debug": "true", "mtu": "1400", "tunnel-port": "9999"})
	require.Len(t, applied, 1)
	assert.True(t, applied[0].Debug)
	problems, warnings := n.read()
	assert.Empty(t, problems)
	assert.Equal(t, []string{`configuration: mtu is now "1400" (ConfigMap cilium-config), the agent still works with "0" (default): restart the agent on node n`}, warnings, "the flag hides the port")

	k.changed(map[string]string{"mtu": "1400", "routing-mode": "x"})
	assert.Len(t, applied, 1, "refused as a whole")
	problems, _ = n.read()
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0], `routing-mode: "x"`)

	k.changed(map[string]string{"cni-exclusive": "false"})
	require.Len(t, applied, 2)
	assert.False(t, applied[1].CNI.Exclusive)
	problems, warnings = n.read()
	assert.Empty(t, problems)
	assert.Empty(t, warnings, "as at the start again")
}
