package filestore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
)

// put writes files below a directory, the way an editor does: by rename.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path+"~", []byte(text), 0o644))
		require.NoError(t, os.Rename(path+"~", path))
	}
}

const shopYAML = `# the shop
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  nodeName: n1
  containers:
  - name: c
    ports: [{name: http, containerPort: 8080}]
status: {podIPs: [{ip: 10.0.0.5}, {ip: "fd00::5"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.5, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`

const denyYAML = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}}
`

func kinds(events []cluster.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, describe(e))
	}
	return out
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{
		"shop.yaml":     shopYAML,
		"sub/deny.yml":  denyYAML,
		"sub/b.json":    `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"spec":{"podCIDRs":["10.0.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"192.168.0.1"}]}}]}`,
		"broken.yaml":   "apiVersion: v1\nkind: [",
		"other.yaml":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n",
		".hidden.yaml":  denyYAML,
		"README.md":     "nothing",
		"z-second.yaml": denyYAML,
	})
	events, findings, err := ReadDir(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"node n1", "namespace shop", "policy NetworkPolicy shop/deny", "pod shop/web-1",
		"backends shop/web (from pods) 1", "service shop/web",
	}, kinds(events))
	require.Len(t, findings, 3)
	assert.Contains(t, findings[0].String(), "broken.yaml: is not valid YAML: yaml: line 2")
	assert.Contains(t, findings[1].String(), "Deployment d: ignored")
	assert.True(t, findings[1].Warning)
	assert.Contains(t, findings[2].String(), "z-second.yaml: NetworkPolicy shop/deny: defined before in "+filepath.Join(dir, "sub/deny.yml"))
}

func TestReadDirWithoutDirectory(t *testing.T) {
	_, _, err := ReadDir(filepath.Join(t.TempDir(), "none"))
	require.Error(t, err)
}
