package sim

import (
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// version is what an object was from a moment on; nil: it was not there.
type version[T any] struct {
	at int
	v  *T
}

// history is an object through time.
type history[T any] []version[T]

// window lists the versions that were true at some moment from lo on; nil is among them if the object
// was absent then.
func (h history[T]) window(lo int) []*T {
	var out []*T
	for i := len(h) - 1; i >= 0; i-- {
		out = append(out, h[i].v)
		if h[i].at <= lo {
			return out
		}
	}
	return append(out, nil)
}

func (h history[T]) latest() *T {
	if len(h) == 0 {
		return nil
	}
	return h[len(h)-1].v
}

type sliceKey struct {
	service lb.Name
	slice   string
}

// view is what a node was told, through all lives of its agent. clean is the last moment at which its
// kernel held exactly what it had been told: what the kernel does now must follow from what was true at
// some moment since.
type view struct {
	now, clean int

	nodes      map[string]history[cluster.Node]
	namespaces map[string]history[cluster.Namespace]
	pods       map[cluster.Name]history[cluster.Pod]
	identities map[identity.ID]history[labels.Set]
	endpoints  map[cluster.Name]history[cluster.Endpoint]
	policies   map[policy.Ref]history[policy.Policy]
	services   map[lb.Name]history[lb.Service]
	slices     map[sliceKey]history[lb.Slice]
	refs       []policy.Ref // of policies, in order of arrival
}

func newView() *view {
	return &view{
		nodes: map[string]history[cluster.Node]{}, namespaces: map[string]history[cluster.Namespace]{},
		pods: map[cluster.Name]history[cluster.Pod]{}, identities: map[identity.ID]history[labels.Set]{},
		endpoints: map[cluster.Name]history[cluster.Endpoint]{}, policies: map[policy.Ref]history[policy.Policy]{},
		services: map[lb.Name]history[lb.Service]{}, slices: map[sliceKey]history[lb.Slice]{},
	}
}

func add[K comparable, T any](m map[K]history[T], k K, at int, v *T) {
	m[k] = append(m[k], version[T]{at, v})
}

// note takes what the node is told now.
func (v *view) note(ev cluster.Event) {
	v.now++
	switch ev := ev.(type) {
	case cluster.NodeUpsert:
		add(v.nodes, ev.Node.Name, v.now, &ev.Node)
	case cluster.NodeDelete:
		add(v.nodes, ev.Name, v.now, nil)
	case cluster.NamespaceUpsert:
		add(v.namespaces, ev.Namespace.Name, v.now, &ev.Namespace)
	case cluster.NamespaceDelete:
		add(v.namespaces, ev.Name, v.now, nil)
	case cluster.PodUpsert:
		add(v.pods, ev.Pod.Name, v.now, &ev.Pod)
	case cluster.PodDelete:
		add(v.pods, ev.Name, v.now, nil)
	case cluster.IdentityUpsert:
		add(v.identities, ev.ID, v.now, &ev.Labels)
	case cluster.IdentityDelete:
		add(v.identities, ev.ID, v.now, nil)
	case cluster.EndpointUpsert:
		add(v.endpoints, ev.Endpoint.Name, v.now, &ev.Endpoint)
	case cluster.EndpointDelete:
		add(v.endpoints, ev.Name, v.now, nil)
	case cluster.PolicyUpsert:
		v.notePolicy(ev.Policy.Ref, &ev.Policy)
	case cluster.PolicyDelete:
		v.notePolicy(ev.Ref, nil)
	case cluster.ServiceUpsert:
		add(v.services, ev.Service.Name, v.now, &ev.Service)
	case cluster.ServiceDelete:
		add(v.services, ev.Name, v.now, nil)
	case cluster.BackendsUpsert:
		add(v.slices, sliceKey{ev.Slice.Service, ev.Slice.Name}, v.now, &ev.Slice)
	case cluster.BackendsDelete:
		add(v.slices, sliceKey{ev.Service, ev.Slice}, v.now, nil)
	}
}

func (v *view) notePolicy(ref policy.Ref, p *policy.Policy) {
	if _, known := v.policies[ref]; !known {
		v.refs = append(v.refs, ref)
	}
	add(v.policies, ref, v.now, p)
}

// isClean says whether the kernel holds exactly what the node was told.
func (v *view) isClean() bool { return v.clean == v.now }
