package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
)

// API servers are known by their addresses, and policies may name them (entity kube-apiserver). Where an API
// server is decides what its identity is besides:
//
//   - on this node: host;
//   - on another node: kube-apiserver, which is a remote node as well;
//   - outside the cluster: the node-local identity of its address, which is a part of the world and of the CIDRs
//     around it as well. A pod's address stays the pod's.

// takeAPIServers takes in news of the backends of the service that stands for the API servers.
func (e *Engine) takeAPIServers(ev cluster.Event) {
	before := e.apiServers.Addresses()
	if !e.apiServers.Apply(ev) {
		return
	}
	after := e.apiServers.Addresses()
	var changed []netip.Addr
	for _, ip := range after { // the new ones first
		if !slices.Contains(before, ip) {
			changed = append(changed, ip)
		}
	}
	for _, ip := range before {
		if !slices.Contains(after, ip) {
			changed = append(changed, ip)
		}
	}
	for _, ip := range changed {
		name, isNode := e.addresses.node[ip]
		e.holdAPIServer(ip)
		if isNode && name != e.node {
			for _, a := range nodeAddresses(e.nodes[name]) {
				e.emitAddress(a)
			}
		}
	}
	e.relabelHost()
}

// holdAPIServer gives an API server outside the cluster an identity of its own, or takes it back.
func (e *Engine) holdAPIServer(ip netip.Addr) {
	p := netip.PrefixFrom(ip, ip.BitLen())
	want, held := e.apiServers.Has(ip) && !e.onNode(ip), e.apiHeld[ip]
	if want == held {
		return
	}
	if !want {
		delete(e.apiHeld, ip)
		delete(e.apiProblems, ip)
		e.dropPrefixes([]netip.Prefix{p})
		e.relabelPrefix(p)
		return
	}
	e.apiHeld[ip] = true
	fresh, err := e.usePrefixes([]netip.Prefix{p})
	if err != nil { // it stays what it was: a part of the world
		delete(e.apiHeld, ip)
		e.apiProblems[ip] = err.Error()
		return
	}
	delete(e.apiProblems, ip)
	if len(fresh) == 0 {
		e.relabelPrefix(p)
		return
	}
	e.flushPolicy()
	e.emitPrefix(p)
}

// relabelPrefix tells the policies what the identity of an address that CIDR rules name, too, has become.
func (e *Engine) relabelPrefix(p netip.Prefix) {
	c, ok := e.addresses.prefixes[p]
	if !ok {
		return
	}
	e.compiler.UpsertIdentity(e.prefixIdentity(c.id, p), nil)
	e.flushPolicy()
	e.put(AddrEpoch, p.Addr(), nil)
}

// relabelHost tells the policies whether this node serves the API.
func (e *Engine) relabelHost() {
	if now := slices.ContainsFunc(e.ownAddresses(), e.apiServers.Has); now == e.hostServes {
		return
	}
	e.hostServes = !e.hostServes
	e.compiler.UpsertIdentity(e.reserved(identity.Host), nil)
	e.flushPolicy()
	for _, a := range e.ownAddresses() {
		e.put(AddrEpoch, a, nil)
	}
}

// reserved describes a reserved identity as it is on this node.
func (e *Engine) reserved(id identity.ID) identity.Identity {
	i := identity.ReservedIdentity(id)
	if id == identity.Host && e.hostServes {
		return i.ServingAPI()
	}
	return i
}

// prefixIdentity describes the identity of a prefix.
func (e *Engine) prefixIdentity(id identity.ID, p netip.Prefix) identity.Identity {
	i := identity.ForPrefix(id, p)
	if p.IsSingleIP() && e.apiHeld[p.Addr()] {
		return i.ServingAPI()
	}
	return i
}
