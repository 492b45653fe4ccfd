// Package k8s_test proves weir on a real Kubernetes: three nodes with kubelets, no kube-proxy, weir
// installed by its own command line from its own chart. And one agent against an API server that holds
// thousands of objects.
package k8s_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// TestCluster goes through the life of one cluster; its parts build on what the first ones install, and
// each leaves the cluster as it found it.
func TestCluster(t *testing.T) {
	c := start(t, "wt", 3)
	for _, part := range []struct {
		name     string
		run      func(*cluster, *testing.T)
		required bool // nothing works without
	}{
		{"Install", (*cluster).testInstall, true},
		{"DNS", (*cluster).testDNS, true},
		{"Addresses", (*cluster).testAddresses, false},
		{"Services", (*cluster).testServices, false},
		{"NodePorts", (*cluster).testNodePorts, false},
		{"Guide", (*cluster).testGuide, false},
		{"Connectivity", (*cluster).testConnectivity, false},
		{"ControlPlaneOutage", (*cluster).testOutage, false},
		{"AgentsRestartUnderLoad", (*cluster).testRollout, false},
		{"NodeLeavesAndReturns", (*cluster).testNode, false},
		{"Uninstall", (*cluster).testUninstall, false},
	} {
		start := time.Now()
		ok := t.Run(part.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					c.explain(t)
				}
			})
			part.run(c, t)
		})
		t.Logf("%s took %.0f s", part.name, time.Since(start).Seconds())
		if !ok && part.required {
			break
		}
	}
}

// cluster is one with nodes, and weir's programs.
type cluster struct {
	*bed.Bed
	nodes    int    // numbered from 1
	programs string // folder with weir's programs
}

// start builds a cluster without a network, which ends with the test.
func start(t *testing.T, prefix string, nodes int) *cluster {
	t.Helper()
	bin := bed.Require(t)
	c := &cluster{programs: programs(t), nodes: nodes}
	var err error
	c.Bed, err = bed.OpenAny(bed.Options{Prefix: prefix, Bin: bin, Programs: c.programs, Nodes: nodes, Ephemeral: true, Log: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() {
		if dir := os.Getenv("WEIR_K8S_LOGS"); dir != "" && t.Failed() {
			c.collect(t, filepath.Join(dir, t.Name()))
		}
		require.NoError(t, c.Down())
		require.Empty(t, c.Traces())
		c.Close()
	})
	require.NoError(t, c.Up(t.Context()))
	return c
}

// programs gives the folder with weir's programs and the workload: those in $WEIR_BIN, as make has
// built them, or fresh ones.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, bed.Build(t.Context(), ".", os.Getenv("WEIR_BIN"), dir))
	require.NoError(t, os.Symlink("weir", filepath.Join(dir, "cilium")))
	return dir
}

// kubectl runs kubectl and wants success.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(args...)
	require.NoError(t, err)
	return out
}

// weir runs the command line in the control plane's network, by the name of cilium, as the guide does.
func (c *cluster) weir(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd, err := c.OnControlPlane(ctx, append([]string{filepath.Join(c.programs, "cilium")}, args...)...)
	require.NoError(t, err)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("cilium %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// apply creates or changes objects.
func (c *cluster) apply(t *testing.T, manifest string) {
	t.Helper()
	require.NoError(t, c.tryApply(manifest))
}

func (c *cluster) tryApply(manifest string) error {
	cmd, err := c.OnControlPlane(context.Background(), "kubectl", "apply", "-f", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w\n%s", err, out)
	}
	return nil
}

// applyFile applies one of testdata/manifests.
func (c *cluster) applyFile(t *testing.T, name string) {
	t.Helper()
	c.applyIn(t, "", name)
}

// applyIn applies one of testdata/manifests that leaves its namespace open.
func (c *cluster) applyIn(t *testing.T, namespace, name string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "manifests", name))
	require.NoError(t, err)
	c.apply(t, strings.ReplaceAll(string(data), "NAMESPACE", namespace))
}

// remove deletes a namespace with all that is in it, at the end of a test, and does not wait for that.
func (c *cluster) remove(t *testing.T, namespace string) {
	t.Cleanup(func() { c.kubectl(t, "delete", "namespace", namespace, "--wait=false", "--ignore-not-found") })
}

// exec runs the workload in a pod and gives what it printed.
func (c *cluster) exec(namespace, pod string, args ...string) (string, error) {
	return c.Kubectl(append([]string{"-n", namespace, "exec", pod, "--", "/workload"}, args...)...)
}

// rollout waits until everything that an object wants runs.
func (c *cluster) rollout(t *testing.T, namespace, object string) {
	t.Helper()
	c.kubectl(t, "-n", namespace, "rollout", "status", object, "--timeout=180s")
}

// get reads objects into what out points to.
func (c *cluster) get(t *testing.T, out any, args ...string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(c.kubectl(t, append([]string{"get", "-o", "json"}, args...)...)), out))
}

// pod is the part of a Pod that tests look at.
type pod struct {
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Spec struct {
		NodeName    string
		HostNetwork bool
	}
	Status struct {
		Phase  string
		PodIP  string
		PodIPs []struct{ IP string }
	}
}

// pods lists a namespace's pods that carry a label; an empty selector selects all.
func (c *cluster) pods(t *testing.T, namespace, selector string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	c.get(t, &list, "-n", namespace, "pods", "-l", selector)
	return list.Items
}

// explain prints what is wrong in the cluster, as far as that shows.
func (c *cluster) explain(t *testing.T) {
	for _, args := range [][]string{
		{"get", "nodes,pods", "-A", "-o", "wide"},
		{"-n", "kube-system", "logs", "-l", "k8s-app=cilium", "--tail=12", "--prefix", "--all-containers"},
		{"-n", "kube-system", "logs", "-l", "name=cilium-operator", "--tail=8", "--prefix"},
		{"get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"},
	} {
		out, err := c.Kubectl(args...)
		if err != nil {
			out = err.Error()
		}
		lines := strings.Split(out, "\n")
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	for i := 1; i <= c.nodes; i++ {
		t.Log(c.NodeLogs(i, 12))
	}
}

// collect copies the logs of components and nodes to a folder, for whoever looks into a failure.
func (c *cluster) collect(t *testing.T, dir string) {
	script := `mkdir -p "$1"; cp -r "$2"/log "$1"/; for n in "$2"/n*/; do cp -r "$n/var/log" "$1/$(basename "$n")"; done`
	if out, err := exec.Command("bash", "-c", script, "collect", dir, c.Dir()).CombinedOutput(); err != nil {
		t.Logf("collect logs: %v: %s", err, out)
	}
}

// figure logs a measurement, and appends it to the file $WEIR_K8S_REPORT for whoever reads no logs.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("WEIR_K8S_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s: %s\n", t.Name(), line)
	require.NoError(t, err)
}

// eventually wants f to succeed within a time; what it said last is part of the failure.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
