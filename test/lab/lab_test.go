// Package lab_test runs the built binaries end to end: the demo, a lab whose measurements are held
// against the matrix, and labs whose building is cut short.
package lab_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/lab"
)

// bin is where the binaries are: $WEIR_BIN, or else where TestMain puts them.
var bin = os.Getenv("WEIR_BIN")

func TestMain(m *testing.M) {
	if order := os.Getenv(transferEnv); order != "" {
		if err := transfer(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if order := os.Getenv(callEnv); order != "" {
		if err := call(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if bin != "" || lab.Check() != nil {
		return m.Run() // without a lab every test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "weir-lab-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		bin = dir
		var root []byte
		if root, err = exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output(); err == nil {
			build := exec.Command("go", "build", "-o", dir+"/", "./cmd/...")
			build.Dir = strings.TrimSpace(string(root))
			build.Stderr = os.Stderr
			err = build.Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the binaries:", err)
		return 1
	}
	return m.Run()
}

// needLab skips where no lab can be built, or fails where REQUIRE names root.
func needLab(t *testing.T) {
	t.Helper()
	err := lab.Check()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "root") {
		t.Fatal(err)
	}
	t.Skip(err)
}

// weir runs the binary to its end.
func weir(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "weir"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs the binary and wants success.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, status := weir(t, args...)
	require.Zero(t, status, "weir %s\n%s\n%s", strings.Join(args, " "), out, errs)
	return out
}

// name is a lab's name of this test's own, taken down at its end, and then without a trace.
func name(t *testing.T, prefix string) string {
	t.Helper()
	needLab(t)
	n := fmt.Sprintf("%s%d", prefix, os.Getpid()%100000)
	t.Cleanup(func() {
		must(t, "lab", "down", "--name", n)
		requireNoTrace(t, n)
	})
	return n
}

func requireNoTrace(t *testing.T, name string) {
	t.Helper()
	l, err := lab.New(lab.Options{Name: name})
	require.NoError(t, err)
	left, err := l.Traces()
	require.NoError(t, err)
	require.Empty(t, left)
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		require.NotContains(t, string(b), "weir-"+name+"-", p)
		require.NotContains(t, string(b), "/"+name+"/nodes/", p)
	}
}

func TestDemo(t *testing.T) {
	for _, routing := range []string{"tunnel", "native"} {
		t.Run(routing, func(t *testing.T) {
			n := name(t, "d"+routing[:1])
			out, errs, status := weir(t, "demo", "--name", n, "--routing", routing)
			require.Zero(t, status, "%s\n%s", out, errs)
			require.True(t, strings.HasPrefix(out, "weir demo on eBPF"), out)
			require.Contains(t, out, "every step showed what it should")
			requireNoTrace(t, n)
		})
	}
	_, errs, status := weir(t, "demo", "--routing", "bridge")
	require.Equal(t, 2, status)
	require.Contains(t, errs, "allowed are tunnel and native")
}

// manifests writes the demo's shop with its policies, and more pods, into one directory.
func manifests(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	for _, glob := range []string{"../../deploy/demo/shop/*.yaml", "../../deploy/demo/policies/*.yaml"} {
		files, err := filepath.Glob(glob)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "more.yaml"), []byte(more), 0o644))
	return dir
}

const morePods = `
apiVersion: v1
kind: Pod
metadata: {name: on-the-node, namespace: visitors, labels: {app: agent}}
spec:
  nodeName: node2
  hostNetwork: true
  containers: [{name: c, image: x, ports: [{containerPort: 9100}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: two-ports, namespace: visitors, labels: {app: free}}
spec:
  nodeName: node2
  containers: [{name: c, image: x, ports: [{containerPort: 9000}, {containerPort: 9001, protocol: UDP}]}]
`

// row is what matrix and probe both print.
type row struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Port        uint16 `json:"port"`
	Protocol    string `json:"protocol"`
	Verdict     string `json:"verdict"`
	EgressRule  string `json:"egress_rule"`
	IngressRule string `json:"ingress_rule"`
	Note        string `json:"note"`
}

