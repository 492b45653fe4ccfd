package kubernetes

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func synced(k porttest.Known) bool { return k.Synced == 1 }

const (
	nodeN1 = `
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: a}}
spec: {podCIDRs: [10.0.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
`
	podWeb = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}, annotations: {note: one}}
spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.5}], podIP: 10.0.0.5}
`
	podOther = `
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop}
spec: {nodeName: n2, containers: [{}]}
`
	policyGood = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}
`
	policyBad = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "81", endPort: 80, protocol: TCP}]}]}]}
`
	policyOther = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: q, namespace: shop}
spec: {podSelector: {}}
`
)

// everything returns one object of each kind.
func everything() string {
	return strings.Join([]string{nodeN1, podWeb, podOther, policyGood, policyOther, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.5], nodeName: n1}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: everywhere}
spec: {endpointSelector: {}, egress: [{toEntities: [cluster]}]}
---
apiVersion: cilium.io/v2
kind: CiliumIdentity
metadata: {name: "300"}
security-labels: {"k8s:app": web}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n2}
spec: {addresses: [{type: InternalIP, ip: 192.168.0.2}]}
---
apiVersion: cilium.io/v2
kind: CiliumEndpoint
metadata: {name: other, namespace: shop, annotations: {weir/node: n2}}
status: {id: 5, identity: {id: 300}, networking: {addressing: [{ipv4: 10.0.1.5}], node: 192.168.0.2}}
`}, "---")
}

// assertEverything holds what a source said to everything.
func assertEverything(t *testing.T, k porttest.Known) {
	t.Helper()
	assert.Len(t, k.Nodes, 2)
	assert.Contains(t, k.Namespaces, "shop")
	assert.Len(t, k.Pods, 1, "only the node's own")
	assert.Equal(t, map[string]string{"note": "one"}, k.Pods["shop/web"].Annotations)
	assert.NotEmpty(t, k.Pods["shop/web"].UID)
	assert.Len(t, k.Policies, 3)
	assert.Contains(t, k.Services, "shop/web")
	assert.Len(t, k.Backends["shop/web web-1"], 1)
	assert.Len(t, k.Identities, 1)
	assert.Equal(t, "n2", k.Endpoints["shop/other"].Node)
}

func TestEveryKind(t *testing.T) {
	a := server(t)
	a.apply(everything())
	w := porttest.WatchSource(t, a.open(Options{Node: "n1"}))
	assertEverything(t, w.Eventually(t, "Synced", synced))
}

// Where an operator makes slices of the endpoints, those are read.
func TestEndpointSlices(t *testing.T) {
	a := server(t)
	a.apply(everything() + `
