package bed

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestE2ENames(t *testing.T) {
	toolbox, pause, boom := e2eNames([]string{
		"registry.k8s.io/e2e-test-images/agnhost:2.66.1", "registry.k8s.io/pause:3.10.2", "registry.k8s.io/etcd:3.7.0-0",
		"registry.k8s.io/e2e-test-images/busybox:1.37.0-2", "registry.k8s.io/e2e-test-images/regression-issue-74839:1.5",
	})
	assert.Equal(t, []string{"registry.k8s.io/e2e-test-images/agnhost:2.66.1", "registry.k8s.io/e2e-test-images/busybox:1.37.0-2"}, toolbox)
	assert.Equal(t, []string{"registry.k8s.io/pause:3.10.2"}, pause)
	assert.Equal(t, []string{"registry.k8s.io/e2e-test-images/regression-issue-74839:1.5"}, boom)
}

func TestImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, image{
		names: []string{"example.test/a:1", "example.test/b:2"}, command: []string{"/run"}, arguments: []string{"now"},
		files: []entry{{name: "tmp/", mode: 0o1777}, {name: "run", content: "program", mode: 0o755}, {name: "bin/run", link: "../run"}},
	}.write(path))
	outer := unpack(t, path)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	require.NoError(t, json.Unmarshal([]byte(outer["manifest.json"].content), &manifest))
	require.Len(t, manifest, 1)
	assert.Equal(t, []string{"example.test/a:1", "example.test/b:2"}, manifest[0].RepoTags)
	assert.Contains(t, outer["config.json"].content, `"Cmd":["now"],"Entrypoint":["/run"]`)

	layer := filepath.Join(t.TempDir(), "layer.tar")
	require.NoError(t, os.WriteFile(layer, []byte(outer["layer.tar"].content), 0o600))
	assert.Equal(t, map[string]entry{
		"tmp/":    {name: "tmp/", mode: 0o1777},
		"run":     {name: "run", content: "program", mode: 0o755},
		"bin/run": {name: "bin/run", link: "../run", mode: 0o777},
	}, unpack(t, layer))
}

func unpack(t *testing.T, path string) map[string]entry {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	all := map[string]entry{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		all[h.Name] = entry{name: h.Name, content: string(content), link: h.Linkname, mode: h.Mode}
	}
}
