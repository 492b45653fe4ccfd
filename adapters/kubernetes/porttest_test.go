package kubernetes

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

// emptied hides what every API server has by itself, so that one looks empty: the namespaces without labels of
// their own and the service of the server itself.
type emptied struct {
	ports.Source
	told map[string]bool
}

var own = lb.Name{Namespace: "default", Name: "kubernetes"}

func (s *emptied) Watch(ctx context.Context, deliver func(cluster.Event)) error {
	s.told = map[string]bool{}
	return s.Source.Watch(ctx, func(e cluster.Event) {
		switch e := e.(type) {
		case cluster.NamespaceUpsert:
			if bare := len(e.Namespace.Labels) == 1; !bare {
				s.told[e.Namespace.Name] = true
			} else if s.told[e.Namespace.Name] {
				delete(s.told, e.Namespace.Name)
				deliver(cluster.NamespaceDelete{Name: e.Namespace.Name})
				return
			} else {
				return
			}
		case cluster.ServiceUpsert:
			if e.Service.Name == own {
				return
			}
		case cluster.BackendsUpsert:
			if e.Slice.Service == own {
				return
			}
		}
		deliver(e)
	})
}

// manifests applies texts by name, and removes what a text doesn't hold any more.
type manifests struct {
	*api
	held map[string][]given
}

func (m *manifests) set(name, text string) {
	m.t.Helper()
	// The address that the suite takes is that of the server's own service.
	text = strings.ReplaceAll(text, "clusterIP: 10.96.0.1,", "clusterIP: 10.96.0.77,")
	var docs []given
	if text != "" {
		docs = documents(m.t, text)
		m.apply(text)
	}
	for _, d := range m.held[name] {
		kept := false
		for _, n := range docs {
			kept = kept || n.text("kind") == d.text("kind") && n.text("metadata", "name") == d.text("metadata", "name")
		}
		switch {
		case kept:
		case d.text("kind") == manifest.KindNamespace: // nobody would finish its end
			m.apply(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + d.text("metadata", "name") + `"}}`)
		default:
			m.remove(d.text("kind"), d.text("metadata", "namespace"), d.text("metadata", "name"))
		}
	}
	m.held[name] = docs
}

func TestSourceContract(t *testing.T) {
	porttest.Source(t, func(t *testing.T) porttest.SourceHarness {
		a := server(t)
		m := &manifests{api: a, held: map[string][]given{}}
		return porttest.SourceHarness{
			Source: &emptied{Source: a.open(Options{Node: "n1", StateDir: t.TempDir()})},
			Apply:  m.set,
			Remove: func(name string) { m.set(name, "") },
			Mistake: porttest.Mistake{
				Good: `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}
`,
				Broken: `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "81", endPort: 80, protocol: TCP}]}]}]}
`,
				Key: "CiliumNetworkPolicy shop/p", Field: "spec.ingress[0].toPorts[0].ports[0].endPort",
			},
		}
	})
}

func TestPublisherContract(t *testing.T) {
	porttest.Publisher(t, func(t *testing.T) porttest.PublisherHarness {
		a := server(t)
		return porttest.PublisherHarness{
			Publisher: a.open(Options{Node: "n1"}), Source: &emptied{Source: a.open(Options{Node: "n1"})},
		}
	})
}

// clock is a time that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestIdentitiesContract(t *testing.T) {
	porttest.Identities(t, func(t *testing.T) porttest.IdentitiesHarness {
		api, c := server(t), newClock()
		a, b := api.open(Options{Now: c.time, Operator: true}), api.open(Options{Now: c.time, Operator: true})
		return porttest.IdentitiesHarness{
			A: a, B: b, Publisher: a, Source: &emptied{Source: b}, Advance: c.advance, Revives: true,
			Exhaust: func(free int) {
				for _, s := range []*Store{a, b} {
					s.highest = s.lowest + identity.ID(free) - 1
				}
			},
		}
	})
}
