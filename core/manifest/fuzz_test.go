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
	f.Add([]byte(`{"endpointSelector":{},"ingress":[{"fromCIDRSet":[{"cidrGroupRef":"g","except":["10.1.0.0/16","0.0.0.0/0"]},{"cidrGroupSelector":{"matchLabels":{"a":"b"}}}]}]}`), uint8(1))
	f.Add([]byte(`{"tier":"Admin","priority":1,"subject":{"namespaces":{}},"egress":[{"action":"Pass","to":[{"networks":["::/0"]},{"nodes":{}}],"protocols":[{"tcp":{"destinationPort":{"range":{"start":1,"end":2}}}}]}]}`), uint8(3))
	f.Add([]byte(`{"priority":1001,"subject":{"pods":{"podSelector":{}}},"ingress":[{"action":"Allow","from":[],"ports":[{"portNumber":{"protocol":"ICMP","port":0}},{"portRange":{"start":9,"end":1}},{"namedPort":"x--y"}]}]}`), uint8(4))
	f.Add([]byte(`{"subject":{"namespaces":{}},"egress":[{"action":"Deny","to":[{"domainNames":["a.b"]}],"ports":[{"namedPort":"web"}]}]}`), uint8(5))
	f.Add([]byte(`{"externalCIDRs":["10.0.0.0/8","x",null]}`), uint8(6))
	f.Fuzz(func(t *testing.T, spec []byte, kind uint8) {
		if !json.Valid(spec) {
			return
		}
		head := []string{
			`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":`,
			`{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":`,
			`{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"p"},"spec":`,
			`{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"p"},"spec":`,
			`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"AdminNetworkPolicy","metadata":{"name":"p"},"spec":`,
			`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"BaselineAdminNetworkPolicy","metadata":{"name":"default"},"spec":`,
			`{"apiVersion":"cilium.io/v2","kind":"CiliumCIDRGroup","metadata":{"name":"g"},"spec":`,
		}[kind%7]
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
		if p, ok := o.body.(policyBody); ok {
			checkPolicy(t, p.policy)
			for _, e := range withGroups(t).Put(o) {
				checkPolicy(t, e.(cluster.PolicyUpsert).Policy)
			}
		}
	})
}

// withGroups has two CIDR groups: g with the label a=b, and h.
func withGroups(t *testing.T) *Assembler {
	a := NewAssembler()
	a.Put(decodeOne(t, groupDoc("g", `"a":"b"`, `"10.0.0.0/8","10.1.0.0/16","2001:db8::/32"`)))
	a.Put(decodeOne(t, groupDoc("h", ``, `"0.0.0.0/0","::/0"`)))
	return a
}

// Any group is taken by any policy that uses groups: what comes of it is a policy in order, and taking the group away
// again leaves what was before.
func FuzzCIDRGroups(f *testing.F) {
	f.Add([]byte(`{"externalCIDRs":["10.0.0.0/8","10.1.2.3/9"]}`), []byte(`{"cidrGroupRef":"n","except":["10.0.0.0/16"]}`))
	f.Add([]byte(`{"externalCIDRs":["::/0"]}`), []byte(`{"cidrGroupSelector":{"matchExpressions":[{"key":"k8s:a","operator":"NotIn","values":["c"]}]}},{"cidr":"10.0.0.0/8"}`))
	f.Add([]byte(`{"externalCIDRs":[]}`), []byte(`{"cidrGroupSelector":{},"except":["::/0","0.0.0.0/0"]}`))
	f.Fuzz(func(t *testing.T, spec, entries []byte) {
		group, _ := Decode("", []byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumCIDRGroup","metadata":{"name":"n","labels":{"a":"b"}},"spec":`+string(spec)+`}`))
		user, _ := Decode("", []byte(groupUserDoc("p", string(entries))))
		if !group.Valid() || !user.Valid() || user.Kind != KindCiliumNetworkPolicy || group.Kind != KindCiliumCIDRGroup {
			return
		}
		a := withGroups(t)
		before := a.Put(user)
		require.Len(t, before, 1)
		after := before
		if events := a.Put(group); len(events) > 0 {
			require.Len(t, events, 1)
			require.NotEqual(t, before, events)
			after = events
		}
		checkPolicy(t, after[0].(cluster.PolicyUpsert).Policy)
		require.Subset(t, after[0].(cluster.PolicyUpsert).Policy.Specs[0].Rules[0].Peers, before[0].(cluster.PolicyUpsert).Policy.Specs[0].Rules[0].Peers)
		events := a.Remove(group.Key)
		if len(events) == 0 {
			events = after
		}
		require.Equal(t, before, events)
	})
}
