package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// EndpointState is an endpoint of this node as the engine sees it.
type EndpointState struct {
	ID              datapath.EndpointID
	Pod             cluster.Name
	IPs             []netip.Addr
	Identity        identity.ID // Unknown: still being found out
	Labels          labels.Set
	Ports           []policy.NamedPort
	Policy          datapath.PolicyID
	Ingress, Egress bool // whether unmatched traffic is denied
	PodKnown        bool
}

// Endpoint describes one endpoint of this node.
func (e *Engine) Endpoint(id datapath.EndpointID) (EndpointState, bool) {
	ep, ok := e.local[id]
	if !ok {
		return EndpointState{}, false
	}
	_, podKnown := e.pods[ep.pod]
	s := EndpointState{
		ID: id, Pod: ep.pod, IPs: ep.IPs, Identity: ep.identity, Labels: ep.labels, Ports: ep.ports,
		Policy: e.compiler.PolicyOf(id), PodKnown: podKnown,
	}
	s.Ingress, s.Egress = e.compiler.Enforced(id)
	return s, true
}

// HasPod says whether the cluster has a pod of that name.
func (e *Engine) HasPod(n cluster.Name) bool {
	_, ok := e.pods[n]
	return ok
}

// Endpoints describes all endpoints of this node, by id.
func (e *Engine) Endpoints() []EndpointState {
	out := make([]EndpointState, 0, len(e.local))
	for _, id := range sortedKeys(e.local) {
		s, _ := e.Endpoint(id)
		out = append(out, s)
	}
	return out
}

// IdentityState is an identity that the engine knows, with the addresses that have it.
type IdentityState struct {
	identity.Identity
	Class    datapath.Class
	RefCount int
}

// Identities lists the known identities by number.
func (e *Engine) Identities() []IdentityState {
	refs := map[identity.ID]int{}
	for _, row := range e.addresses.written {
		refs[row.Identity]++
	}
	var out []IdentityState
	add := func(i identity.Identity) {
		out = append(out, IdentityState{i, e.compiler.ClassOf(i.ID), refs[i.ID]})
	}
	for _, i := range identity.Reserved() {
		add(e.reserved(i.ID))
	}
	for _, id := range sortedKeys(e.identities.byID) {
		if k := e.identities.byID[id]; k.labels.Len() > 0 {
			add(identity.Identity{ID: id, Labels: k.labels})
		}
	}
	for p, c := range e.addresses.prefixes {
		add(e.prefixIdentity(c.id, p))
	}
	slices.SortFunc(out, func(a, b IdentityState) int { return int(a.ID) - int(b.ID) })
	return out
}

// LabelsOf returns the labels of an identity, reserved and node-local ones included.
func (e *Engine) LabelsOf(id identity.ID) (labels.Set, bool) {
	if id.IsReserved() {
		return e.reserved(id).Labels, true
	}
	if k, ok := e.identities.byID[id]; ok && k.labels.Len() > 0 {
		return k.labels, true
	}
	if p, ok := e.addresses.prefixOf[id]; ok {
		return e.prefixIdentity(id, p).Labels, true
	}
	return labels.Set{}, false
}

// LabelTexts is LabelsOf in the form that flows have. The list is shared: it must not be changed.
func (e *Engine) LabelTexts(id identity.ID) ([]string, bool) {
	if texts, ok := e.labelTexts[id]; ok {
		return texts, texts != nil
	}
	ls, ok := e.LabelsOf(id)
	var texts []string
	if ok {
		texts = ls.Strings()
	}
	e.labelTexts[id] = texts
	return texts, ok
}

// PodAt names the pod that has an address now.
func (e *Engine) PodAt(ip netip.Addr) (cluster.Name, bool) {
	if id, ok := e.addresses.local[ip]; ok {
		return e.local[id].pod, true
	}
	if cs := e.addresses.claims[ip]; len(cs) > 0 {
		return cs[len(cs)-1].Name, true
	}
	return cluster.Name{}, false
}

// IdentityAt is the identity that an address has in the ipcache.
func (e *Engine) IdentityAt(ip netip.Addr) (identity.ID, bool) {
	row, ok := e.addresses.written[netip.PrefixFrom(ip, ip.BitLen())]
	return row.Identity, ok
}

// ServiceAt names the service that has a frontend. For a port of a node's address that is its node port or, at
// this node, the pod whose host port it is.
func (e *Engine) ServiceAt(k datapath.ServiceKey) (lb.Name, bool) {
	n, ok := e.services.ServiceAt(k)
	node, known := e.addresses.node[k.Addr]
	if ok || !known {
		return n, ok
	}
	if k.Addr.Is4() {
		k.Addr = netip.IPv4Unspecified()
	} else {
		k.Addr = netip.IPv6Unspecified()
	}
	if n, ok = e.services.ServiceAt(k); ok && node != e.node && isHostPort(n) {
		return lb.Name{}, false
	}
	return n, ok
}

// Rule says what a cookie stands for.
func (e *Engine) Rule(c datapath.Cookie) (policy.Verdict, bool) { return e.compiler.Rule(c) }

// Frontends describes the services.
func (e *Engine) Frontends() []lb.FrontendState { return e.services.Frontends() }

// Nodes lists the nodes by name.
func (e *Engine) Nodes() []cluster.Node {
	out := make([]cluster.Node, 0, len(e.nodes))
	for _, n := range sortedKeys(e.nodes) {
		out = append(out, e.nodes[n])
	}
	return out
}

// Policies lists the policy objects in force, by name, with the revision of the set.
func (e *Engine) Policies() ([]policy.Policy, uint64) {
	out := make([]policy.Policy, 0, len(e.policies))
	for _, r := range e.policyRefs() {
		out = append(out, e.policies[r])
	}
	return out, e.revision
}

// Revision counts the changes of the set of policies.
func (e *Engine) Revision() uint64 { return e.revision }

// Problems says what could not take effect: text by policy.
func (e *Engine) Problems() []string {
	var out []string
	for ref, p := range e.problems {
		out = append(out, ref.String()+": "+p)
	}
	for ip, p := range e.apiProblems {
		out = append(out, "API server "+ip.String()+": "+p)
	}
	for _, c := range e.services.Conflicts() {
		out = append(out, c.String())
	}
	slices.Sort(out)
	return out
}
