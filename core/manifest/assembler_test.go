package manifest

import (
	"fmt"
	"math/rand"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/lb"
)

func brief(events []cluster.Event) []string {
	out := []string{}
	for _, e := range events {
		switch e := e.(type) {
		case cluster.BackendsUpsert:
			var bs []string
			for _, b := range e.Slice.Backends {
				bs = append(bs, fmt.Sprintf("%s:%d/%d %s %s%s", b.Addr, b.Port, b.Proto, b.PortName, b.State, b.Node))
			}
			out = append(out, fmt.Sprintf("backends %s %s [%s]", e.Slice.Service.Name, e.Slice.Name, strings.Join(bs, ", ")))
		case cluster.BackendsDelete:
			out = append(out, fmt.Sprintf("no backends %s %s", e.Service.Name, e.Slice))
		case cluster.NodeUpsert:
			out = append(out, fmt.Sprintf("node %s %v %v %v %v", e.Node.Name, e.Node.Labels, e.Node.Addresses, e.Node.PodCIDRs, e.Node.Routers))
		case cluster.PodUpsert:
			out = append(out, "pod "+e.Pod.Name.Name)
		case cluster.PodDelete:
			out = append(out, "no pod "+e.Name.Name)
		case cluster.ServiceUpsert:
			out = append(out, "service "+e.Service.Name.Name)
		case cluster.ServiceDelete:
			out = append(out, "no service "+e.Name.Name)
		case cluster.EndpointUpsert:
			out = append(out, "endpoint "+e.Endpoint.Name.Name)
		case cluster.EndpointDelete:
			out = append(out, "no endpoint "+e.Name.Name)
		case cluster.PolicyUpsert:
			out = append(out, "policy "+e.Policy.Ref.Name)
		case cluster.PolicyDelete:
			out = append(out, "no policy "+e.Ref.Name)
		default:
			out = append(out, fmt.Sprintf("%T", e))
		}
	}
	return out
}

func pod(name, ns, app, status string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":%q,"labels":{"app":%q}},
		"spec":{"containers":[{"ports":[{"name":"http","containerPort":8080}]}]},"status":{%s}}`, name, ns, app, status)
}

func service(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"shop"},"spec":%s}`, name, spec)
}

func sliceDoc(name, service, addr string) string {
	return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":%q,"namespace":"shop","labels":{"kubernetes.io/service-name":%q}},
		"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":[%q]}]}`, name, service, addr)
}

func TestNodeAndCiliumNodeAreOne(t *testing.T) {
	a := NewAssembler()
	own := decodeOne(t, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"zone":"a"}},"spec":{"podCIDRs":["10.0.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"1.1.1.1"}]}}`)
	agents := decodeOne(t, `{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":"n1"},"spec":{"addresses":[{"type":"InternalIP","ip":"2.2.2.2"},{"type":"CiliumInternalIP","ip":"10.0.0.1"}],"ipam":{"podCIDRs":["10.9.0.0/24"]}}}`)
	assert.Equal(t, []string{"node n1 map[] [2.2.2.2] [10.9.0.0/24] [10.0.0.1]"}, brief(a.Put(agents)))
	assert.Equal(t, []string{"node n1 map[zone:a] [2.2.2.2] [10.0.0.0/24] [10.0.0.1]"}, brief(a.Put(own)))
	assert.Empty(t, a.Put(own))
	assert.Equal(t, []string{"node n1 map[zone:a] [1.1.1.1] [10.0.0.0/24] []"}, brief(a.Remove(agents.Key)))
	assert.Equal(t, []cluster.Event{cluster.NodeDelete{Name: "n1"}}, a.Remove(own.Key))
	assert.Empty(t, a.Remove(own.Key))
}