---
apiVersion: cilium.io/v2alpha1
kind: CiliumEndpointSlice
metadata: {name: ces-1}
namespace: shop
endpoints: [{name: sliced, id: 300, networking: {addressing: [{ipv4: 10.0.1.6}], node: 192.168.0.2}}]
`)
	w := porttest.WatchSource(t, a.open(Options{Node: "n1", EndpointSlices: true}))
	k := w.Eventually(t, "Synced", synced)
	assert.Len(t, k.Endpoints, 1)
	assert.Equal(t, "192.168.0.2", k.Endpoints["shop/sliced"].NodeIP.String())
	a.remove(manifest.KindCiliumEndpointSlice, "", "ces-1")
	w.Eventually(t, "the endpoint gone", func(k porttest.Known) bool { return len(k.Endpoints) == 0 })
}

// A server that doesn't stream lists gives them in pages.
func TestLists(t *testing.T) {
	a := server(t)
	a.apply(everything())
	config, wire := a.wired()
	wire.lies(func(req *http.Request) *http.Response {
		if req.URL.Query().Get("sendInitialEvents") != "" {
			return answer(http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden for watch")
		}
		return nil
	})
	s := a.open(Options{Node: "n1", Config: config})
	s.pageSize = 2
	w := porttest.WatchSource(t, s)
	assertEverything(t, w.Eventually(t, "Synced", synced))
	a.remove(manifest.KindNetworkPolicy, "shop", "q")
	w.Eventually(t, "the change", func(k porttest.Known) bool { return len(k.Policies) == 2 })
	for _, path := range paths {
		parts := strings.Split(path, "/")
		if resource := parts[len(parts)-1]; resource != "events" && resource != "ciliumendpointslices" {
			assert.Contains(t, wire.seen, "list "+resource)
		}
	}
}

// What changed while nothing was heard is told once it is, objects that went among it, and nothing else is.
func TestListAfterAnOutageTellsDifferences(t *testing.T) {
	a := server(t)
	a.apply(everything())
	config, wire := a.wired()
	s := a.open(Options{Node: "n1", Config: config})
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", synced)
	before := len(w.Events())
	wire.cutOff(watches)
	a.remove(manifest.KindNetworkPolicy, "shop", "q")
	a.remove(manifest.KindCiliumEndpoint, "shop", "other")
	a.apply(strings.Replace(podWeb, "note: one", "note: two", 1))
	eventually(t, "trouble is told", func() bool { return len(s.Findings()) > 0 })
	assert.Len(t, w.Events(), before, "an outage delivers nothing")
	wire.lies(forgetful())
	wire.cutOff(nil)
	k := w.Eventually(t, "the differences", func(k porttest.Known) bool {
		return len(k.Policies) == 2 && len(k.Endpoints) == 0 && k.Pods["shop/web"].Annotations["note"] == "two"
	})
	assert.Equal(t, 1, k.Synced)
	assert.Len(t, w.Events(), before+3)
	eventually(t, "the trouble is over", func() bool { return len(s.Findings()) == 0 })
}

// A real outage of the real server.
func TestServerAway(t *testing.T) {
	a := server(t)
	a.apply(everything())
	s := a.open(Options{Node: "n1"})
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", synced)
	before := len(w.Events())
	a.cluster.StopAPIServer(t)
	eventually(t, "trouble is told", func() bool { return len(s.Findings()) > 0 })
	assert.Error(t, s.PublishNode(t.Context(), cluster.Node{Name: "n1"}))
	assert.Len(t, w.Events(), before)
	a.cluster.StartAPIServer(t)
	a.remove(manifest.KindNetworkPolicy, "shop", "q")
	k := w.Eventually(t, "the change", func(k porttest.Known) bool { return len(k.Policies) == 2 })
	assert.Len(t, k.Pods, 1)
	assert.Equal(t, 1, k.Synced)
}

// What doesn't concern the network is not told, however often it changes.
func TestIrrelevantChangesAreSilent(t *testing.T) {
	a := server(t)
	a.apply(everything())
	w := porttest.WatchSource(t, a.open(Options{Node: "n1"}))
	w.Eventually(t, "Synced", synced)
	before := len(w.Events())
	a.do("PATCH", "/api/v1/nodes/n1/status", "application/merge-patch+json",
		[]byte(`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:00Z"}]}}`))
	a.do("PATCH", pathOf(manifest.KindCiliumNetworkPolicy, "shop", "p")+"/status", "application/merge-patch+json",
		[]byte(`{"status":{"conditions":[{"type":"Valid","status":"True"}]}}`))
	a.apply(strings.Replace(podWeb, "note: one", "note: two", 1))
	w.Eventually(t, "the pod's change", func(k porttest.Known) bool { return k.Pods["shop/web"].Annotations["note"] == "two" })
	assert.Len(t, w.Events(), before+1)
}

// heard is a log to look into.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, string(p))
	return len(p), nil
}

