package agenttest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// buildConfig runs what the init container "config" runs.
func (n *node) buildConfig(args ...string) (string, error) {
	n.t.Helper()
	out, err := n.command(filepath.Join(programs, "weir-agent"), append([]string{"build-config", "--config-dir", n.config, "--node-config", n.nodeConfig()}, args...)...).CombinedOutput()
	return string(out), err
}

func (n *node) nodeConfig() string { return filepath.Join(n.run(), "node-config.json") }

// nodeConfigObject makes a CiliumNodeConfig for nodes with the label role=edge; defaults are YAML.
func (n *node) nodeConfigObject(name, defaults string) {
	n.t.Helper()
	n.apply("ciliumnodeconfigs", fmt.Sprintf(`{apiVersion: cilium.io/v2, kind: CiliumNodeConfig, metadata: {name: %s, namespace: kube-system},
spec: {nodeSelector: {matchLabels: {role: edge}}, defaults: {%s}}}`, name, defaults))
}

func (n *node) setNodeConfig(name, defaults string) {
	n.t.Helper()
	_, err := n.client.Resource(schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnodeconfigs"}).Namespace("kube-system").
		Patch(context.Background(), name, types.MergePatchType, []byte(`{"spec":{"defaults":`+defaults+`}}`), metav1.PatchOptions{})
	require.NoError(n.t, err)
}

func (n *node) warned(text string) func() bool {
	return func() bool { return strings.Contains(strings.Join(n.status().Warnings, "\n"), text) }
}

// CiliumNodeConfigs count from before the agent's start; what changes afterwards is applied or told; and an agent
// starts with them when the API server is away.
func TestCiliumNodeConfigs(t *testing.T) {
	n := newNode(t, "n4")
	n.arguments = []string{"--node-config", n.nodeConfig()}
	n.set("mtu", "1420")
	n.apply("nodes", `{apiVersion: v1, kind: Node, metadata: {name: n4, labels: {role: edge}}, spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd01::/64"]},
status: {addresses: [{type: InternalIP, address: 10.200.1.1}, {type: InternalIP, address: "fd02:1::1"}]}}`)
	n.nodeConfigObject("a", `mtu: "1400", tunnel-port: many`)
	n.nodeConfigObject("b", `mtu: "1380"`)

	n.cluster.StopAPIServer(t)
	out, err := n.buildConfig("--timeout=2s")
	require.Error(t, err, "nothing is known yet")
	assert.Contains(t, out, "find the CiliumNodeConfigs of node n4: ")
	assert.Contains(t, out, "; none are known from before")
	n.cluster.StartAPIServer(t)
	out, err = n.buildConfig()
	require.NoError(t, err, out)
	assert.Contains(t, out, "CiliumNodeConfigs that select node n4: 2\n  kube-system/a\n  kube-system/b\n")
	assert.Contains(t, out, `mtu: "1380", from CiliumNodeConfig kube-system/b, instead of "1420" (ConfigMap cilium-config)`)
	refused := `CiliumNodeConfig kube-system/a: tunnel-port: "many" is not a whole number; allowed: 1 to 65535; "8472" (default) stays in force`
	assert.Contains(t, out, "⚠️  "+refused)
	table, err := n.command(filepath.Join(programs, "weir-agent"), "config", "--config-dir", n.config, "--node-config", n.nodeConfig()).CombinedOutput()
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^mtu +1380 +CiliumNodeConfig kube-system/b +obeyed`, string(table))

	n.start()
	n.ready()
	assert.Contains(t, n.status().Warnings, "configuration: "+refused)
	assert.NotContains(t, strings.Join(n.status().Warnings, "\n"), "restart")
	n.setNodeConfig("b", `{"mtu":"1300","debug":"true"}`)
	n.eventually("a change is told", n.warned(`configuration: mtu is now "1300" (CiliumNodeConfig kube-system/b), the agent still works with "1380" (CiliumNodeConfig kube-system/b): restart the agent on node n4`))
	n.eventually("what can be applied is", func() bool {
		return strings.Contains(n.log.String(), `key=debug was=false is=true from="CiliumNodeConfig kube-system/b"`)
	})
	n.patch("nodes", "n4", `{"metadata":{"labels":{"role":"core"}}}`)
	n.eventually("a label of the node counts", n.warned(`configuration: mtu is now "1420" (ConfigMap cilium-config), the agent still works with "1380" (CiliumNodeConfig kube-system/b): restart the agent on node n4`))
	n.patch("nodes", "n4", `{"metadata":{"labels":{"role":"edge"}}}`)
	n.eventually("and again", n.warned(`mtu is now "1300"`))

	n.stop()
	n.cluster.StopAPIServer(t)
	out, err = n.buildConfig("--timeout-last-known=1s")
	require.NoError(t, err, out)
	assert.Contains(t, out, "the CiliumNodeConfigs known last stay in force")
	assert.Contains(t, out, `mtu: "1300", from CiliumNodeConfig kube-system/b`, "the agent before kept what it heard")
	n.start()
	n.eventually("the agent starts without the API server", func() bool {
		return strings.Contains(n.log.String(), `mtu: \"1300\", from CiliumNodeConfig kube-system/b`)
	})
	n.cluster.StartAPIServer(t)
	n.ready()
	assert.NotContains(t, strings.Join(n.status().Warnings, "\n"), "restart")
	n.stop()

	n.set("enable-cilium-node-config", "false")
	out, err = n.buildConfig()
	require.NoError(t, err, out)
	assert.Contains(t, out, "CiliumNodeConfigs do not count")
	n.start()
	n.ready()
	assert.NotContains(t, strings.Join(n.status().Warnings, "\n"), "CiliumNodeConfig")
}
