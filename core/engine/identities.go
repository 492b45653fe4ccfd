package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// identities are those that the cluster allocated, with who on this node's horizon uses them.
type identities struct {
	byID  map[identity.ID]*known
	byKey map[string]identity.ID
	asked map[string]bool
	local *identity.Pool // numbers of prefixes
}

// known is one identity: its labels, and its users with the named ports they declare. A deleted
// identity stays as long as it has users.
type known struct {
	labels  labels.Set
	defined bool // the cluster has it
	users   map[user][]policy.NamedPort
	ports   map[policy.NamedPort]int
}

// user is an endpoint that has an identity. A pod that moves here from another node is two for a
// while: the local attachment, and what its former node published.
type user struct {
	pod   cluster.Name
	local bool
}

func newIdentities() *identities {
	return &identities{
		byID:  map[identity.ID]*known{},
		byKey: map[string]identity.ID{},
		asked: map[string]bool{},
		local: identity.NewPool(identity.MinLocal, identity.MaxLocal, LocalQuarantine),
	}
}

func (i *identities) known(id identity.ID) bool {
	k, ok := i.byID[id]
	return id.IsReserved() || ok && k.labels.Len() > 0
}

func (i *identities) entry(id identity.ID) *known {
	k := i.byID[id]
	if k == nil {
		k = &known{users: map[user][]policy.NamedPort{}, ports: map[policy.NamedPort]int{}}
		i.byID[id] = k
	}
	return k
}

// learnIdentity takes an identity's labels. What waited for them goes on.
func (e *Engine) learnIdentity(id identity.ID, ls labels.Set) {
	if id.IsReserved() {
		return
	}
	k := e.identities.entry(id)
	delete(e.identities.asked, ls.Key())
	if k.defined && k.labels.Key() == ls.Key() {
		e.assignWaiting(ls)
		return
	}
	if k.labels.Len() > 0 && k.labels.Key() != ls.Key() && e.identities.byKey[k.labels.Key()] == id {
		delete(e.identities.byKey, k.labels.Key())
	}
	k.labels, k.defined = ls, true
	// Of two numbers for the same labels the smaller one counts, on every node alike.
	if cur, ok := e.identities.byKey[ls.Key()]; !ok || id < cur {
		e.identities.byKey[ls.Key()] = id
	}
	e.compiler.UpsertIdentity(identity.Identity{ID: id, Labels: ls}, portList(k.ports))
	e.flushPolicy()
	for _, u := range sortedUsers(k.users) {
		if !u.local {
			if ep := e.addresses.remote[u.pod]; ep != nil {
				for _, ip := range ep.IPs {
					e.emitAddress(ip)
				}
			}
		}
	}
	e.assignWaiting(ls)
}

// assignWaiting gives the identity of a set of labels to the endpoints that have them.
func (e *Engine) assignWaiting(ls labels.Set) {
	for _, id := range sortedKeys(e.local) {
		if ep := e.local[id]; ep.wanted == ls.Key() {
			e.resolve(ep)
		}
	}
}

// forgetIdentity takes an identity out when its last user is gone. One that a local endpoint needs
// is asked for again.
func (e *Engine) forgetIdentity(id identity.ID) {
	k, ok := e.identities.byID[id]
	if !ok {
		return
	}
	k.defined = false
	if e.identities.byKey[k.labels.Key()] == id {
		delete(e.identities.byKey, k.labels.Key())
	}
	e.dropUnused(id)
	for _, epID := range sortedKeys(e.local) {
		if ep := e.local[epID]; ep.identity == id {
			e.ask(ep.labels)
		}
	}
}

// useIdentity notes that an endpoint has an identity and declares ports.
func (e *Engine) useIdentity(id identity.ID, u user, ports []policy.NamedPort) {
	if id == identity.Unknown || id.IsReserved() {
		return
	}
	k := e.identities.entry(id)
	changed := false
	for _, p := range ports {
		if p.Name == "" {
			continue
		}
		k.ports[p]++
		changed = changed || k.ports[p] == 1
	}
	changed = e.subtractPorts(k, u) || changed
	k.users[u] = slices.Clone(ports)
	if changed && k.labels.Len() > 0 {
		e.compiler.UpsertIdentity(identity.Identity{ID: id, Labels: k.labels}, portList(k.ports))
		e.flushPolicy()
	}
}

func (e *Engine) releaseIdentity(id identity.ID, u user) {
	k, ok := e.identities.byID[id]
	if !ok {
		return
	}
	changed := e.subtractPorts(k, u)
	delete(k.users, u)
	if changed && k.labels.Len() > 0 {
		e.compiler.UpsertIdentity(identity.Identity{ID: id, Labels: k.labels}, portList(k.ports))
		e.flushPolicy()
	}
	e.dropUnused(id)
}

func (e *Engine) subtractPorts(k *known, u user) (changed bool) {
	for _, p := range k.users[u] {
		if p.Name == "" {
			continue
		}
		if k.ports[p]--; k.ports[p] == 0 {
			delete(k.ports, p)
			changed = true
		}
	}
	return changed
}

func (e *Engine) dropUnused(id identity.ID) {
	k := e.identities.byID[id]
	if k.defined || len(k.users) > 0 {
		return
	}
	delete(e.identities.byID, id)
	e.compiler.DeleteIdentity(id)
	e.flushPolicy()
}

// ask requests the identity of a set of labels, once until it is answered.
func (e *Engine) ask(ls labels.Set) {
	if !e.identities.asked[ls.Key()] {
		e.identities.asked[ls.Key()] = true
		e.put(Identity, ls.Key(), ls)
	}
}

func portList(m map[policy.NamedPort]int) []policy.NamedPort {
	out := make([]policy.NamedPort, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, policy.NamedPort.Compare)
	return out
}

func sortedUsers(m map[user][]policy.NamedPort) []user {
	return slices.SortedFunc(maps.Keys(m), func(a, b user) int {
		return cmp.Or(cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name))
	})
}
