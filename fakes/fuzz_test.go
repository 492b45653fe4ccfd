package fakes

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Whatever somebody applies: complaints name the file, the same again changes nothing, every pod that is taken
// runs on a node of the cluster, and deleting it all leaves the cluster as it was.
func FuzzApply(f *testing.F) {
	for _, s := range []string{
		"", "a: [", "[1]", "kind: Pod\napiVersion: v1\nmetadata: {name: web, namespace: shop}\nspec: {hostNetwork: true}\nstatus: x\n",
		"kind: Pod\napiVersion: v1\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: c, ports: [{containerPort: 80}]}]}\nstatus: {podIP: 10.244.2.7, podIPs: [{ip: 10.244.2.7}]}\n",
		"kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec: {nodeName: nowhere}\n", "kind: Pod\nmetadata: 1\nspec: []\n",
		"kind: Service\napiVersion: v1\nmetadata: {name: s, namespace: shop}\nspec: {ipFamilies: [IPv6, IPv4], ports: [{port: 80}]}\n",
		"kind: Service\napiVersion: v1\nmetadata: {name: s}\nspec: {ipFamilies: [IPv5]}\n", "kind: Service\napiVersion: v1\nmetadata: {name: s}\nspec: x\n",
		"kind: List\napiVersion: v1\nitems: [{kind: Namespace, apiVersion: v1, metadata: {name: shop}}, null, {kind: Node, apiVersion: v1, metadata: {name: node1}, spec: 1}]\n",
		"kind: CiliumIdentity\napiVersion: cilium.io/v2\nmetadata: {name: '300'}\nsecurity-labels: {a: b}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := New(nil, Options{Stopped: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		empty := c.store.Dump()
		file := ports.LabManifest{File: "x.yaml", Content: data}
		findings, err := c.ApplyFiles(t.Context(), file)
		require.NoError(t, err)
		for _, x := range findings {
			require.Equal(t, "x.yaml", x.File)
			require.NotEmpty(t, x.Message)
		}
		for _, e := range c.store.Snapshot() {
			if p, ok := e.(cluster.PodUpsert); ok {
				require.NotNil(t, c.findNode(p.Pod.Node), "%q", p.Pod.Node)
			}
		}
		before, dump := state(t, c), c.store.Dump()
		_, err = c.ApplyFiles(t.Context(), file)
		require.NoError(t, err)
		require.Equal(t, dump, c.store.Dump())
		require.Equal(t, before, state(t, c))

		_, err = c.DeleteFiles(t.Context(), file)
		require.NoError(t, err)
		require.Equal(t, empty, c.store.Dump())
	})
}

// state is what the nodes are told.
func state(t *testing.T, c *Cluster) (out []string) {
	t.Helper()
	for _, e := range c.store.Snapshot() {
		b, err := json.Marshal(e)
		require.NoError(t, err)
		out = append(out, string(b))
	}
	return out
}