func rows(t *testing.T, args ...string) []row {
	t.Helper()
	var out []row
	require.NoError(t, json.Unmarshal([]byte(must(t, append(args, "-o", "json")...)), &out))
	return out
}

// What the policies say and what happens on the wire are the same, row by row; where the agents
// recorded a rule it is the one that the matrix names.
// requireProbeAsMatrix holds what a lab measures against what its manifests say.
func requireProbeAsMatrix(t *testing.T, n, dir string) {
	t.Helper()
	for _, protocol := range [][]string{nil, {"--protocol", "icmp"}} {
		want := rows(t, append([]string{"policy", "matrix", "-f", dir}, protocol...)...)
		got := rows(t, append([]string{"lab", "probe", "--name", n}, protocol...)...)
		require.NotEmpty(t, want)
		require.Len(t, got, len(want))
		ruled := 0
		for i := range want {
			if got[i].EgressRule == "" {
				got[i].EgressRule = want[i].EgressRule
			} else {
				ruled++
			}
			if got[i].IngressRule == "" {
				got[i].IngressRule = want[i].IngressRule
			} else {
				ruled++
			}
			require.Equal(t, want[i], got[i])
		}
		require.Greater(t, ruled, len(want)/2, "most rules are known")
	}
}

func TestNativeRouting(t *testing.T) {
	n := name(t, "n")
	dir := manifests(t, morePods)
	must(t, "lab", "up", "--name", n, "--routing", "native", "-f", dir)
	requireProbeAsMatrix(t, n, dir)
	requireTransfers(t, n, "visitors/stranger", "visitors/two-ports")
	must(t, "lab", "agent", "kill", "--name", n, "node1")
	must(t, "lab", "agent", "start", "--name", n, "node1")
	requireProbeAsMatrix(t, n, dir)
}

func TestProbeAgreesWithMatrix(t *testing.T) {
	n := name(t, "m")
	dir := manifests(t, morePods)
	must(t, "lab", "up", "--name", n, "-f", dir)
	requireProbeAsMatrix(t, n, dir)
	requireTransfers(t, n, "visitors/stranger", "visitors/two-ports")

	// A broken object is named, the last good version stays, and the others take effect.
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: backend-ingress, namespace: production}
spec: {podSelector: {}, ingress: [{ports: [{port: 70000}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: visitors}
spec: {podSelector: {matchLabels: {app: free}}, policyTypes: [Ingress]}
`), 0o644))
	_, errs, status := weir(t, "lab", "apply", "--name", n, "-f", bad)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "bad.yaml: NetworkPolicy production/backend-ingress: spec.ingress[0].ports[0].port")
	for _, r := range rows(t, "lab", "probe", "--name", n, "--protocol", "tcp", "--from", "visitors/stranger") {
		denied := strings.HasPrefix(r.To, "production/backend") || r.To == "production/db" || r.To == "visitors/two-ports"
		require.Equal(t, denied, r.Verdict == "denied", "%+v", r)
	}
	must(t, "lab", "delete", "--name", n, "NetworkPolicy", "visitors/closed")
	open := rows(t, "lab", "probe", "--name", n, "--protocol", "tcp", "--from", "visitors/stranger", "--to", "visitors/two-ports")
	require.Equal(t, "allowed", open[0].Verdict)

	require.Equal(t, "stranger\n", must(t, "lab", "exec", "--name", n, "visitors/stranger", "--", "hostname"))
}

// However early or late the building is cut short, down leaves nothing.
func TestUpCutShort(t *testing.T) {
	n := name(t, "c")
	dir := manifests(t, morePods)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		for _, after := range []time.Duration{5, 20, 50, 90, 140, 200, 270, 350, 450, 600} {
			after *= time.Millisecond
			cmd := exec.Command(filepath.Join(bin, "weir"), "lab", "up", "--name", n, "-f", dir)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			require.NoError(t, cmd.Start())
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(signal) })
			err := cmd.Wait()
			timer.Stop()
			t.Logf("%s after %s: %v", signal, after, err)
			if signal == syscall.SIGINT && err != nil {
				requireNoTrace(t, n) // it clears away by itself
			}
			must(t, "lab", "down", "--name", n)
			requireNoTrace(t, n)
		}
	}
}