func TestDerivedBackends(t *testing.T) {
	a := NewAssembler()
	do := func(doc string) []string { return brief(a.Put(decodeOne(t, doc))) }
	web := service("web", `{"clusterIP":"10.96.0.1","selector":{"app":"web"},"ports":[{"name":"h","port":80,"targetPort":"http"},{"name":"m","port":9}]}`)

	assert.Equal(t, []string{"pod a"}, do(pod("a", "shop", "web", `"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]`)))
	assert.Equal(t, []string{"backends web (from pods) [10.0.0.1:8080/6 h active, 10.0.0.1:9/6 m active]", "service web"}, do(web), "one family, as the service has")
	assert.Equal(t, []string{"pod b"}, do(pod("b", "shop", "web", ``)), "no address yet")
	assert.Equal(t, []string{"pod a"}, do(pod("a", "shop", "web", `"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::2"}]`)), "nothing new for the service")
	assert.Equal(t, []string{"endpoint b", "backends web (from pods) [10.0.0.1:8080/6 h active, 10.0.0.1:9/6 m active, 10.0.0.2:8080/6 h active, 10.0.0.2:9/6 m active]"},
		do(`{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":"b","namespace":"shop"},"status":{"networking":{"addressing":[{"ipv4":"10.0.0.2"}]}}}`))
	assert.Equal(t, []string{"pod c"}, do(pod("c", "other", "web", `"podIP":"10.0.0.3"`)), "another namespace")
	assert.Equal(t, []string{"pod d"}, do(pod("d", "shop", "db", `"podIP":"10.0.0.4"`)), "another label")
	assert.Equal(t, []string{"pod d", "backends web (from pods) [10.0.0.1:8080/6 h active, 10.0.0.1:9/6 m active, 10.0.0.2:8080/6 h active, 10.0.0.2:9/6 m active, 10.0.0.4:8080/6 h active, 10.0.0.4:9/6 m active]"},
		do(pod("d", "shop", "web", `"podIP":"10.0.0.4"`)), "now it matches")
	assert.Equal(t, []string{"pod d", "backends web (from pods) [10.0.0.1:8080/6 h active, 10.0.0.1:9/6 m active, 10.0.0.2:8080/6 h active, 10.0.0.2:9/6 m active]"},
		do(pod("d", "shop", "web", `"podIP":"10.0.0.4","conditions":[{"type":"Ready","status":"False"}]`)), "not ready")
	assert.Equal(t, []string{"pod d"}, do(pod("d", "shop", "web", `"podIP":"10.0.0.4","phase":"Failed"`)), "finished")
	assert.Equal(t, []string{"backends web (from pods) [10.0.0.1:8080/6 h active, 10.0.0.1:9/6 m active]", "no pod b"}, brief(a.Remove(Key{KindPod, "shop", "b"})))
	assert.Equal(t, []string{"pod a", "backends web (from pods) [10.0.0.1:8080/6 h terminating, 10.0.0.1:9/6 m terminating]"},
		do(strings.Replace(pod("a", "shop", "web", `"podIP":"10.0.0.1"`), `"metadata":{`, `"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z",`, 1)))
	do(pod("a", "shop", "web", `"podIP":"10.0.0.1"`))

	assert.Equal(t, []string{"backends web x [10.9.9.9:80/6  active]", "no backends web (from pods)"}, do(sliceDoc("x", "web", "10.9.9.9")), "an explicit slice wins")
	assert.Equal(t, []string{"pod a"}, do(pod("a", "shop", "web", `"podIP":"10.0.0.7"`)))
	assert.Equal(t, []string{"backends web (from pods) [10.0.0.7:8080/6 h active, 10.0.0.7:9/6 m active]", "no backends web x", "backends other x [10.9.9.9:80/6  active]"},
		do(sliceDoc("x", "other", "10.9.9.9")), "the slice moves to another service")
	do(sliceDoc("x", "web", "10.9.9.9"))
	assert.Equal(t, []string{"backends web (from pods) [10.0.0.7:8080/6 h active, 10.0.0.7:9/6 m active]", "no backends web x"}, brief(a.Remove(Key{KindEndpointSlice, "shop", "x"})))

	assert.Equal(t, []string{"backends web (from pods) [10.0.0.7:81/6  active]", "service web"}, do(service("web", `{"clusterIP":"10.96.0.1","selector":{"app":"web"},"ports":[{"port":80,"targetPort":81}]}`)))
	assert.Equal(t, []string{"no backends web (from pods)", "service web"}, do(service("web", `{"clusterIP":"10.96.0.1","ports":[{"port":80,"targetPort":81}]}`)), "no selector any more")
	do(web)
	assert.Equal(t, []string{"no service web", "no backends web (from pods)"}, brief(a.Remove(Key{KindService, "shop", "web"})))
	assert.Equal(t, []string{"pod a"}, do(pod("a", "shop", "web", `"podIP":"10.0.0.8"`)))
}

func TestDerivedBackendsNotReadyAndFamilies(t *testing.T) {
	a := NewAssembler()
	a.Put(decodeOne(t, pod("a", "shop", "web", `"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"conditions":[{"type":"Ready","status":"False"}]`)))
	got := brief(a.Put(decodeOne(t, service("web", `{"clusterIP":"None","publishNotReadyAddresses":true,"selector":{"app":"web"},"ports":[{"port":80}]}`))))
	assert.Equal(t, []string{"backends web (from pods) [10.0.0.1:80/6  active, fd00::1:80/6  active]", "service web"}, got)
	got = brief(a.Put(decodeOne(t, service("six", `{"clusterIP":"fd00::9","publishNotReadyAddresses":true,"selector":{"app":"web"},"ports":[{"port":80}]}`))))
	assert.Equal(t, []string{"backends six (from pods) [fd00::1:80/6  active]", "service six"}, got)
	deleted := strings.Replace(pod("a", "shop", "web", `"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]`), `"metadata":{`, `"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z",`, 1)
	assert.Equal(t, []string{"pod a"}, brief(a.Put(decodeOne(t, deleted))), "until it has ended it is used as any other")
	got = brief(a.Put(decodeOne(t, pod("a", "shop", "web", `"podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"phase":"Failed"`))))
	assert.Equal(t, []string{"pod a", "backends six (from pods) []", "backends web (from pods) []"}, got, "what has ended serves nobody")
}

