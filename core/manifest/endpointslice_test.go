package manifest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/policy"
)

// cesDoc is a slice of namespace shop; each entry is "name address" or "name address identity".
func cesDoc(name string, entries ...string) string {
	var list []string
	for _, e := range entries {
		f := append(strings.Fields(e), "300")
		list = append(list, fmt.Sprintf(`{"name":%q,"id":%s,"networking":{"addressing":[{"ipv4":%q}],"node":"192.0.2.1"},"named-ports":[{"name":"http","port":80,"protocol":"TCP"}]}`, f[0], f[2], f[1]))
	}
	return fmt.Sprintf(`{"apiVersion":"cilium.io/v2alpha1","kind":"CiliumEndpointSlice","metadata":{"name":%q},"namespace":"shop","endpoints":[%s]}`, name, strings.Join(list, ","))
}

func cepDoc(name, addr string) string {
	return fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":%q,"namespace":"shop"},"status":{"id":1,"networking":{"addressing":[{"ipv4":%q}]}}}`, name, addr)
}

func TestCiliumEndpointSliceIsItsEndpoints(t *testing.T) {
	o := decodeOne(t, cesDoc("ces-1", "a 10.0.0.1", "b 10.0.0.2 301"))
	require.Equal(t, Key{KindCiliumEndpointSlice, "", "ces-1"}, o.Key)
	up := o.Upserts()
	require.Len(t, up, 2)
	require.Equal(t, cluster.Endpoint{
		Name: cluster.Name{Namespace: "shop", Name: "b"}, Identity: 301, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		NodeIP: netip.MustParseAddr("192.0.2.1"), Ports: []policy.NamedPort{{Name: "http", Proto: 6, Port: 80}},
	}, up[1].(cluster.EndpointUpsert).Endpoint)
	require.Equal(t, []string{"no endpoint a", "no endpoint b"}, brief(o.Deletes()))
	require.Empty(t, decodeOne(t, cesDoc("empty")).Upserts())
}

func TestCiliumEndpointSliceRefusals(t *testing.T) {
	for _, c := range []struct{ body, says string }{
		{`"endpoints":[{"name":"a"}]`, "namespace: missing"},
		{`"namespace":"A","endpoints":[]`, `namespace: "A" is not a namespace`},
		{`"namespace":"shop","endpoints":[{}]`, `endpoints[0].name: "" is not a name`},
		{`"namespace":"shop","endpoints":[{"name":"a"},{"name":"a"}]`, `endpoints[1].name: "a" stands twice`},
		{`"namespace":"shop","endpoints":[{"name":"a","id":-1}]`, "endpoints[0].id: -1 is out of range"},
		{`"namespace":"shop","endpoints":[{"name":"a","networking":{"addressing":[{"ipv4":"x"}]}}]`, "endpoints[0].networking.addressing[0].ipv4"},
		{`"namespace":"shop","endpoints":{}`, "endpoints: want a list"},
	} {
		o, findings := Decode("", []byte(`{"apiVersion":"cilium.io/v2alpha1","kind":"CiliumEndpointSlice","metadata":{"name":"x"},`+c.body+`}`))
		require.False(t, o.Valid(), c.body)
		require.Contains(t, fmt.Sprint(findings), c.says)
	}
}

// Only what changes is said, and what goes is said before what comes.
func TestAssemblerOfCiliumEndpointSlices(t *testing.T) {
	a := NewAssembler()
	first := decodeOne(t, cesDoc("ces-1", "a 10.0.0.1", "b 10.0.0.2"))
	require.Equal(t, []string{"endpoint a", "endpoint b"}, brief(a.Put(first)))
	require.Empty(t, a.Put(first))
	require.Equal(t, []string{"no endpoint b", "endpoint c"}, brief(a.Put(decodeOne(t, cesDoc("ces-1", "a 10.0.0.1", "c 10.0.0.2")))))
	require.Equal(t, []string{"endpoint a"}, brief(a.Put(decodeOne(t, cesDoc("ces-1", "a 10.0.0.9", "c 10.0.0.2")))))

	// An endpoint that is in two slices stays until both have let go of it.
	require.Equal(t, []string{"endpoint d"}, brief(a.Put(decodeOne(t, cesDoc("ces-2", "c 10.0.0.2", "d 10.0.0.4")))))
	require.Empty(t, brief(a.Put(decodeOne(t, cesDoc("ces-1", "a 10.0.0.9")))))
	require.Equal(t, []string{"no endpoint c"}, brief(a.Put(decodeOne(t, cesDoc("ces-2", "d 10.0.0.4")))))

	// A CiliumEndpoint counts more.
	own := decodeOne(t, cepDoc("d", "10.0.0.5"))
	require.Equal(t, []string{"endpoint d"}, brief(a.Put(own)))
	require.Empty(t, brief(a.Put(decodeOne(t, cesDoc("ces-2", "d 10.0.0.6")))))
	require.Equal(t, []string{"endpoint d", "endpoint a"}, brief(a.Snapshot()))
	back := a.Remove(own.Key)
	require.Equal(t, []string{"endpoint d"}, brief(back))
	require.Equal(t, "10.0.0.6", back[0].(cluster.EndpointUpsert).Endpoint.IPs[0].String())

	require.Equal(t, []string{"endpoint a", "endpoint d"}, brief(a.Snapshot()))
	require.Equal(t, []string{"no endpoint a"}, brief(a.Remove(first.Key)))
	require.Empty(t, a.Remove(first.Key))
	require.Equal(t, []string{"no endpoint d"}, brief(a.Remove(Key{Kind: KindCiliumEndpointSlice, Name: "ces-2"})))
	require.Empty(t, a.Snapshot())
}

