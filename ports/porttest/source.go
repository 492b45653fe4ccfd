package porttest

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// SourceHarness is a source with its user's hands. Apply makes the named manifest hold exactly these
// objects, in YAML; Remove takes the manifest away with all its objects.
type SourceHarness struct {
	Source ports.Source
	Apply  func(name, yaml string)
	Remove func(name string)
	// Mistake is a policy of which a version is refused; the zero value is a NetworkPolicy. It is for sources
	// that never see such a one, because somebody refuses it before.
	Mistake Mistake
}

// Mistake is a policy with one rule that allows port 80, and a version of it that is refused.
type Mistake struct {
	Good, Broken string // YAML
	Key          string // as in policy.Ref's String and in findings
	Field        string // that is wrong
}

var mistake = Mistake{Good: sourcePolicy, Broken: sourceBroken, Key: policyKey, Field: "spec.ingress[0].ports[0].port"}

// SourceWatch runs a Watch and remembers what it delivers.
type SourceWatch struct {
	mu       sync.Mutex
	events   []cluster.Event
	inside   int
	overlaps int
	cancel   context.CancelFunc
	done     chan error
}

// WatchSource starts a Watch that ends with the test, or with Stop.
func WatchSource(t *testing.T, s ports.Source) *SourceWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &SourceWatch{cancel: cancel, done: make(chan error, 1)}
	go func() {
		w.done <- s.Watch(ctx, func(e cluster.Event) {
			w.mu.Lock()
			w.inside++
			if w.inside > 1 {
				w.overlaps++
			}
			w.events = append(w.events, e)
			w.mu.Unlock()
			w.mu.Lock()
			w.inside--
			w.mu.Unlock()
		})
	}()
	t.Cleanup(func() { w.Stop(t) })
	return w
}

// Stop ends the Watch and waits for it; again does nothing.
func (w *SourceWatch) Stop(t *testing.T) {
	w.cancel()
	select {
	case err := <-w.done:
		w.done <- err
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled)
		}
	case <-time.After(10 * time.Second):
		t.Error("Watch does not end with its context")
	}
	assert.Zero(t, w.overlaps, "deliver was called from two goroutines at once")
}

// Events returns what was delivered so far.
func (w *SourceWatch) Events() []cluster.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]cluster.Event(nil), w.events...)
}

// Eventually waits until what was delivered satisfies the condition.
func (w *SourceWatch) Eventually(t *testing.T, what string, ok func(Known) bool) Known {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		k := Digest(w.Events())
		if ok(k) {
			return k
		}
		if time.Now().After(deadline) {
			require.FailNow(t, "did not happen: "+what, "known: %+v", k)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Known is what a consumer of events holds in the end.
type Known struct {
	Nodes      map[string]cluster.Node
	Namespaces map[string]cluster.Namespace
	Pods       map[string]cluster.Pod
	Endpoints  map[string]cluster.Endpoint
	Identities map[uint32]string // labels.Set.Key by number
	Policies   map[string]policy.Policy
	Services   map[string]lb.Service
	Backends   map[string][]lb.Backend // by "namespace/service slice"
	Synced     int
}

// Digest applies events in order.
func Digest(events []cluster.Event) Known {
	k := Known{
		Nodes: map[string]cluster.Node{}, Namespaces: map[string]cluster.Namespace{}, Pods: map[string]cluster.Pod{},
		Endpoints: map[string]cluster.Endpoint{}, Identities: map[uint32]string{}, Policies: map[string]policy.Policy{},
		Services: map[string]lb.Service{}, Backends: map[string][]lb.Backend{},
	}
	for _, e := range events {
		switch e := e.(type) {
		case cluster.NodeUpsert:
			k.Nodes[e.Node.Name] = e.Node
		case cluster.NodeDelete:
			delete(k.Nodes, e.Name)
		case cluster.NamespaceUpsert:
			k.Namespaces[e.Namespace.Name] = e.Namespace
		case cluster.NamespaceDelete:
			delete(k.Namespaces, e.Name)
		case cluster.PodUpsert:
			k.Pods[e.Pod.Name.String()] = e.Pod
		case cluster.PodDelete:
			delete(k.Pods, e.Name.String())
		case cluster.EndpointUpsert:
			k.Endpoints[e.Endpoint.Name.String()] = e.Endpoint
		case cluster.EndpointDelete:
			delete(k.Endpoints, e.Name.String())
		case cluster.IdentityUpsert:
			k.Identities[uint32(e.ID)] = e.Labels.Key()
		case cluster.IdentityDelete:
			delete(k.Identities, uint32(e.ID))
		case cluster.PolicyUpsert:
			k.Policies[e.Policy.Ref.String()] = e.Policy
		case cluster.PolicyDelete:
			delete(k.Policies, e.Ref.String())
		case cluster.ServiceUpsert:
			k.Services[e.Service.Name.String()] = e.Service
		case cluster.ServiceDelete:
			delete(k.Services, e.Name.String())
		case cluster.BackendsUpsert:
			k.Backends[e.Slice.Service.String()+" "+e.Slice.Name] = e.Slice.Backends
		case cluster.BackendsDelete:
			delete(k.Backends, e.Service.String()+" "+e.Slice)
		case cluster.Synced:
			k.Synced++
		}
	}
	return k
}

const (
	sourceBase = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: n1}
  spec: {podCIDRs: [10.0.0.0/24]}
  status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]}
  status: {podIPs: [{ip: 10.0.0.5}]}