func TestApplyOrder(t *testing.T) {
	a := NewAssembler()
	policy := func(name string) Object {
		return decodeOne(t, strings.Replace(networkPolicy(`{"podSelector":{}}`), `"name":"p"`, `"name":"`+name+`"`, 1))
	}
	a.Put(policy("old"))
	a.Put(decodeOne(t, pod("gone", "shop", "web", `"podIP":"10.0.0.1"`)))
	got := brief(a.Apply([]Change{
		{Remove: Key{KindNetworkPolicy, "shop", "old"}}, {Remove: Key{KindPod, "shop", "gone"}},
		{Put: decodeOne(t, pod("come", "shop", "web", `"podIP":"10.0.0.1"`))}, {Put: policy("new")},
	}))
	assert.Equal(t, []string{"policy new", "no pod gone", "pod come", "no policy old"}, got)
}

// world is a naive consumer of events: what it holds in the end is all that matters.
type world map[string]any

func (w world) take(t *testing.T, events []cluster.Event) {
	for _, e := range events {
		switch e := e.(type) {
		case cluster.NodeUpsert:
			w["node "+e.Node.Name] = e.Node
		case cluster.NodeDelete:
			delete(w, "node "+e.Name)
		case cluster.PodUpsert:
			w["pod "+e.Pod.Name.String()] = e.Pod
		case cluster.PodDelete:
			delete(w, "pod "+e.Name.String())
		case cluster.EndpointUpsert:
			w["endpoint "+e.Endpoint.Name.String()] = e.Endpoint
		case cluster.EndpointDelete:
			delete(w, "endpoint "+e.Name.String())
		case cluster.ServiceUpsert:
			w["service "+e.Service.Name.String()] = e.Service
		case cluster.ServiceDelete:
			delete(w, "service "+e.Name.String())
		case cluster.BackendsUpsert:
			bs := append([]lb.Backend(nil), e.Slice.Backends...)
			sort.Slice(bs, func(i, j int) bool { return fmt.Sprint(bs[i]) < fmt.Sprint(bs[j]) })
			w["backends "+e.Slice.Service.String()+" "+e.Slice.Name] = bs
		case cluster.BackendsDelete:
			delete(w, "backends "+e.Service.String()+" "+e.Slice)
		default:
			t.Fatalf("%T", e)
		}
	}
}

// However the objects came about, what the events built up is what a fresh start would say.
func TestAssemblerIncrementalEqualsSnapshot(t *testing.T) {
	for seed := int64(0); seed < 40; seed++ {
		r := rand.New(rand.NewSource(seed))
		a, w := NewAssembler(), world{}
		for step := 0; step < 150; step++ {
			name := string(rune('a' + r.Intn(4)))
			status := []string{``, `"podIP":"10.0.0.` + fmt.Sprint(r.Intn(9)) + `"`, `"podIP":"10.0.0.1","phase":"Failed"`, `"podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"False"}]`}[r.Intn(4)]
			docs := []string{
				pod(name, "shop", []string{"web", "db"}[r.Intn(2)], status),
				service([]string{"web", "db"}[r.Intn(2)], []string{
					`{"clusterIP":"10.96.0.1","selector":{"app":"web"},"ports":[{"port":80,"targetPort":"http"}]}`,
					`{"clusterIP":"fd00::5","selector":{"app":"db"},"ports":[{"port":80}]}`, `{"ports":[{"port":80}]}`}[r.Intn(3)]),
				sliceDoc("x", []string{"web", "db"}[r.Intn(2)], "10.1.1.1"),
				fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":%q,"namespace":"shop"},"status":{"networking":{"addressing":[{"ipv4":"10.2.0.%d"}]}}}`, name, r.Intn(3)),
				fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q},"spec":{"podCIDRs":["10.0.%d.0/24"]}}`, name, r.Intn(3)),
				fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":%q},"spec":{"addresses":[{"type":"InternalIP","ip":"1.1.1.%d"}]}}`, name, r.Intn(3)),
			}
			o := decodeOne(t, docs[r.Intn(len(docs))])
			if r.Intn(3) == 0 {
				w.take(t, a.Remove(o.Key))
			} else {
				w.take(t, a.Put(o))
			}
			fresh := world{}
			fresh.take(t, a.Snapshot())
			require.Truef(t, reflect.DeepEqual(fresh, w), "seed %d step %d after %s\nfresh %v\nbuilt %v", seed, step, o.Key, fresh, w)
		}
	}
}
