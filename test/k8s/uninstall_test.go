package k8s_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// datapath is what an agent leaves on a node when it ends: traffic needs all of it.
var datapath = []string{
	"device cilium_host", "device cilium_net", "device cilium_vxlan",
	"file /opt/cni/bin/loopback", "file /opt/cni/bin/weir-cni", "nftables weir", "pins /sys/fs/bpf/weir",
	"program Inet4Connect at the cgroup", "program Inet6Connect at the cgroup",
	"program UDP4Recvmsg at the cgroup", "program UDP4Sendmsg at the cgroup",
	"program UDP6Recvmsg at the cgroup", "program UDP6Sendmsg at the cgroup",
	"program Inet4GetPeername at the cgroup", "program Inet6GetPeername at the cgroup",
	"program egress at cilium_host", "program ingress at cilium_vxlan", "program ingress at eth0", "program egress at eth0",
}

// attached is what a node with pods has besides.
var attached = []string{"device lxc", "program egress at lxc", "program ingress at lxc"}

// wantTraces wants exactly these on the i-th node.
func (c *cluster) wantTraces(t *testing.T, i int, when string, want ...string) {
	t.Helper()
	assert.ElementsMatch(t, want, c.traces(t, i), "%s %s", bed.NodeName(i), when)
}

// testUninstall removes weir in each way there is, and looks for what that leaves in the API and on the nodes.
func (c *cluster) testUninstall(t *testing.T) {
	c.waitRemoved(t)
	l := c.startLoad(t, "stays", 0)
	before := l.reports(t)

	// By default only what the chart brought goes: pods keep their network until another one takes over.
	c.uninstall(t)
	for i := 1; i <= c.nodes; i++ {
		c.wantTraces(t, i, "after the removal", slices.Concat(datapath, attached, []string{"file /etc/cni/net.d/05-cilium.conflist"})...)
	}
	time.Sleep(3 * time.Second)
	l.wantNoFailure(t, before)
	c.kubectl(t, "delete", "namespace", "stays", "--timeout=60s") // pods end without an agent, too

	// An agent that is to clean up does so before it starts: of the pods that were there, only those that
	// start anew have a network.
	c.install(t, "cleanState=true", "cni.uninstall=true")
	for i := 1; i <= c.nodes; i++ {
		c.wantTraces(t, i, "after an installation with cleanState", append(datapath, "file /etc/cni/net.d/05-cilium.conflist")...)
	}
	c.kubectl(t, "-n", "kube-system", "rollout", "restart", "deployment/coredns")
	c.rollout(t, "kube-system", "deploy/coredns")
	c.workload(t, "again")
	c.kubectl(t, "delete", "namespace", "again", "--timeout=60s")
	c.kubectl(t, "-n", "kube-system", "delete", "deployment", "coredns", "--cascade=foreground", "--timeout=60s")
	c.uninstall(t)
	for i := 1; i <= c.nodes; i++ {
		c.wantTraces(t, i, "after a removal with cni.uninstall", datapath...)
	}

	// And what is left goes by hand, node by node.
	for i := 1; i <= c.nodes; i++ {
		cmd, err := c.OnNode(t.Context(), i, filepath.Join(c.programs, "weir-agent"), "cleanup", "--force")
		require.NoError(t, err)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		c.wantTraces(t, i, "after cleanup --force")
	}
	c.kubectl(t, "delete", "crd", "-l", "io.cilium.k8s.crd.schema.version")
	assert.NotContains(t, c.kubectl(t, "get", "crd", "-o", "name"), "cilium.io")
}

// uninstall runs cilium uninstall and wants the agents and what they might do gone.
func (c *cluster) uninstall(t *testing.T) {
	t.Helper()
	out, err := c.weir(t, "uninstall", "--wait")
	require.NoError(t, err)
	t.Log(out)
	eventually(t, time.Minute, "agents end", func() error {
		if left := c.pods(t, "kube-system", "k8s-app=cilium"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
	assert.Empty(t, c.kubectl(t, "get", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/part-of=cilium", "-o", "name"))
}

// waitRemoved waits until the namespaces of other parts are gone.
func (c *cluster) waitRemoved(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "pods of the other parts end", func() error {
		out, err := c.Kubectl("get", "namespaces", "--field-selector=status.phase=Terminating", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("left: %s", strings.Fields(out))
		}
		return err
	})
}
