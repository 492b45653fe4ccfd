package agenttest_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
)

const nodeObject = `{apiVersion: v1, kind: Node, metadata: {name: n1},
status: {addresses: [{type: InternalIP, address: 10.200.1.1}, {type: InternalIP, address: "fd02:1::1"}]}}`

// An agent on a node of a real API server, from its first start to its removal.
func TestOnANode(t *testing.T) {
	n := newNode(t, "n1")
	require.NoError(t, os.WriteFile(filepath.Join(n.confDir, "10-theirs.conflist"), []byte("{}"), 0o644))
	n.set("tpyo", "x")
	n.set("enable-bandwidth-manager", "true")
	n.start()

	// It waits, and says for what; it is alive all the while.
	n.eventually("waits for its node", func() bool {
		code, body := n.health("brief", "true")
		return code == 503 && strings.Contains(body, "there is no node n1")
	})
	n.apply("nodes", nodeObject)
	n.eventually("waits for podCIDRs", func() bool {
		_, body := n.health("brief", "true")
		return strings.Contains(body, "kube-controller-manager assigns it")
	})
	code, body := n.health("brief", "true", "require-k8s-connectivity", "false")
	assert.Equal(t, 200, code, body)
	assert.NoFileExists(t, filepath.Join(n.confDir, cni.ConflistName), "no pods yet")
	assert.FileExists(t, filepath.Join(n.confDir, "10-theirs.conflist"), "nor is theirs taken away yet")
	n.patch("nodes", "n1", `{"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd01::/64"]}}`)
	n.ready()
	n.eventually("the plugin is installed", func() bool {
		_, err := os.Stat(filepath.Join(n.confDir, cni.ConflistName))
		return err == nil
	})
	n.eventually("theirs is put aside", func() bool {
		_, err := os.Stat(filepath.Join(n.confDir, "10-theirs.conflist.cilium_bak"))
		return err == nil
	})
	s := n.status()
	assert.Empty(t, s.Problems)
	require.Len(t, s.Warnings, 2)
	assert.Contains(t, s.Warnings[0], "bandwidths of pods are not limited")
	assert.Contains(t, s.Warnings[1], `tpyo: unknown key (value "x")`)
	assert.Equal(t, "nftables [IPv4: Enabled, IPv6: Enabled]", s.Masquerade)

	// A pod whose policy lets it go outside and lets nobody in.
	n.apply("namespaces", `{apiVersion: v1, kind: Namespace, metadata: {name: shop}}`)
	n.apply("serviceaccounts", `{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}`)
	n.apply("networkpolicies", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: shop},
spec: {podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{ipBlock: {cidr: 10.200.1.2/32}}, {ipBlock: {cidr: "fd02:1::2/128"}}]}]}}`)
	n.apply("pods", `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}`)
	pod := n.add("shop", "a")
	netnstest.Serve(t, n.outside)
	n.outsideSees(pod)
	netnstest.Serve(t, pod)
	_, err := netnstest.SeenAs(n.outside, "tcp", "10.1.0.2") // by way of the node
	assert.Error(t, err, "nobody comes in")

	// What others take away comes back.
	out, err := exec.Command("nsenter", "--net="+netns.Path(n.ns), "nft", "flush", "ruleset").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Remove(filepath.Join(n.confDir, cni.ConflistName)))
	n.eventually("masquerading is back", func() bool {
		seen, err := netnstest.SeenAs(pod, "udp", "10.200.1.2")
		return err == nil && seen == "10.200.1.1"
	})
	n.eventually("the conflist is back", func() bool {
		_, err := os.Stat(filepath.Join(n.confDir, cni.ConflistName))
		return err == nil
	})

	// The configuration changes.
	n.set("mtu", "1300")
	n.set("enable-ipv6-masquerade", "false")
	n.eventually("the need of a restart is said", func() bool {
		return strings.Contains(strings.Join(n.status().Warnings, "\n"), `mtu is now "1300" (ConfigMap cilium-config), the agent still works with "0" (default): restart the agent on node n1`)
	})
	n.eventually("IPv6 is not masqueraded any more", func() bool {
		return n.status().Masquerade == "nftables [IPv4: Enabled, IPv6: Disabled]"
	})
	n.set("routing-mode", "teleport")
	n.eventually("a wrong value is refused", func() bool {
		return strings.Contains(strings.Join(n.status().Problems, "\n"), `routing-mode: "teleport"`)
	})
	n.set("routing-mode", "tunnel")
	n.set("enable-ipv6-masquerade", "true")
	n.eventually("and right again", func() bool {
		s := n.status()
		return len(s.Problems) == 0 && s.Masquerade == "nftables [IPv4: Enabled, IPv6: Enabled]"
	})

	// The API server goes: nothing else does.
	n.cluster.StopAPIServer(t)
	code, body = n.health("brief", "true")
	assert.Equal(t, 200, code, body)
	n.outsideSees(pod)
	n.cluster.StartAPIServer(t)

	// The agent goes: pods stay connected and can be removed, new ones wait in vain and are told why.
	n.stop()
	n.outsideSees(pod)
	_, err = netnstest.SeenAs(n.outside, "tcp", "10.1.0.2")
	assert.Error(t, err, "still nobody comes in")
	n.set("ipam", "cluster-pool")
	require.Equal(t, 1, n.failsToStart(), "another IPAM mode while there are pods")
	assert.Contains(t, n.log.String(), "ipam")
	n.set("ipam", "kubernetes")
	n.start()
	n.ready()
	n.outsideSees(pod)
	assert.Equal(t, 1300, n.reserveMTU(), "the new MTU is in use")

	// It is removed.
	n.set("cni-uninstall", "true")
	n.eventually("uninstalling is noticed", func() bool { return strings.Contains(n.log.String(), "cni-uninstall") })
	n.stop()
	assert.NoFileExists(t, filepath.Join(n.confDir, cni.ConflistName))
	assert.FileExists(t, filepath.Join(n.confDir, "10-theirs.conflist"), "theirs is back")
	b, err := n.command(filepath.Join(programs, "weir-agent"), "cleanup", "--config-dir", n.config).CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(b), "--force")
	b, err = n.command(filepath.Join(programs, "weir-agent"), "cleanup", "--config-dir", n.config, "--force").CombinedOutput()
	require.NoError(t, err, "%s", b)
	b, err = exec.Command("ip", "-n", n.ns, "-o", "link").CombinedOutput()
	require.NoError(t, err)
	assert.NotContains(t, string(b), "cilium_")
	assert.NotContains(t, string(b), "lxc")
	assert.NoDirExists(t, filepath.Join(n.bpffs(), "weir"))
	b, err = exec.Command("nsenter", "--net="+netns.Path(n.ns), "nft", "list", "ruleset").CombinedOutput()
	require.NoError(t, err)
	assert.Empty(t, string(b))
}

// outsideSees checks that the host outside sees the pod as its node, and answers it.
func (n *node) outsideSees(pod string) {
	n.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		for address, want := range map[string]string{"10.200.1.2": "10.200.1.1", "fd02:1::2": "fd02:1::1"} {
			seen, err := netnstest.SeenAs(pod, network, address)
			assert.NoError(n.t, err, "%s %s", network, address)
			assert.Equal(n.t, want, seen, "%s %s", network, address)
		}
	}
	assert.NoError(n.t, netnstest.Ping(pod, "ip4:icmp", "10.200.1.2", 8, 0))
	assert.NoError(n.t, netnstest.Ping(pod, "ip6:ipv6-icmp", "fd02:1::2", 128, 129))
	if n.t.Failed() {
		out, _ := exec.Command("bash", "-c", "ip -n "+n.ns+" -6 neigh; ip -n "+n.outside+" -6 neigh; nsenter --net="+netns.Path(n.ns)+
			" nft list ruleset; nsenter --net="+netns.Path(n.ns)+" conntrack -L -f ipv6; nsenter --net="+netns.Path(n.ns)+" conntrack -S").CombinedOutput()
		n.t.Fatalf("%s", out)
	}
}

// failsToStart starts the agent, which must end by itself, and returns its exit code.
func (n *node) failsToStart() int {
	n.t.Helper()
	n.start()
	a := n.agent
	n.agent = nil
	done := make(chan error, 1)
	go func() { done <- a.Wait() }()
	select {
	case <-done:
		return a.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		_ = a.Process.Kill()
		n.t.Fatalf("the agent does not end:\n%s", n.log)
	}
	return 0
}

func (n *node) reserveMTU() int {
	n.t.Helper()
	n.apply("pods", `{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}`)
	ns := n.add("shop", "b")
	mtu := 0
	require.NoError(n.t, netns.Do(netns.Path(ns), func() error {
		d, err := net.InterfaceByName("eth0")
		if err == nil {
			mtu = d.MTU
		}
		return err
	}))
	return mtu
}

func (n *node) patch(resource, name, patch string) {
	n.t.Helper()
	_, err := n.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).
		Patch(context.Background(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(n.t, err)
}

// Agents come and go; connections are made all the time.
func TestRestarts(t *testing.T) {
	n := newNode(t, "n2")
	n.apply("nodes", `{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd01::/64"]},
status: {addresses: [{type: InternalIP, address: 10.200.1.1}, {type: InternalIP, address: "fd02:1::1"}]}}`)
	n.apply("namespaces", `{apiVersion: v1, kind: Namespace, metadata: {name: r}}`)
	n.apply("serviceaccounts", `{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: r}}`)
	n.apply("networkpolicies", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: r},
spec: {podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{ipBlock: {cidr: 10.200.1.2/32}}, {ipBlock: {cidr: "fd02:1::2/128"}}]}]}}`)
	n.apply("pods", `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: r}, spec: {nodeName: n2, containers: [{name: c, image: i}]}}`)
	n.start()
	n.ready()
	n.installed()
	pod := n.add("r", "a")
	netnstest.Serve(t, n.outside)
	n.outsideSees(pod)
	for range 5 {
		n.stop()
		n.outsideSees(pod)
		n.start()
		n.outsideSees(pod)
		n.ready()
		n.outsideSees(pod)
	}
}

// installed waits for the CNI configuration.
func (n *node) installed() {
	n.t.Helper()
	n.eventually("the plugin is installed", func() bool {
		_, err := os.Stat(filepath.Join(n.confDir, cni.ConflistName))
		return err == nil
	})
}

// The cluster IP of the API server's own service is given as its address, and no agent ran here before.
func TestAPIServerThatNeedsTheAgent(t *testing.T) {
	n := newNode(t, "n3")
	n.set("kube-proxy-replacement", "true")
	n.set("k8s-api-server", "https://10.96.0.1:443")
	n.environment = []string{"KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1"}
	n.start()
	n.eventually("the loop is named", func() bool {
		_, body := n.health()
		return strings.Contains(body, "problem: API server: 10.96.0.1:443 does not answer") &&
			strings.Contains(body, "it is the cluster IP of the service kubernetes") &&
			strings.Contains(body, "set k8sServiceHost")
	})
	code, body := n.health("brief", "true", "require-k8s-connectivity", "false")
	assert.Equal(t, 200, code, body)
}