`
	sourceService = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`
	sourcePolicy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
`
	sourceBroken = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 70000}]}]}
`
	policyKey = "NetworkPolicy shop/p"
)

func (h SourceHarness) mistake() Mistake {
	if h.Mistake == (Mistake{}) {
		return mistake
	}
	return h.Mistake
}

// Source is the contract suite of ports.Source. start makes an empty one.
func Source(t *testing.T, start func(t *testing.T) SourceHarness) {
	t.Run("empty", func(t *testing.T) {
		w := WatchSource(t, start(t).Source)
		w.Eventually(t, "Synced of an empty cluster", func(k Known) bool { return k.Synced == 1 })
		assert.Equal(t, []cluster.Event{cluster.Synced{}}, w.Events())
	})

	t.Run("initial then synced then changes", func(t *testing.T) {
		h := start(t)
		h.Apply("base", sourceBase)
		h.Apply("policy", sourcePolicy)
		w := WatchSource(t, h.Source)
		w.Eventually(t, "Synced", func(k Known) bool { return k.Synced == 1 })
		events := w.Events()
		assert.Equal(t, cluster.Synced{}, events[len(events)-1], "nothing comes after Synced by itself")
		k := Digest(events)
		assert.Equal(t, "a", k.Namespaces["shop"].Labels["team"])
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.5")}, k.Pods["shop/web"].IPs)
		assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, k.Nodes["n1"].PodCIDRs)
		assert.Contains(t, k.Policies, policyKey)
		assertPolicyBeforePod(t, events)

		h.Apply("service", sourceService)
		k = w.Eventually(t, "a new service", func(k Known) bool { return len(k.Services) == 1 })
		assert.Equal(t, uint16(80), k.Services["shop/web"].Frontends[0].Port)
		h.Remove("policy")
		w.Eventually(t, "a policy gone", func(k Known) bool { return len(k.Policies) == 0 })
		h.Remove("base")
		k = w.Eventually(t, "the rest gone", func(k Known) bool {
			return len(k.Pods) == 0 && len(k.Nodes) == 0 && len(k.Namespaces) == 0
		})
		assert.Equal(t, 1, k.Synced, "Synced comes once")
		assert.Empty(t, h.Source.Findings())
	})

	t.Run("backends of pods", func(t *testing.T) {
		h := start(t)
		h.Apply("base", sourceBase)
		h.Apply("service", sourceService)
		w := WatchSource(t, h.Source)
		backends := func(k Known) (out []lb.Backend) {
			for _, bs := range k.Backends {
				out = append(out, bs...)
			}
			return out
		}
		k := w.Eventually(t, "a backend", func(k Known) bool { return k.Synced == 1 })
		require.Len(t, backends(k), 1)
		assert.Equal(t, netip.MustParseAddr("10.0.0.5"), backends(k)[0].Addr)
		assert.Equal(t, uint16(8080), backends(k)[0].Port)
		assert.Equal(t, "n1", backends(k)[0].Node)
		h.Apply("slice", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 9}]
endpoints: [{addresses: [10.9.9.9]}]
`)
		k = w.Eventually(t, "the explicit slice alone", func(k Known) bool {
			return len(backends(k)) == 1 && backends(k)[0].Port == 9
		})
		assert.Contains(t, k.Backends, "shop/web web-1")
		h.Remove("slice")
		w.Eventually(t, "pods again", func(k Known) bool { return len(backends(k)) == 1 && backends(k)[0].Port == 8080 })
		h.Remove("base")
		w.Eventually(t, "no backend", func(k Known) bool { return len(backends(k)) == 0 })
	})

	t.Run("a broken object", func(t *testing.T) {
		h := start(t)
		m := h.mistake()
		h.Apply("policy", m.Good)
		w := WatchSource(t, h.Source)
		w.Eventually(t, "the good version", func(k Known) bool { return len(k.Policies) == 1 })
		h.Apply("policy", m.Broken)
		h.Apply("service", sourceService)
		k := w.Eventually(t, "the other object", func(k Known) bool { return len(k.Services) == 1 })
		assert.Equal(t, uint16(80), k.Policies[m.Key].Specs[0].Rules[0].Ports[0].First, "the last good version stays")
		found := false
		for _, f := range h.Source.Findings() {
			found = found || f.Object == m.Key && f.Field == m.Field && !f.Warning
		}
		assert.True(t, found, "findings: %v", h.Source.Findings())
		h.Remove("policy")
		w.Eventually(t, "a broken object can be deleted", func(k Known) bool { return len(k.Policies) == 0 })
		assert.Eventually(t, func() bool { return len(h.Source.Findings()) == 0 }, 10*time.Second, 2*time.Millisecond)
	})

	t.Run("a broken object that never was good", func(t *testing.T) {
		h := start(t)
		m := h.mistake()
		h.Apply("policy", m.Broken)
		h.Apply("base", sourceBase)
		w := WatchSource(t, h.Source)
		k := w.Eventually(t, "Synced", func(k Known) bool { return k.Synced == 1 })
		assert.Empty(t, k.Policies)
		assert.Len(t, k.Pods, 1)
		assert.NotEmpty(t, h.Source.Findings())
		h.Apply("policy", m.Good)
		w.Eventually(t, "the mended object", func(k Known) bool { return len(k.Policies) == 1 })
	})

	t.Run("watched again", func(t *testing.T) {
		h := start(t)
		h.Apply("base", sourceBase)
		w := WatchSource(t, h.Source)
		w.Eventually(t, "Synced", func(k Known) bool { return k.Synced == 1 })
		w.Stop(t)
		h.Apply("policy", sourcePolicy)
		again := WatchSource(t, h.Source)
		k := again.Eventually(t, "Synced", func(k Known) bool { return k.Synced == 1 })
		assert.Len(t, k.Pods, 1)
		assert.Len(t, k.Policies, 1)
	})
}

// assertPolicyBeforePod holds a source to telling of the policies first: a pod must not be known
// while what restricts it is not.
func assertPolicyBeforePod(t *testing.T, events []cluster.Event) {
	t.Helper()
	pods := false
	for _, e := range events {
		switch e.(type) {
		case cluster.PodUpsert, cluster.EndpointUpsert:
			pods = true
		case cluster.PolicyUpsert:
			assert.False(t, pods, "a policy comes after a pod")
		}
	}
}
