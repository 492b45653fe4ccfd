package k8s_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// install runs cilium install with the common values and more, which win.
func (c *cluster) install(t *testing.T, more ...string) {
	t.Helper()
	args, err := bed.InstallArgs(more...)
	require.NoError(t, err)
	out, err := c.weir(t, args...)
	require.NoError(t, err)
	t.Log(out)
}

// testInstall installs weir as a user would, on nodes that have no network yet.
func (c *cluster) testInstall(t *testing.T) {
	start := time.Now()
	c.install(t)
	figure(t, "cilium install --wait took %.1f s", time.Since(start).Seconds())
	out, err := c.weir(t, "status", "--wait")
	require.NoError(t, err)
	t.Log(out)
	c.kubectl(t, "wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
	figure(t, "nodes are Ready %.1f s after the start of the installation", time.Since(start).Seconds())

	assert.Empty(t, c.pods(t, "kube-system", "k8s-app=kube-proxy"))
	assert.Len(t, c.pods(t, "kube-system", "k8s-app=cilium"), c.nodes)
	for i := 1; i <= c.nodes; i++ {
		taints := c.kubectl(t, "get", "node", bed.NodeName(i), "-o", "jsonpath={.spec.taints[*].key}")
		assert.NotContains(t, taints, "node.cilium.io/agent-not-ready")
		assert.Equal(t, "False", c.kubectl(t, "get", "node", bed.NodeName(i), "-o", "jsonpath={.status.conditions[?(@.type=='NetworkUnavailable')].status}"))
	}
}

// testDNS starts CoreDNS and asks it from a pod on each node.
func (c *cluster) testDNS(t *testing.T) {
	c.applyFile(t, "coredns.yaml")
	c.rollout(t, "kube-system", "deploy/coredns")
	c.workload(t, "dns")
	for _, p := range c.pods(t, "dns", "app=echo") {
		for name, want := range map[string]string{
			"kubernetes.default.svc.cluster.local": "10.96.0.1",
			"kube-dns.kube-system":                 bed.DNS,
			"echo":                                 c.kubectl(t, "-n", "dns", "get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}"),
		} {
			eventually(t, 10*time.Second, name+" from "+p.Spec.NodeName, func() error {
				out, err := c.exec("dns", p.Metadata.Name, "lookup", name)
				if err == nil && !strings.Contains(out+"\n", want+"\n") {
					err = fmt.Errorf("%q does not have %s", out, want)
				}
				return err
			})
		}
		_, err := c.exec("dns", p.Metadata.Name, "lookup", "nothing.default.svc.cluster.local")
		assert.ErrorContains(t, err, "no such host", "an answer, not silence")
	}
}

// testAddresses holds the pods' addresses against their nodes' ranges.
func (c *cluster) testAddresses(t *testing.T) {
	c.workload(t, "addresses")
	seen := map[string]string{}
	for _, p := range append(c.pods(t, "addresses", ""), c.pods(t, "kube-system", "k8s-app=kube-dns")...) {
		require.Len(t, p.Status.PodIPs, 2, p.Metadata.Name)
		ranges := strings.Fields(c.kubectl(t, "get", "node", p.Spec.NodeName, "-o", `jsonpath={.spec.podCIDRs[*]}`))
		require.Len(t, ranges, 2)
		for i, ip := range p.Status.PodIPs {
			assert.True(t, netip.MustParsePrefix(ranges[i]).Contains(netip.MustParseAddr(ip.IP)), "%s has %s on a node with %s", p.Metadata.Name, ip.IP, ranges)
			assert.Empty(t, seen[ip.IP], "%s has the address of another", p.Metadata.Name)
			seen[ip.IP] = p.Metadata.Name
		}
		ready := c.kubectl(t, "-n", c.namespaceOf(p), "get", "ciliumendpoint", p.Metadata.Name, "-o", "jsonpath={.status.networking.addressing[0].ipv4} {.status.networking.addressing[0].ipv6}")
		assert.Equal(t, p.Status.PodIPs[0].IP+" "+p.Status.PodIPs[1].IP, ready, "%s: the address in its CiliumEndpoint", p.Metadata.Name)
	}
}

func (c *cluster) namespaceOf(p pod) string {
	if strings.HasPrefix(p.Metadata.Name, "coredns") {
		return "kube-system"
	}
	return "addresses"
}