func (h *heard) count(part string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// A kind that isn't defined is waited for.
func TestMissingDefinition(t *testing.T) {
	a := server(t)
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ciliumnodes.cilium.io"
	a.do("DELETE", crd, "", nil)
	t.Cleanup(func() {
		require.NoError(t, crds.Install(context.Background(), a.cluster.Config, slog.New(slog.DiscardHandler)))
	})
	eventually(t, "the definition gone", func() bool {
		_, code, err := a.try("GET", "/apis/cilium.io/v2/ciliumnodes", "", nil)
		return err == nil && code == http.StatusNotFound
	})
	_, err := raw(t.Context(), a.open(Options{}).cilium(nodeResource, "", "n1").request(a.open(Options{}), "GET"))
	require.True(t, definitionMissing(err), "%v", err)
	_, err = raw(t.Context(), a.open(Options{}).cilium(endpointResource, "shop", "n1").request(a.open(Options{}), "GET"))
	require.Error(t, err)
	require.False(t, definitionMissing(err), "%v", err)
	log := &heard{}
	s := a.open(Options{Node: "n1", Log: slog.New(slog.NewTextHandler(log, nil))})
	w := porttest.WatchSource(t, s)
	eventually(t, "it says what it waits for", func() bool { return log.count("ciliumnodes.cilium.io") == 1 })
	time.Sleep(2 * time.Second)
	assert.Empty(t, w.Events())
	assert.Equal(t, 1, log.count("ciliumnodes.cilium.io"), "once")
	found := s.Findings()
	require.Len(t, found, 1)
	assert.True(t, found[0].Warning)
	assert.Contains(t, found[0].Message, "weir-operator installs it")
	require.NoError(t, crds.Install(t.Context(), a.cluster.Config, slog.New(slog.DiscardHandler)))
	w.Eventually(t, "Synced", synced)
	eventually(t, "no finding is left", func() bool { return len(s.Findings()) == 0 })
}

// With a cluster pool the ranges of nodes are those that the operator wrote, whatever the Nodes say.
func TestClusterPool(t *testing.T) {
	for pool, want := range map[bool][]string{false: {"10.1.0.0/24"}, true: {"10.77.3.0/24"}} {
		a := server(t)
		a.apply(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24"]}}`)
		a.apply(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n2"},"spec":{"podCIDR":"10.2.0.0/24","podCIDRs":["10.2.0.0/24"]}}`)
		a.apply(`{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["10.77.3.0/24"]}}}`)
		w := porttest.WatchSource(t, a.open(Options{Node: "n1", ClusterPool: pool}))
		known := w.Eventually(t, "Synced", synced)
		var got []string
		for _, p := range known.Nodes["n1"].PodCIDRs {
			got = append(got, p.String())
		}
		require.Equal(t, want, got)
		require.Equal(t, !pool, len(known.Nodes["n2"].PodCIDRs) > 0, "a node that has no range yet")
	}
}

// The last good version of a policy is in force also after a restart.
func TestLastGoodOverRestart(t *testing.T) {
	a, dir := server(t), t.TempDir()
	start := func() (*Store, *porttest.SourceWatch) {
		s := a.open(Options{Node: "n1", StateDir: dir})
		w := porttest.WatchSource(t, s)
		w.Eventually(t, "Synced", synced)
		return s, w
	}
	port := func(w *porttest.SourceWatch) uint16 {
		p, ok := porttest.Digest(w.Events()).Policies["CiliumNetworkPolicy shop/p"]
		if !ok {
			return 0
		}
		return p.Specs[0].Rules[0].Ports[0].First
	}
	a.apply(policyGood)
	_, w := start()
	require.Equal(t, uint16(80), port(w))
	w.Stop(t)
	a.apply(policyBad)
	s, w := start()
	assert.Equal(t, uint16(80), port(w), "the version before")
	var said []string
	for _, f := range s.Findings() {
		said = append(said, f.String())
	}
	require.Len(t, said, 2)
	assert.Contains(t, said[0], "CiliumNetworkPolicy shop/p: spec.ingress[0].toPorts[0].ports[0].endPort")
	assert.Contains(t, said[1], "last good version stays in force")
	w.Stop(t)
	a.remove(manifest.KindCiliumNetworkPolicy, "shop", "p")
	_, w = start()
	assert.Zero(t, port(w))
	w.Stop(t)
	a.apply(policyBad)
	s, w = start()
	assert.Zero(t, port(w), "what went is forgotten")
	assert.Contains(t, s.Findings()[1].Message, "nothing of it is in force")
	a.apply(policyGood)
	eventually(t, "the mended policy", func() bool { return port(w) == 80 })
	a.remove(manifest.KindCiliumNetworkPolicy, "shop", "p")
	eventually(t, "no policy", func() bool { return port(w) == 0 })
	a.apply(policyBad)
	eventually(t, "the finding", func() bool { return len(s.Findings()) > 0 })
	assert.Zero(t, port(w), "what goes is forgotten")
	a.remove(manifest.KindCiliumNetworkPolicy, "shop", "p")
	eventually(t, "no finding is left", func() bool { return len(s.Findings()) == 0 })
}

func TestOneWatchAtATime(t *testing.T) {
	a := server(t)
	s := a.open(Options{Node: "n1"})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	assert.ErrorIs(t, s.Watch(t.Context(), func(cluster.Event) {}), ports.ErrConflict)
}

// Nothing runs on once the context ended, be the server there or away.
func TestWatchLeavesNothing(t *testing.T) {
	a := server(t)
	ignore := goleak.IgnoreCurrent()
	run := func(s *Store, until func(*porttest.SourceWatch)) {
		w := porttest.WatchSource(t, s)
		until(w)
		began := time.Now()
		w.Stop(t)
		assert.Less(t, time.Since(began), 2*time.Second)
		s.api.http.CloseIdleConnections()
	}
	run(a.open(Options{Node: "n1"}), func(w *porttest.SourceWatch) { w.Eventually(t, "Synced", synced) })
	config, wire := a.wired()
	wire.cutOff(func(*http.Request) bool { return true })
	s := a.open(Options{Node: "n1", Config: config})
	run(s, func(w *porttest.SourceWatch) {
		eventually(t, "trouble is told", func() bool { return len(s.Findings()) > 3 })
		time.Sleep(2 * time.Second) // so that pauses have grown
	})
	goleak.VerifyNone(t, ignore)
}

// A heartbeat is not even decoded.
func TestHeartbeatIsNoNews(t *testing.T) {
	r := &reflector{store: &Store{}, kind: kinds(Options{})[0], seed: maphash.MakeSeed()}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "7"}}
	convert := func(before seen) (seen, bool) {
		n, err := typedNotice(watch.Modified, node)
		require.NoError(t, err)
		_, now, news := r.convert(n, before)
		return now, news
	}
	before, news := convert(seen{})
	assert.True(t, news)
	node.ResourceVersion = "8"
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	now, news := convert(before)
	assert.False(t, news)
	assert.Equal(t, uint64(8), now.version)
	node.Spec.PodCIDRs = []string{"10.0.0.0/24"}
	_, news = convert(now)
	assert.True(t, news)
}

func TestHubKeepsWhatCounts(t *testing.T) {
	k := manifest.Key{Kind: manifest.KindNetworkPolicy, Namespace: "shop", Name: "p"}
	h := newHub([]kind{{name: "a"}})
	bad := []cluster.Finding{{Message: "bad"}}
	h.push("a", false, change{kind: put, key: k, version: 1}, change{kind: refused, key: k, version: 2, findings: bad})
	select {
	case <-h.wake:
		t.Fatal("the list is not complete")
	default:
	}
	h.push("a", true)
	<-h.wake
	assert.Equal(t, []change{{kind: put, key: k, version: 1, findings: bad}}, h.take())
	h.push("a", false, change{kind: removed, key: k, version: 3}, change{kind: refused, key: k, version: 4, findings: bad})
	assert.Equal(t, []change{{kind: removed, key: k, version: 3, findings: bad}}, h.take())
	h.push("a", false, change{kind: refused, key: k, version: 5, findings: bad}, change{kind: put, key: k, version: 6})
	assert.Equal(t, []change{{kind: put, key: k, version: 6}}, h.take())
	assert.Empty(t, h.take())
}

func TestConnect(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := Connect(Options{})
	assert.ErrorContains(t, err, "no kubeconfig is given")
	_, err = Connect(Options{Kubeconfig: "/nowhere"})
	assert.ErrorContains(t, err, "/nowhere")
	_, err = Connect(Options{Server: "10.0.0.1:6443"})
	assert.ErrorContains(t, err, "token")
	a := server(t)
	c, err := Connect(Options{Kubeconfig: a.cluster.Kubeconfig, Server: "10.0.0.1:6443", Manager: "x"})
	require.NoError(t, err)
	assert.Equal(t, "https://10.0.0.1:6443", c.Host)
	assert.Equal(t, "x", c.UserAgent)
	assert.Equal(t, float32(10), c.QPS)
	c, err = Connect(Options{Kubeconfig: a.cluster.Kubeconfig})
	require.NoError(t, err)
	assert.Equal(t, a.cluster.Config.Host, c.Host)
}
