package bed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// open returns a handle that is taken down with the test, and then without a trace.
func open(t *testing.T, o Options) *Bed {
	t.Helper()
	o.Bin, o.Ephemeral, o.Log = Require(t), true, t.Output()
	b, err := OpenAny(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kube-apiserver: %s", b.Tail("kube-apiserver", 10))
			for i := 1; i <= o.Nodes; i++ {
				t.Log(b.NodeLogs(i, 10))
			}
		}
		assert.NoError(t, b.Down())
		assert.Empty(t, b.Traces())
		b.Close()
	})
	return b
}

func TestTwoClustersSideBySide(t *testing.T) {
	one, two := open(t, Options{Prefix: "bt1", Nodes: 1}), open(t, Options{Prefix: "bt2", Nodes: 1, IPv4Only: true, APIOnly: true})
	ctx := t.Context()
	require.NoError(t, one.Up(ctx))
	require.NoError(t, two.Up(ctx))

	nodes, err := one.Kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name} {.items[0].status.addresses[?(@.type=='InternalIP')].address} {.items[0].spec.podCIDRs}")
	require.NoError(t, err)
	assert.Regexp(t, `^n1 172\.30\.0\.11 fd30::11 \["10\.244\.0\.0/24","fd00:10:244:.*/64"\]$`, nodes)
	nodes, err = two.Kubectl("get", "nodes", "-o", "name")
	require.NoError(t, err)
	assert.Empty(t, nodes, "without kubelets nobody registers")

	cmd, err := one.OnNode(t.Context(), 1, "pkill", "-KILL", "-x", "kubelet")
	require.NoError(t, err)
	require.NoError(t, cmd.Run())
	require.Eventually(t, func() bool {
		cmd, err := one.OnNode(context.Background(), 1, "pgrep", "-x", "kubelet")
		return err == nil && cmd.Run() == nil && strings.Contains(one.NodeLogs(1, 3), "kubelet ended with status 137: ")
	}, 30*time.Second, 100*time.Millisecond, "what a node runs for good is started again")

	config, err := one.Config()
	require.NoError(t, err)
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	resp, err := client.Get(config.Host + "/api/v1/nodes/n1")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 200, resp.StatusCode)

	_, err = Open(Options{Prefix: one.o.Prefix})
	assert.ErrorContains(t, err, one.o.Prefix+" is in use")
	third, err := OpenAny(Options{Prefix: one.o.Prefix})
	require.NoError(t, err)
	defer third.Close()
	assert.Equal(t, one.o.Prefix+"1", third.o.Prefix)
}

func TestNodeIsAMachineOfItsOwn(t *testing.T) {
	b := open(t, Options{Prefix: "bt1", Nodes: 2, APIOnly: true})
	require.NoError(t, b.Up(t.Context()))
	on := func(i int, script string) string {
		t.Helper()
		cmd, err := b.OnNode(t.Context(), i, "bash", "-c", script)
		require.NoError(t, err)
		out, err := output(cmd)
		require.NoError(t, err)
		return out
	}
	boot := on(1, "cat /proc/sys/kernel/random/boot_id")
	assert.NotEqual(t, boot, on(2, "cat /proc/sys/kernel/random/boot_id"))
	assert.Equal(t, "n1", on(1, "hostname"))
	assert.Equal(t, "0::/", on(1, "grep ^0: /proc/self/cgroup"), "the node's cgroup is the root of what it sees")
	assert.NotContains(t, on(1, "ls -A /run/netns"), "bt1", "the machine's namespaces are not the node's")
	on(1, "mkdir /sys/fs/bpf/weir /run/weir; echo kept >/etc/cni/net.d/x; mkdir /sys/fs/cgroup/unified/pod 2>/dev/null || mkdir /sys/fs/cgroup/pod")

	require.NoError(t, b.KillNode(1))
	_, err := b.OnNode(t.Context(), 1, "true")
	assert.ErrorContains(t, err, "node n1 is not running")
	require.NoError(t, b.StartNode(t.Context(), 1))
	require.Eventually(t, func() bool {
		cmd, err := b.OnNode(context.Background(), 1, "test", "-e", "/etc/cni/net.d/x")
		return err == nil && cmd.Run() == nil
	}, 10*time.Second, 50*time.Millisecond, "the disk outlives the machine")
	assert.NotEqual(t, boot, on(1, "cat /proc/sys/kernel/random/boot_id"))
	assert.Empty(t, on(1, "ls -d /sys/fs/bpf/weir /run/weir /sys/fs/cgroup/unified/pod /sys/fs/cgroup/pod 2>/dev/null || true"), "memory does not")
}

func TestControlPlaneComesBack(t *testing.T) {
	b := open(t, Options{Prefix: "bt1"})
	require.NoError(t, b.Up(t.Context()))
	_, err := b.Kubectl("create", "namespace", "kept")
	require.NoError(t, err)
	b.StopControlPlane()
	_, err = b.Kubectl("get", "namespace", "kept")
	assert.Error(t, err)
	require.NoError(t, b.StartControlPlane(t.Context()))
	_, err = b.Kubectl("get", "namespace", "kept")
	assert.NoError(t, err)
}

// TestKilledProcessLeavesWhatDownRemoves runs itself as a process that starts a cluster and is killed.
func TestKilledProcessLeavesWhatDownRemoves(t *testing.T) {
	bin := Require(t)
	if os.Getenv("BED_VICTIM") != "" {
		b, err := OpenAny(Options{Prefix: "bt1", Bin: bin, Nodes: 1, APIOnly: true, Ephemeral: true})
		require.NoError(t, err)
		require.NoError(t, b.Up(t.Context()))
		fmt.Println("victim:", b.o.Prefix)
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcessLeavesWhatDownRemoves$", "-test.v")
	cmd.Env = append(os.Environ(), "BED_VICTIM=1")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	prefix := ""
	for lines := bufio.NewScanner(stdout); prefix == "" && lines.Scan(); {
		if text, said := strings.CutPrefix(lines.Text(), "victim: "); said {
			prefix = text
		}
	}
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	require.NotEmpty(t, prefix)
	b := open(t, Options{Prefix: prefix})
	assert.Eventually(t, func() bool {
		for _, dir := range b.cgroups("") {
			if procs, _ := os.ReadFile(dir + "/cgroup.procs"); len(procs) > 0 {
				return false
			}
		}
		return true
	}, 10*time.Second, 50*time.Millisecond, "the processes end with the one that wanted them")
	assert.NotEmpty(t, b.Traces())
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Open(Options{Prefix: "Too-Long"})
	assert.ErrorContains(t, err, `prefix "Too-Long": allowed are one to five lower-case letters and digits`)
	_, err = Open(Options{Prefix: "bt3", Nodes: 10})
	assert.ErrorContains(t, err, "10 nodes: allowed are 0 to 9")
}
