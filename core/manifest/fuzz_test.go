package manifest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/labels"
)

// No line gets lost, moves to another line number, or comes twice; no document holds a marker.
func FuzzSplitYAML(f *testing.F) {
	for _, s := range []string{
		"", "a: 1", "---\na: 1\n---\nb: 2\n", "a: 1\n...\nb: 2", "--- a\n--- # c\n---b: 1\n", "\xef\xbb\xbf---\na: 1\r\n---\r\nb: 2\r\n",
		"---\n---\n\n---", "a: |\n  ---\n  x\n", "---\t{}\n...\t#\n", "%YAML 1.2\n---\na: 1\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text := strings.TrimPrefix(string(data), "\xef\xbb\xbf")
		lines := strings.SplitAfter(text, "\n")
		taken := make([]bool, len(lines))
		for _, part := range SplitYAML(data) {
			require.NotEmpty(t, strings.TrimSpace(string(part)))
			for i, l := range strings.SplitAfter(string(part), "\n") {
				if strings.TrimSpace(l) == "" {
					continue
				}
				require.Less(t, i, len(lines))
				require.False(t, taken[i], "line %d twice", i)
				taken[i] = true
				rest, opens := strings.CutPrefix(lines[i], "---")
				if l != lines[i] {
					require.True(t, opens)
					require.Equal(t, rest, l, "what follows a marker on its line")
				}
			}
		}
		for i, l := range lines {
			content := strings.TrimSpace(l) != ""
			if _, is := marker([]byte(l), "..."); is {
				content = false
			}
			if rest, is := marker([]byte(l), "---"); is {
				content = len(bytes.TrimSpace(rest)) > 0
			}
			require.Equal(t, content, taken[i], "line %d: %q", i, l)
		}
	})
}

// A list comes apart into objects that come apart no further, and nothing else does.
func FuzzItems(f *testing.F) {
	for _, s := range []string{
		`{"kind":"List","items":[{"kind":"Pod"},{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{}}]}]}`,
		`{"kind":"PodList","items":[]}`, `{"kind":"PodList"}`, `{"kind":"List","items":[null,1]}`, `[]`, `1`, `null`, `{"kind":"List","kind":"Pod","items":[{}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		items, err := Items(doc)
		if err != nil {
			require.Empty(t, items)
			return
		}
		for _, item := range items {
			require.True(t, json.Valid(item), "%s", item)
			again, err := Items(item)
			require.NoError(t, err)
			require.Len(t, again, 1)
			require.Equal(t, string(item), string(again[0]))
		}
	})
}

// What nodes publish survives being read and written: identities, endpoints and nodes of the store.
func FuzzPublishedObjects(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion":"cilium.io/v2","kind":"CiliumIdentity","metadata":{"name":"256"},"security-labels":{"k8s:a":"b","k8s:io.kubernetes.pod.namespace":"shop"}}`,
		`{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":"a","namespace":"shop","annotations":{"weir.io/node":"n1"}},"status":{"id":1,"state":"ready","identity":{"id":300},"networking":{"addressing":[{"ipv4":"10.0.0.1","ipv6":"fd00::1"},{"ipv4":"10.0.0.2"}],"node":"192.168.0.1"},"named-ports":[{"name":"http","port":80,"protocol":"TCP"}]}}`,
		`{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":"n1","labels":{"zone":"a"}},"spec":{"addresses":[{"type":"InternalIP","ip":"192.168.0.1"},{"type":"CiliumInternalIP","ip":"10.0.0.1"}],"ipam":{"podCIDRs":["10.0.0.0/24","fd00::/64"]}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		o, _ := Decode("f", doc)
		for _, e := range o.Upserts() {
			var out []byte
			var err error
			switch e := e.(type) {
			case cluster.IdentityUpsert:
				out, err = EncodeIdentity(e.ID, e.Labels)
			case cluster.EndpointUpsert:
				out, err = EncodeEndpoint(e.Endpoint, labels.Set{})
			case cluster.NodeUpsert:
				if o.Kind == KindNode {
					return
				}
				out, err = EncodeNode(e.Node)
			default:
				return
			}
			require.NoError(t, err, "%+v", e)
			again, findings := Decode("f", out)
			require.True(t, again.Valid(), "%s: %v", out, findings)
			require.Equal(t, o.Key, again.Key)
			second := again.Upserts()
			require.Len(t, second, 1)
			requireSameUpsert(t, e, second[0])
		}
	})
}

func requireSameUpsert(t *testing.T, a, b cluster.Event) {
	t.Helper()
	if x, ok := a.(cluster.IdentityUpsert); ok {
		y := b.(cluster.IdentityUpsert)
		require.Equal(t, x.ID, y.ID)
		require.Equal(t, x.Labels.Key(), y.Labels.Key())
		return
	}
	x, err := json.Marshal(a)
	require.NoError(t, err)
	y, err := json.Marshal(b)
	require.NoError(t, err)
	require.JSONEq(t, string(x), string(y))
}

// A refusal says where: every finding about an object that could be told names it, and those about a field
// that is there, the field.
func FuzzFindingsNameThePlace(f *testing.F) {
	f.Add([]byte(`{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/8"]}}],"ports":[{"port":"UPPER","endPort":90}]}]}`), uint8(0))
	f.Add([]byte(`{"endpointSelector":{"matchLabels":{"a":1}},"ingress":[{"fromEntities":["nobody"],"toPorts":[{"ports":[{"port":"80","protocol":"GRE"}]}]}]}`), uint8(1))
	f.Add([]byte(`{"endpointSelector":{"matchExpressions":[{"key":"a","operator":"In"}]},"egress":[{"toCIDRSet":[{"cidr":"10.0.0.1/8","except":["::/0"]}],"icmps":[{"fields":[{"type":"Nonsense"}]}]}]}`), uint8(2))
	f.Fuzz(func(t *testing.T, spec []byte, kind uint8) {
		if !json.Valid(spec) {
			return
		}
		head := []string{
			`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":`,
			`{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":`,
			`{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"p"},"spec":`,
		}[kind%3]
		doc := head + string(spec) + "}"
		o, findings := Decode("f", []byte(doc))
		if !o.Known() { // a key that stands twice, or nested too deep
			require.NotEmpty(t, findings)
			return
		}
		for _, x := range findings {
			require.Equal(t, o.Key.String(), x.Object)
			require.NotEmpty(t, x.Message)
			require.True(t, strings.HasPrefix(x.Field, "spec"), "%+v", x)
		}
		if o.Valid() {
			checkPolicy(t, o.body.(policyBody).policy)
		}
	})
}
