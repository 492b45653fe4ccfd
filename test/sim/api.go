package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
)

// errAway is what calls to the cluster answer during an outage.
var errAway = errors.New("the API server does not answer")

// api is the model of the API server: objects with their latest version, and a watch for each node.
type api struct {
	s       *Sim
	objects map[string]cluster.Event // the upsert, by key
	before  map[string]cluster.Event // the upsert before that one
	keys    []string                 // sorted

	book       manifest.IdentityBook
	identities manifest.Identities
	ever       map[identity.ID][]labels.Set // what a number meant, oldest first
}

func newAPI(s *Sim) *api {
	return &api{s: s, objects: map[string]cluster.Event{}, before: map[string]cluster.Event{}, identities: manifest.Identities{}, ever: map[identity.ID][]labels.Set{}}
}

// keyOf names the object of an event; back is the event of its deletion, and the event itself if it is
// one.
func keyOf(ev cluster.Event) (key string, back cluster.Event, deletes bool) {
	switch ev := ev.(type) {
	case cluster.NodeUpsert:
		return "node " + ev.Node.Name, cluster.NodeDelete{Name: ev.Node.Name}, false
	case cluster.NodeDelete:
		return "node " + ev.Name, ev, true
	case cluster.NamespaceUpsert:
		return "namespace " + ev.Namespace.Name, cluster.NamespaceDelete{Name: ev.Namespace.Name}, false
	case cluster.NamespaceDelete:
		return "namespace " + ev.Name, ev, true
	case cluster.PodUpsert:
		return "pod " + ev.Pod.Name.String(), cluster.PodDelete{Name: ev.Pod.Name}, false
	case cluster.PodDelete:
		return "pod " + ev.Name.String(), ev, true
	case cluster.IdentityUpsert:
		return "identity " + ev.ID.String(), cluster.IdentityDelete{ID: ev.ID}, false
	case cluster.IdentityDelete:
		return "identity " + ev.ID.String(), ev, true
	case cluster.EndpointUpsert:
		return "endpoint " + ev.Endpoint.Name.String(), cluster.EndpointDelete{Name: ev.Endpoint.Name}, false
	case cluster.EndpointDelete:
		return "endpoint " + ev.Name.String(), ev, true
	case cluster.PolicyUpsert:
		return "policy " + ev.Policy.Ref.String(), cluster.PolicyDelete{Ref: ev.Policy.Ref}, false
	case cluster.PolicyDelete:
		return "policy " + ev.Ref.String(), ev, true
	case cluster.ServiceUpsert:
		return "service " + ev.Service.Name.String(), cluster.ServiceDelete{Name: ev.Service.Name}, false
	case cluster.ServiceDelete:
		return "service " + ev.Name.String(), ev, true
	case cluster.BackendsUpsert:
		return "slice " + ev.Slice.Service.String() + " " + ev.Slice.Name,
			cluster.BackendsDelete{Service: ev.Slice.Service, Slice: ev.Slice.Name}, false
	case cluster.BackendsDelete:
		return "slice " + ev.Service.String() + " " + ev.Slice, ev, true
	}
	panic(fmt.Sprintf("no object: %T", ev))
}

// tell changes an object; every connected watch hears of it.
func (a *api) tell(ev cluster.Event) {
	key, _, deletes := keyOf(ev)
	at, there := slices.BinarySearch(a.keys, key)
	switch {
	case deletes && !there:
		return
	case deletes:
		a.keys = slices.Delete(a.keys, at, at+1)
		delete(a.objects, key)
		delete(a.before, key)
	default:
		if !there {
			a.keys = slices.Insert(a.keys, at, key)
		} else {
			a.before[key] = a.objects[key]
		}
		a.objects[key] = ev
	}
	a.s.changes++
	a.s.trace("api %T %s", ev, key)
	for _, n := range a.s.nodes {
		n.watch.hear(ev)
	}
}

// each visits the objects of one kind in order of their keys.
func each[E cluster.Event](a *api, visit func(E)) {
	for _, k := range slices.Clone(a.keys) {
		if ev, ok := a.objects[k].(E); ok {
			visit(ev)
		}
	}
}

// watch is a node's connection to the API server.
type watch struct {
	a         *api
	connected bool
	queue     []queued
	told      map[string]cluster.Event // what was queued and not taken back: the event that would
	lose      int                      // events that will be lost
	gap       bool                     // something was missed
	double    bool                     // some events come twice
	merge     bool                     // of several events that wait about one object only the last comes
}

type queued struct {
	key     string // "": all that was there at the start has been said
	ev      cluster.Event
	deletes bool
}

// start begins anew: a list of everything, then changes.
func (w *watch) start() {
	w.queue, w.told, w.connected, w.lose, w.gap = nil, map[string]cluster.Event{}, true, 0, false
	for _, k := range w.a.keys {
		w.enqueue(w.a.objects[k])
	}
	w.queue = append(w.queue, queued{ev: cluster.Synced{}})
}

func (w *watch) stop() { w.queue, w.told, w.connected = nil, nil, false }

func (w *watch) hear(ev cluster.Event) {
	switch {
	case w.told == nil:
		return
	case !w.connected:
		w.gap = true
		return
	case w.lose > 0:
		w.lose--
		w.gap = true
		return
	}
	w.enqueue(ev)
}

