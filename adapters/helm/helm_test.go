package helm_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/internal/kubetest"
)

const schema = `{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false, "properties": {
	"word": {"type": "string"}, "number": {"type": "integer"},
	"deep": {"$ref": "#/$defs/deep"}, "global": {"type": "object"}},
	"$defs": {"deep": {"type": "object", "additionalProperties": false, "properties": {"enabled": {"type": "boolean"}}}}}`

const template = `apiVersion: v1
kind: ConfigMap
metadata:
  name: little
  namespace: {{ .Release.Namespace }}
data:
  word: {{ .Values.word | quote }}
  number: {{ .Values.number | quote }}
  image: {{ .Chart.AppVersion | quote }}
{{- if eq .Values.word "bad" }}{{ fail "word: bad is bad" }}{{ end }}
`

func little(t *testing.T, version, values string) *helm.Chart {
	t.Helper()
	c, err := helm.Load(fstest.MapFS{
		"Chart.yaml":               {Data: []byte("apiVersion: v2\nname: little\nversion: 0.1.0\nappVersion: none\n")},
		"values.yaml":              {Data: []byte(values)},
		"values.schema.json":       {Data: []byte(schema)},
		"templates/configmap.yaml": {Data: []byte(template)},
		"templates/NOTES.txt":      {Data: []byte("word is {{ .Values.word }}")},
	}, version)
	require.NoError(t, err)
	return c
}

const defaults = "word: hello\nnumber: 1\ndeep: {enabled: false}\n"

func TestVersions(t *testing.T) {
	for version, chart := range map[string]string{"v1.2.3": "1.2.3", "v1.2.3-4-gabcdef": "1.2.3-4-gabcdef", "dev": "0.1.0", "": "0.1.0"} {
		c := little(t, version, defaults)
		assert.Equal(t, chart, c.Version(), version)
		if version != "" {
			assert.Equal(t, version, c.AppVersion())
		}
	}
	assert.Equal(t, "none", little(t, "(devel)", defaults).AppVersion(), "no image can have such a tag")
}

func TestRenderAndRefuse(t *testing.T) {
	c := little(t, "v1", defaults)
	out, err := c.Render("r", "ns", "", map[string]any{"number": 2})
	require.NoError(t, err)
	assert.Contains(t, out.Manifest, `number: "2"`)
	assert.Contains(t, out.Manifest, "namespace: ns")
	assert.Equal(t, "word is hello", out.Notes)

	for _, tt := range []struct {
		values map[string]any
		says   string
	}{
		{map[string]any{"wrod": "x"}, "wrod is no value of this chart; is word meant?"},
		{map[string]any{"deep": map[string]any{"enable": true}}, "deep.enable is no value of this chart; is deep.enabled meant?"},
		{map[string]any{"zzzzzzzzz": 1}, "zzzzzzzzz is no value of this chart"},
		{map[string]any{"number": "many"}, "/number"},
		{map[string]any{"word": "bad"}, "chart little: word: bad is bad"},
	} {
		_, err := c.Render("r", "ns", "", tt.values)
		assert.ErrorContains(t, err, tt.says)
	}
}

func TestSources(t *testing.T) {
	v, err := helm.Sources{Set: []string{"a.b=true,c=3", "list={x,y}"}, SetString: []string{"c=4"}}.Values()
	require.NoError(t, err)
	assert.Equal(t, true, helm.At(v, "a", "b"))
	assert.Equal(t, "4", helm.At(v, "c"))
	assert.Equal(t, []any{"x", "y"}, helm.At(v, "list"))
	assert.Nil(t, helm.At(v, "a", "b", "c"))
	helm.Put(v, "z", "a", "d", "e")
	assert.Equal(t, "z", helm.At(v, "a", "d", "e"))
	_, err = helm.Sources{Set: []string{"novalue"}}.Values()
	assert.ErrorContains(t, err, "values:")
}

func TestLifeOfARelease(t *testing.T) {
	cluster := kubetest.Start(t)
	cluster.Namespace(t, "little")
	ctx := t.Context()
	open := func() *helm.Client {
		c, err := helm.Open(helm.Target{Kubeconfig: cluster.Kubeconfig, Namespace: "little", Release: "little"}, nil)
		require.NoError(t, err)
		return c
	}
	_, err := open().Current()
	require.ErrorIs(t, err, helm.ErrNotFound)
	require.ErrorIs(t, open().Uninstall(ctx, 0), helm.ErrNotFound)
	_, err = open().Upgrade(ctx, little(t, "v1", defaults), helm.ResetThenReuse, 10, helm.Change{})
	require.ErrorIs(t, err, helm.ErrNotFound)

	_, err = open().Install(ctx, little(t, "v1", defaults), helm.Change{Values: map[string]any{"word": "first"}, DryRun: true})
	require.NoError(t, err)
	_, err = open().Current()
	require.ErrorIs(t, err, helm.ErrNotFound, "a dry run leaves nothing behind")

	r, err := open().Install(ctx, little(t, "v1", defaults), helm.Change{Values: map[string]any{"word": "first"}})
	require.NoError(t, err)
	assert.Equal(t, 1, r.Revision)
	assert.Equal(t, "deployed", r.Status)
	assert.Equal(t, "v1", r.AppVersion)

	// The new chart's default counts, and what the user had set.
	r, err = open().Upgrade(ctx, little(t, "v2", "word: hello\nnumber: 5\n"), helm.ResetThenReuse, 10, helm.Change{})
	require.NoError(t, err)
	assert.Contains(t, r.Manifest, `word: "first"`)
	assert.Contains(t, r.Manifest, `number: "5"`)

	_, err = open().Upgrade(ctx, little(t, "v2", defaults), helm.Keep, 10, helm.Change{Values: map[string]any{"wrod": "x"}})
	require.ErrorContains(t, err, "is word meant?")

	r, err = open().Upgrade(ctx, little(t, "v3", "word: hello\nnumber: 6\n"), helm.Keep, 2, helm.Change{Values: map[string]any{"word": "third"}})
	require.NoError(t, err)
	assert.Contains(t, r.Manifest, `word: "third"`)
	assert.Contains(t, r.Manifest, `number: "5"`, "values are kept, new defaults are not taken")
	v, err := open().Values(false)
	require.NoError(t, err)
	assert.Equal(t, "third", v["word"])

	// Somebody else's change of a field is overruled by the next upgrade.
	client, err := kubernetes.NewForConfig(cluster.Config)
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("little").Patch(ctx, "little", types.MergePatchType, []byte(`{"data": {"word": "mine"}}`), metav1.PatchOptions{FieldManager: "weir"})
	require.NoError(t, err)
	_, err = open().Upgrade(ctx, little(t, "v3", defaults), helm.ResetThenReuse, 2, helm.Change{})
	require.NoError(t, err)
	config, err := client.CoreV1().ConfigMaps("little").Get(ctx, "little", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "third", config.Data["word"])

	h, err := open().History()
	require.NoError(t, err)
	assert.Len(t, h, 2, "two revisions are kept")
	assert.Equal(t, 4, h[1].Revision)

	require.NoError(t, open().Uninstall(ctx, 0))
	_, err = open().Current()
	require.ErrorIs(t, err, helm.ErrNotFound)
}
