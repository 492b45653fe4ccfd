package manifest

import (
	"maps"
	"reflect"
	"slices"

	"github.com/weirnet/weir/core/cluster"
)

// Assembler holds the valid objects of a cluster and says what changes when one of them does. The
// zero value is not usable; NewAssembler makes one. It has one caller.
//
// Node and CiliumNode of one name are one node: labels and pod CIDRs are the Node's, addresses and
// routers the CiliumNode's, which its own agent wrote; each fills in what the other lacks.
//
// A service with a selector that no EndpointSlice names gets its backends from the pods of its
// namespace: those that the selector matches and that are ready, with the addresses of their status
// or, failing that, of their CiliumEndpoint.
//
// A CiliumEndpointSlice speaks of many endpoints: what it says of one is told when it changes, and taken back
// when no slice says it any more. An endpoint's own CiliumEndpoint counts more.
//
// A policy that uses CIDR groups is told with their prefixes, and again when those change. A group that isn't there has
// none.
type Assembler struct {
	objects  map[Key]body
	slices   *deriver
	inSlices map[cluster.Name][]told // what CiliumEndpointSlices say, in the order of their keys
	groups   *groupBook
}

// NewAssembler makes an empty Assembler.
func NewAssembler() *Assembler {
	a := &Assembler{objects: map[Key]body{}, inSlices: map[cluster.Name][]told{}, groups: newGroupBook()}
	a.slices = newDeriver(a.endpoint)
	return a
}

// Put adds or replaces an object and returns the events that follow, in an order that is safe to
// apply. An object that is equal to the one held changes nothing. Objects that are not valid are
// ignored.
func (a *Assembler) Put(o Object) []cluster.Event {
	if !o.Valid() {
		return nil
	}
	if isGroup(o.Key) {
		return a.resolve(a.group(o.Key, o))
	}
	was, had := a.objects[o.Key]
	old := Object{o.Key, was}
	if had && reflect.DeepEqual(old.body, o.body) {
		return nil
	}
	a.objects[o.Key] = o.body
	if p, ok := o.body.(policyBody); ok {
		return a.groups.put(o.Key, p)
	}
	if isNode(o.Key) {
		return a.node(o.Name)
	}
	if now, ok := o.body.(endpointSliceBody); ok {
		was, _ := old.body.(endpointSliceBody)
		return a.endpointSlice(o.Key, was.endpoints, now.endpoints)
	}
	var out []cluster.Event
	if had && !reflect.DeepEqual(old.Deletes(), o.Deletes()) {
		// The same object now speaks of something else: a slice that moved to another service.
		out = append(out, a.slices.remove(old)...)
		out = append(out, old.Deletes()...)
	}
	derived := a.slices.put(o)
	if o.Kind == KindService {
		// Backends first: a service never names backends that are not there yet.
		return append(append(out, derived...), o.Upserts()...)
	}
	return append(append(out, o.Upserts()...), derived...)
}

// Remove takes an object back and returns the events that follow. An object that is absent changes
// nothing.
func (a *Assembler) Remove(k Key) []cluster.Event {
	if isGroup(k) {
		return a.resolve(a.group(k, Object{}))
	}
	had, ok := a.objects[k]
	if !ok {
		return nil
	}
	old := Object{k, had}
	delete(a.objects, k)
	a.groups.forget(k)
	if isNode(k) {
		return a.node(k.Name)
	}
	if was, ok := old.body.(endpointSliceBody); ok {
		return a.endpointSlice(k, was.endpoints, nil)
	}
	if k.Kind == KindCiliumEndpoint {
		if e, ok := a.endpoint(cluster.Name{Namespace: k.Namespace, Name: k.Name}); ok {
			return append(one(cluster.EndpointUpsert{Endpoint: e}), a.slices.put(endpointObject(e))...) // a slice knows it
		}
	}
	derived := a.slices.remove(old)
	if k.Kind == KindService {
		return append(old.Deletes(), derived...)
	}
	// What takes the place of a removed slice comes before it goes, and a pod stops being a backend
	// before it stops being a pod.
	return append(derived, old.Deletes()...)
}

// Get returns the object that is in force under a key.
func (a *Assembler) Get(k Key) (Object, bool) {
	b, ok := a.objects[k]
	if !ok {
		return Object{}, false
	}
	return Object{k, b}, true
}

// Snapshot returns the events that describe everything held, in an order that is safe to apply and
// the same for the same objects.
func (a *Assembler) Snapshot() []cluster.Event {
	fresh := NewAssembler()
	objects := make([]Object, 0, len(a.objects))
	for k, b := range a.objects {
		objects = append(objects, Object{k, b})
	}
	SortForApply(objects)
	said := map[Key][]cluster.Event{} // by slices
	for _, o := range objects {
		fresh.objects[o.Key] = o.body
		if b, ok := o.body.(endpointSliceBody); ok {
			said[o.Key] = fresh.endpointSlice(o.Key, nil, b.endpoints)
		} else if !isNode(o.Key) {
			fresh.slices.put(o)
		}
	}
	var out []cluster.Event
	done := map[string]bool{}
	backends := false
	for _, o := range objects {
		if !backends && rank(o.Kind) > rank(KindEndpointSlice) {
			backends = true
			out = append(out, fresh.slices.all()...)
		}
		if o.Kind == KindCiliumEndpointSlice {
			for _, e := range said[o.Key] {
				if up, ok := e.(cluster.EndpointUpsert); ok {
					out = append(out, up)
				}
			}
		} else if !isNode(o.Key) {
			out = append(out, a.groups.upserts(o)...)
		} else if !done[o.Name] {
			done[o.Name] = true
			out = append(out, fresh.node(o.Name)...)
		}
	}
	return out
}

