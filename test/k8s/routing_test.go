package k8s_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// TestNativeRouting has the pods' packets go from node to node as they are, by routes that the agents make.
func TestNativeRouting(t *testing.T) {
	t.Parallel() // mostly waits, as does its sibling
	c := start(t, "wn", 2)
	c.explainFailure(t)
	c.install(t, "routingMode=native", "autoDirectNodeRoutes=true", "ipv4NativeRoutingCIDR="+bed.PodRanges4, "ipv6NativeRoutingCIDR="+bed.PodRanges6)
	c.checkRouted(t, func(node int) []string {
		return strings.Fields(c.kubectl(t, "get", "node", bed.NodeName(node), "-o", "jsonpath={.spec.podCIDRs[*]}"))
	})
}

// delegatedConfig has another plugin give the addresses. A ConfigMap is the same for all nodes: node-ranges, which
// delegatedNode installs, puts the node's own ranges into it.
const delegatedConfig = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cni-configuration", "namespace": "kube-system"}, "data": {"cni-config":
	"{\"cniVersion\": \"0.4.0\", \"name\": \"delegated\", \"plugins\": [{\"type\": \"weir-cni\", \"agentSocket\": \"/var/run/cilium/weir.sock\", \"ipam\": {\"type\": \"node-ranges\"}}]}"}}`

// delegatedNode installs the plugins, and the routes to the other node that a cloud's network would have. Its
// arguments are the folder of the binaries, this node's number, and the other's number and addresses.
const delegatedNode = `set -e
cp -L "$1/host-local" /opt/cni/bin/host-local
cat >/opt/cni/bin/node-ranges <<X
#!/bin/bash
sed 's#"type": *"node-ranges"#"type": "host-local", "ranges": [[{"subnet": "10.250.$2.0/24"}], [{"subnet": "fd00:10:250:$2::/64"}]]#' | /opt/cni/bin/host-local
X
chmod +x /opt/cni/bin/node-ranges
ip route add "10.250.$3.0/24" via "$4"
ip -6 route add "fd00:10:250:$3::/64" via "$5"`

// TestDelegatedAddresses has a plugin of somebody else's give the pods' addresses, and somebody else route them.
func TestDelegatedAddresses(t *testing.T) {
	t.Parallel()
	c := start(t, "wd", 2)
	c.explainFailure(t)
	bin, err := bed.Binaries()
	require.NoError(t, err)
	for i := 1; i <= c.nodes; i++ {
		other := 3 - i
		cmd, err := c.OnNode(t.Context(), i, "bash", "-c", delegatedNode, "delegated", bin,
			fmt.Sprint(i), fmt.Sprint(other), bed.NodeAddress(other).String(), bed.NodeAddress6(other).String())
		require.NoError(t, err)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	c.apply(t, delegatedConfig)
	c.install(t, "ipam.mode=delegated-plugin", "routingMode=native", "ipv4NativeRoutingCIDR=10.250.0.0/16", "ipv6NativeRoutingCIDR=fd00:10:250::/48",
		"cni.configMap=cni-configuration", "extraConfig.local-router-ipv4=169.254.23.1", "extraConfig.local-router-ipv6=fd00::1")
	c.checkRouted(t, func(node int) []string {
		return []string{fmt.Sprintf("10.250.%d.0/24", node), fmt.Sprintf("fd00:10:250:%d::/64", node)}
	})
	taken := func(node int) string {
		cmd, err := c.OnNode(t.Context(), node, "bash", "-c", "cd /var/lib/cni/networks/delegated; ls -d [1-9]* fd* 2>/dev/null || true")
		require.NoError(t, err)
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	for _, p := range c.pods(t, "routing", "app=echo") {
		for _, ip := range p.Status.PodIPs {
			assert.Contains(t, taken(int(p.Spec.NodeName[1]-'0')), ip.IP+"\n")
		}
	}
	c.kubectl(t, "-n", "kube-system", "delete", "deployment", "coredns", "--cascade=foreground", "--timeout=60s")
	c.kubectl(t, "delete", "namespace", "routing", "--timeout=60s")
	for i := 1; i <= c.nodes; i++ {
		eventually(t, 20*time.Second, "the addresses are given back on "+bed.NodeName(i), func() error {
			if left := taken(i); left != "" {
				return fmt.Errorf("taken: %s", strings.Fields(left))
			}
			return nil
		})
	}
}

// explainFailure prints what is wrong in the cluster if the test fails.
func (c *cluster) explainFailure(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			c.explain(t)
		}
	})
}

// checkRouted wants pods to have addresses of their node's ranges and to reach each other, Services and the
// outside by both families, without an overlay; and a part of weir's own test of a cluster to pass.
func (c *cluster) checkRouted(t *testing.T, ranges func(node int) []string) {
	t.Helper()
	c.applyFile(t, "coredns.yaml")
	c.workload(t, "routing")
	require.NoError(t, c.Start("outside", "cp", filepath.Join(c.programs, "workload"), "serve"))
	defer c.Stop("outside", os.Interrupt, 5*time.Second)
	pods := c.pods(t, "routing", "app=echo")
	var s service
	c.get(t, &s, "-n", "routing", "service", "echo")
	client := func(from pod, to string) (text string, err error) {
		return c.exec("routing", from.Metadata.Name, "get", "http://"+net.JoinHostPort(to, "8080")+"/client")
	}
	for i := 1; i <= c.nodes; i++ {
		assert.NotContains(t, c.traces(t, i), "device cilium_vxlan", bed.NodeName(i))
		from := onNode(pods, i)
		require.Len(t, from.Status.PodIPs, 2)
		for k, own := range from.Status.PodIPs {
			assert.True(t, netip.MustParsePrefix(ranges(i)[k]).Contains(netip.MustParseAddr(own.IP)), "%s has %s", bed.NodeName(i), own.IP)
			for _, to := range pods {
				eventually(t, 20*time.Second, fmt.Sprintf("from %s to %s on %s", own.IP, to.Status.PodIPs[k].IP, to.Spec.NodeName), func() error {
					got, err := client(from, to.Status.PodIPs[k].IP)
					if err == nil && got != own.IP {
						err = fmt.Errorf("it came from %s", got)
					}
					return err
				})
			}
			seen, err := c.exec("routing", from.Metadata.Name, "sample", "http://"+net.JoinHostPort(s.Spec.ClusterIPs[k], "80")+"/hostname")
			require.NoError(t, err)
			assert.Len(t, strings.Fields(seen), len(pods), "backends that %s reaches", own.IP)
		}
		for out, want := range map[string]string{bed.Outside: bed.NodeAddress(i).String(), bed.Outside6: bed.NodeAddress6(i).String()} {
			got, err := client(from, out)
			require.NoError(t, err)
			assert.Equal(t, want, got, "pods go outside as their node")
		}
	}
	c.rollout(t, "kube-system", "deploy/coredns")
	c.connectivity(t, "--test", "no-policies", "--test", "^echo-ingress$", "--test", "^all-egress-deny-knp$")
}