func (w *watch) enqueue(ev cluster.Event) {
	key, back, deletes := keyOf(ev)
	if deletes {
		delete(w.told, key)
	} else {
		w.told[key] = back
	}
	w.queue = append(w.queue, queued{key, ev, deletes})
}

// cut ends the connection: what happens from now on is not heard.
func (w *watch) cut() { w.connected = false }

// resync lists everything again and notices what is gone. stale: the list is of some time ago, and what
// happened since follows.
func (w *watch) resync(stale bool) {
	if w.told == nil {
		return
	}
	w.connected, w.lose, w.gap = true, 0, false
	var gone []cluster.Event
	for _, k := range sortedKeys(w.told) {
		if _, there := w.a.objects[k]; !there {
			gone = append(gone, w.told[k])
		}
	}
	for _, k := range w.a.keys {
		if old, ok := w.a.before[k]; ok && stale {
			w.enqueue(old)
		}
		w.enqueue(w.a.objects[k])
	}
	for _, ev := range gone {
		w.enqueue(ev)
	}
}

// next takes an event off the queue: any that no earlier one of the same object stands before.
func (w *watch) next(rng *rand.Rand) (queued, bool) {
	if len(w.queue) == 0 {
		return queued{}, false
	}
	i := 0
	if rng != nil {
		i = rng.IntN(len(w.queue))
		i = slices.IndexFunc(w.queue, func(q queued) bool { return q.key == w.queue[i].key })
		if w.queue[i].key == "" && i > 0 {
			i = 0
		}
	}
	q := w.queue[i]
	w.queue = slices.Delete(w.queue, i, i+1)
	for w.merge && q.key != "" {
		i := slices.IndexFunc(w.queue, func(o queued) bool { return o.key == q.key })
		if i < 0 {
			break
		}
		q = w.queue[i]
		w.queue = slices.Delete(w.queue, i, i+1)
	}
	return q, true
}

// client is a node's way to write to the cluster: ports.Publisher and ports.Identities.
type client struct{ n *node }

func (c client) do(op, what string, call func() error) error {
	if err := c.n.call(op, what, 0, true); err != nil {
		return err
	}
	done, err := c.n.clusterFault(op)
	if done {
		if e := call(); e != nil {
			return e
		}
	}
	return err
}

func (c client) PublishNode(_ context.Context, n cluster.Node) error {
	return c.do("publish node", n.Name, func() error {
		if _, there := c.n.s.api.objects["node "+n.Name]; there {
			c.n.s.api.tell(cluster.NodeUpsert{Node: n})
		}
		return nil
	})
}

func (c client) PublishEndpoint(_ context.Context, e cluster.Endpoint) error {
	return c.do("publish endpoint", e.Name.String(), func() error {
		c.n.s.api.book.Used(e.Identity)
		c.n.s.api.tell(cluster.EndpointUpsert{Endpoint: e})
		return nil
	})
}

func (c client) WithdrawEndpoint(_ context.Context, name cluster.Name, node string) error {
	return c.do("withdraw endpoint", name.String(), func() error {
		have, ok := c.n.s.api.objects["endpoint "+name.String()].(cluster.EndpointUpsert)
		if ok && have.Endpoint.Node == node {
			c.n.s.api.tell(cluster.EndpointDelete{Name: name})
		}
		return nil
	})
}

func (c client) Allocate(_ context.Context, ls labels.Set) (id identity.ID, err error) {
	err = c.do("allocate", ls.Key(), func() error {
		id, err = c.n.s.api.allocate(ls)
		return err
	})
	if err != nil {
		return 0, err
	}
	// The answer tells the node what a watch would, and a renewed watch tells if the identity is gone by then.
	ev := cluster.IdentityUpsert{ID: id, Labels: ls}
	c.n.view.note(ev)
	if told := c.n.watch.told; told != nil {
		key, back, _ := keyOf(ev)
		told[key] = back
	}
	return id, nil
}

func (a *api) allocate(ls labels.Set) (identity.ID, error) {
	var id identity.ID
	for have, of := range a.identities {
		if of.Key() == ls.Key() && (id == 0 || have < id) {
			id = have
		}
	}
	if id != 0 {
		a.book.Renew(id, a.s.clock.Now())
		return id, nil
	}
	id, ok := a.book.Next(a.identities, a.s.clock.Now())
	if !ok {
		return 0, errors.New("no identity is free")
	}
	a.s.checkReuse(id, ls)
	a.identities[id] = ls
	a.ever[id] = append(a.ever[id], ls)
	a.tell(cluster.IdentityUpsert{ID: id, Labels: ls})
	return id, nil
}

func (c client) Collect(_ context.Context, grace time.Duration) (gone []identity.ID, err error) {
	err = c.do("collect", "", func() error {
		a := c.n.s.api
		inUse := map[identity.ID]bool{}
		each(a, func(e cluster.EndpointUpsert) { inUse[e.Endpoint.Identity] = true })
		gone, _ = a.book.Collect(a.identities, inUse, a.s.clock.Now(), grace)
		for _, id := range gone {
			delete(a.identities, id)
			a.tell(cluster.IdentityDelete{ID: id})
		}
		return nil
	})
	return gone, err
}