func isNode(k Key) bool { return k.Kind == KindNode || k.Kind == KindCiliumNode }

func isGroup(k Key) bool { return k.Kind == KindCiliumCIDRGroup }

// group takes in a group, or that it is gone if now is not valid, and returns the policies that it may concern.
func (a *Assembler) group(k Key, now Object) []Key {
	old, had := a.objects[k]
	g, there := now.body.(cidrGroupBody)
	switch {
	case there && had && reflect.DeepEqual(old, now.body):
		return nil
	case there:
		a.objects[k] = now.body
		return a.groups.set(k.Name, g)
	}
	delete(a.objects, k)
	return a.groups.unset(k.Name)
}

// resolve looks at policies anew and returns the events of those that their groups make different.
func (a *Assembler) resolve(policies []Key) (out []cluster.Event) {
	for _, k := range policies {
		out = append(out, a.groups.resolve(k)...)
	}
	return out
}

// Findings says what is to be said of the objects held that they don't say by themselves, all of it warnings: of
// policies that name or select CIDR groups which aren't there. It holds until the next change; don't change it.
func (a *Assembler) Findings() map[Key][]cluster.Finding { return a.groups.findings }

// node says what is known of a node now.
func (a *Assembler) node(name string) []cluster.Event {
	own, hasOwn := a.objects[Key{Kind: KindNode, Name: name}]
	agents, hasAgents := a.objects[Key{Kind: KindCiliumNode, Name: name}]
	switch {
	case !hasOwn && !hasAgents:
		return one(cluster.NodeDelete{Name: name})
	case !hasAgents:
		return own.upserts()
	case !hasOwn:
		return agents.upserts()
	}
	n, published := own.(nodeBody).node, agents.(agentNodeBody).node
	if len(published.Addresses) > 0 {
		n.Addresses = published.Addresses
	}
	if len(n.PodCIDRs) == 0 {
		n.PodCIDRs = published.PodCIDRs
	}
	n.Routers = published.Routers
	return one(cluster.NodeUpsert{Node: n})
}

// Change is one object that is new or different, or gone.
type Change struct {
	Put    Object // if valid
	Remove Key    // else
}

// Apply makes several changes and returns the events that follow, in an order in which none of them
// opens more than the state before and after: policies come before the pods that they restrict, and
// go after them; a pod that takes over another's address comes after the other went.
func (a *Assembler) Apply(changes []Change) []cluster.Event {
	var puts []Object
	var removals []Key
	for _, c := range changes {
		if c.Put.Valid() {
			puts = append(puts, c.Put)
		} else {
			removals = append(removals, c.Remove)
		}
	}
	SortForApply(puts)
	sortSlice(removals, func(x, y Key) bool {
		if rx, ry := rank(x.Kind), rank(y.Kind); rx != ry {
			return rx > ry
		}
		return x.Less(y)
	})
	var out []cluster.Event
	early := func(k Key) bool { return rank(k.Kind) <= rank(KindNetworkPolicy) }
	// Groups first and silently: what they and the policies say together is told once, and never of an old policy with
	// the new groups of its successor.
	concerned := map[Key]bool{}
	for _, o := range puts {
		if isGroup(o.Key) {
			a.concern(concerned, o.Key, o)
		}
	}
	gone := map[Key]bool{}
	for _, k := range removals {
		if gone[k] = true; isGroup(k) {
			a.concern(concerned, k, Object{})
		}
	}
	for _, o := range puts {
		if early(o.Key) && !isGroup(o.Key) {
			out = append(out, a.Put(o)...)
		}
	}
	for k := range concerned {
		if gone[k] {
			delete(concerned, k)
		}
	}
	out = append(out, a.resolve(slices.SortedFunc(maps.Keys(concerned), Key.Compare))...)
	for _, k := range removals {
		if !early(k) {
			out = append(out, a.Remove(k)...)
		}
	}
	for _, o := range puts {
		if !early(o.Key) {
			out = append(out, a.Put(o)...)
		}
	}
	for _, k := range removals {
		if early(k) && !isGroup(k) {
			out = append(out, a.Remove(k)...)
		}
	}
	return out
}

// concern notes the policies that a group's change may concern.
func (a *Assembler) concern(policies map[Key]bool, k Key, now Object) {
	for _, k := range a.group(k, now) {
		policies[k] = true
	}
}

// SortForApply orders objects so that what others refer to comes first: nodes, namespaces,
// identities and CIDR groups, then policies, then pods and endpoints, then backends, then services; within a kind by
// name. A pod is thus never known before the policies that restrict it.
func SortForApply(objects []Object) {
	sortSlice(objects, func(a, b Object) bool {
		if ra, rb := rank(a.Kind), rank(b.Kind); ra != rb {
			return ra < rb
		}
		return a.Key.Less(b.Key)
	})
}

func rank(kind string) int {
	switch kind {
	case KindNode, KindCiliumNode:
		return 0
	case KindNamespace:
		return 1
	case KindCiliumIdentity, KindCiliumCIDRGroup:
		return 2
	case KindNetworkPolicy, KindCiliumNetworkPolicy, KindCiliumClusterwideNetworkPolicy, KindClusterNetworkPolicy,
		KindAdminNetworkPolicy, KindBaselineAdminNetworkPolicy:
		return 3
	case KindPod:
		return 4
	case KindCiliumEndpoint, KindCiliumEndpointSlice:
		return 5
	case KindEndpointSlice:
		return 6
	}
	return 7 // services: after their backends
}
