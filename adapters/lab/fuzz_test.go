package lab

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/ports"
)

// Whatever a manifest holds: findings name the file, no object is stored outside its folder or in another one's
// place, and what is stored reads as the same object.
func FuzzManifests(f *testing.F) {
	for _, s := range []string{
		"", "---\n--- # x\nkind: Pod\nmetadata: {name: web}\n", "kind: PodList\nitems: [{kind: Pod, metadata: {name: a}}, 1]\n",
		"kind: ../../etc\nmetadata: {name: passwd}\n", "kind: Pod\nmetadata: {name: .., namespace: a/b}\n", "kind: Pod\nmetadata: {name: yes}\n",
		"kind: Namespace\nmetadata: {name: shop, namespace: other}\n", "kind: Pod\nmetadata: {name: b_c, namespace: a}\n---\nkind: Pod\nmetadata: {name: c, namespace: a_b}\n",
		"kind: Pod\nmetadata: []\n", "a: &a [*a]\n", "\t", "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}", "kind: List\nitems: [{kind: List, items: [{}]}]\n", "1: 2\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, findings := parse([]ports.LabManifest{{File: "dir/x.yaml", Content: data}})
		for _, x := range findings {
			require.Equal(t, "dir/x.yaml", x.File)
			require.NotEmpty(t, x.Message)
		}
		places := map[string]bool{}
		for _, o := range objects {
			place := o.storePath()
			require.False(t, places[place], "%s twice", place)
			places[place] = true
			require.True(t, filepath.IsLocal(place), place)
			require.Equal(t, 2, len(strings.Split(place, string(filepath.Separator))), place)
			require.True(t, isManifest(place))
			require.False(t, strings.HasPrefix(filepath.Base(place), "."), place)
			require.NotEmpty(t, o.json())

			text, err := yaml.Marshal(o.tree)
			require.NoError(t, err)
			again, findings := parseFile(ports.LabManifest{File: "y", Content: text})
			require.Empty(t, findings, "%s", text)
			require.Len(t, again, 1, "%s", text)
			require.Equal(t, o.title(), again[0].title())
			require.Equal(t, place, again[0].storePath())
			require.JSONEq(t, string(o.json()), string(again[0].json()))
		}
	})
}