// Services without an EndpointSlice find their pods' addresses in slices too.
func TestBackendsFromCiliumEndpointSlices(t *testing.T) {
	a := NewAssembler()
	a.Put(decodeOne(t, service("web", `{"selector":{"app":"web"},"clusterIP":"10.96.0.1","ports":[{"name":"http","port":80,"targetPort":"http"}]}`)))
	a.Put(decodeOne(t, pod("p", "shop", "web", "")))
	require.Contains(t, brief(a.Put(decodeOne(t, cesDoc("ces-1", "p 10.0.0.1")))), "backends web (from pods) [10.0.0.1:8080/6 http active]")
	require.Contains(t, brief(a.Put(decodeOne(t, cesDoc("ces-1")))), "backends web (from pods) []")
}

func TestEncodeEndpointSliceRefusals(t *testing.T) {
	e := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "a"}}
	for _, c := range []struct {
		name, namespace string
		list            []cluster.Endpoint
		says            string
	}{
		{"A", "shop", nil, "not a name"},
		{"a", "", nil, "not a name"},
		{"a", "other", []cluster.Endpoint{e}, "endpoint shop/a: is not of namespace other"},
		{"a", "shop", []cluster.Endpoint{e, e}, "endpoint shop/a: stands twice"},
		{"a", "shop", []cluster.Endpoint{{Name: cluster.Name{Namespace: "shop"}}}, "not a name"},
	} {
		_, err := EncodeEndpointSlice(c.name, c.namespace, c.list)
		require.ErrorContains(t, err, c.says)
	}
}

// A slice that was read and written is the same; and after one slice took another's place, what was told is
// what the second alone says.
func FuzzCiliumEndpointSlice(f *testing.F) {
	f.Add([]byte(cesDoc("ces-1", "a 10.0.0.1", "b 10.0.0.2")), []byte(cesDoc("ces-1", "b 10.0.0.3 301", "c 10.0.0.1")), []byte(cesDoc("ces-2", "a 10.0.0.1")))
	f.Add([]byte(cesDoc("ces-1")), []byte(cesDoc("ces-2", "a 10.0.0.1")), []byte(cepDoc("a", "10.0.0.7")))
	f.Fuzz(func(t *testing.T, doc1, doc2, doc3 []byte) {
		a := NewAssembler()
		told := map[cluster.Name]cluster.Endpoint{}
		hear := func(events []cluster.Event) {
			for _, e := range events {
				switch e := e.(type) {
				case cluster.EndpointUpsert:
					told[e.Endpoint.Name] = e.Endpoint
				case cluster.EndpointDelete:
					require.Contains(t, told, e.Name, "taken back, never told")
					delete(told, e.Name)
				}
			}
		}
		var keys []Key
		for _, doc := range [][]byte{doc1, doc2, doc3} {
			o, _ := Decode("f", doc)
			if o.Kind != KindCiliumEndpointSlice && o.Kind != KindCiliumEndpoint {
				continue
			}
			hear(a.Put(o))
			if o.Valid() {
				keys = append(keys, o.Key)
			}
			if b, ok := o.body.(endpointSliceBody); ok && len(b.endpoints) > 0 {
				again, err := EncodeEndpointSlice(o.Name, b.endpoints[0].Name.Namespace, b.endpoints)
				require.NoError(t, err)
				second, findings := Decode("f", again)
				require.True(t, second.Valid(), "%s: %v", again, findings)
				x, err := json.Marshal(o.Upserts())
				require.NoError(t, err)
				y, err := json.Marshal(second.Upserts())
				require.NoError(t, err)
				require.JSONEq(t, string(x), string(y))
			}
		}
		was := told
		told = map[cluster.Name]cluster.Endpoint{}
		hear(a.Snapshot())
		assert.Equal(t, told, was)
		for _, k := range keys {
			hear(a.Remove(k))
		}
		require.Empty(t, told)
		require.Empty(t, a.inSlices)
	})
}
