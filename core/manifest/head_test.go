package manifest

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadHead(t *testing.T) {
	doc := []byte(`{"kind":"CiliumNode","apiVersion":"cilium.io/v2","metadata":{"name":"n1","namespace":"x","uid":"u","resourceVersion":"42",
		"managedFields":[{"manager":"m","fieldsV1":{"f:spec":{"f:a]}":{}}}}],"annotations":{"a":"b"}},"spec":{"metadata":{"name":"other"}}}`)
	h, rest, err := ReadHead(doc)
	require.NoError(t, err)
	assert.Equal(t, []any{"x", "n1", "u", uint64(42)}, []any{h.Namespace, h.Name, h.UID, h.Version})
	assert.Equal(t, "b", h.Annotation("a"))
	assert.Empty(t, h.Annotation("none"))
	assert.NotContains(t, string(rest), "fieldsV1")
	o, findings := Decode("", rest)
	assert.True(t, o.Valid(), "%v", findings)

	h, _, err = ReadHead([]byte(`{"metadata":{"annotations":{"n":7}}}`))
	require.NoError(t, err)
	assert.Empty(t, h.Annotation("n"))
	h.Annotate(map[string]string{"b": "2", "a": "1"})
	assert.Equal(t, "2", h.Annotation("b"))

	for _, bad := range []string{``, `[]`, `{`, `{"metadata":{"name":"a"`, `{"a" 1}`, `{"a":1 "b":2}`, `{"metadata":{"managedFields":[}}`} {
		_, _, err := ReadHead([]byte(bad))
		assert.Error(t, err, bad)
	}
	h, _, err = ReadHead([]byte(`{"metadata":[],"kind":3}`))
	require.NoError(t, err)
	assert.Equal(t, Head{}, h)
}

// ReadHead says what encoding/json says, and takes away nothing but the owners of fields.
func FuzzReadHead(f *testing.F) {
	f.Add(`{"metadata":{"name":"a","managedFields":[1],"resourceVersion":"7"}}`)
	f.Add(`{"metadata":{"managedFields":null,"name":"\u00e9"}, "a": [{}]}`)
	f.Add(`{"metadata":{"managedFields":"xx","managedFields":[2]}}`)
	f.Fuzz(func(t *testing.T, doc string) {
		if !json.Valid([]byte(doc)) {
			ReadHead([]byte(doc))
			return
		}
		var want map[string]any
		isObject := json.Unmarshal([]byte(doc), &want) == nil && want != nil
		h, rest, err := ReadHead([]byte(doc))
		if !isObject {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		if _, err := parseJSON([]byte(doc)); err != nil {
			return // a key stands twice
		}
		var got map[string]any
		require.NoError(t, json.Unmarshal(rest, &got), "%s", rest)
		meta, _ := want["metadata"].(map[string]any)
		text := func(key string) string { s, _ := meta[key].(string); return s }
		assert.Equal(t, []string{text("namespace"), text("name"), text("uid")}, []string{h.Namespace, h.Name, h.UID})
		version, _ := strconv.ParseUint(text("resourceVersion"), 10, 64)
		if version != ^uint64(0) {
			assert.Equal(t, version, h.Version)
		}
		gotMeta, _ := got["metadata"].(map[string]any)
		delete(meta, "managedFields")
		delete(gotMeta, "managedFields")
		assert.Equal(t, want, got)
	})
}
