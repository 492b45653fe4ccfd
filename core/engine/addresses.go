package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// addresses knows who claims an address. An address belongs to, in this order: a local endpoint, a
// node, the endpoint of another node that claimed it last, a device of this node, or a prefix of a CIDR rule.
type addresses struct {
	local map[netip.Addr]datapath.EndpointID
	node  map[netip.Addr]string
	// remote are the other nodes' endpoints, of which there may be tens of thousands: each is kept once, at one place
	// from its first to its last day, to which the maps by node and address point.
	remote   map[cluster.Name]*cluster.Endpoint
	byNode   map[string][]*cluster.Endpoint
	claims   map[netip.Addr][]*cluster.Endpoint // in order of arrival
	prefixes map[netip.Prefix]prefix
	prefixOf map[identity.ID]netip.Prefix // of prefixes
	written  map[netip.Prefix]datapath.IPCache
}

// prefix is the node-local identity of a prefix that CIDR rules name.
type prefix struct {
	id   identity.ID
	refs int
}

func newAddresses() *addresses {
	return &addresses{
		local:    map[netip.Addr]datapath.EndpointID{},
		node:     map[netip.Addr]string{},
		remote:   map[cluster.Name]*cluster.Endpoint{},
		byNode:   map[string][]*cluster.Endpoint{},
		claims:   map[netip.Addr][]*cluster.Endpoint{},
		prefixes: map[netip.Prefix]prefix{},
		prefixOf: map[identity.ID]netip.Prefix{},
		written:  map[netip.Prefix]datapath.IPCache{},
	}
}

// all returns every claimed address, sorted.
func (a *addresses) all() []netip.Addr {
	set := map[netip.Addr]bool{}
	for ip := range a.local {
		set[ip] = true
	}
	for ip := range a.node {
		set[ip] = true
	}
	for ip := range a.claims {
		set[ip] = true
	}
	out := make([]netip.Addr, 0, len(set))
	for ip := range set {
		out = append(out, ip)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (a *addresses) sortedPrefixes() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(a.prefixes))
	for p := range a.prefixes {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// onNode lists the endpoints that a node published, sorted by name.
func (a *addresses) onNode(node string) []*cluster.Endpoint {
	return slices.SortedFunc(slices.Values(a.byNode[node]), func(x, y *cluster.Endpoint) int {
		return cmp.Compare(x.Name.String(), y.Name.String())
	})
}

func (a *addresses) claim(ip netip.Addr, by *cluster.Endpoint) {
	a.unclaim(ip, by)
	a.claims[ip] = append(a.claims[ip], by)
}

func (a *addresses) unclaim(ip netip.Addr, by *cluster.Endpoint) { withdraw(a.claims, ip, by) }

// withdraw takes an endpoint from one of several lists, and the list away when it is empty.
func withdraw[K comparable](lists map[K][]*cluster.Endpoint, k K, ep *cluster.Endpoint) {
	i := slices.Index(lists[k], ep)
	switch {
	case i < 0:
	case len(lists[k]) == 1:
		delete(lists, k)
	default:
		lists[k] = slices.Delete(lists[k], i, i+1)
	}
}

// upsertRemote takes what another node published about an endpoint. Our own publications come back
// this way too; the local attachment is the truth then. One that names its node by address alone (so do
// slices of endpoints) belongs to the node that has the address.
func (e *Engine) upsertRemote(ep cluster.Endpoint) {
	if ep.Node == "" {
		ep.Node = e.addresses.node[ep.NodeIP]
	}
	if ep.Node == e.node {
		e.deleteRemote(ep.Name)
		return
	}
	a := e.addresses
	kept, known := a.remote[ep.Name]
	if !known {
		kept = new(cluster.Endpoint)
		a.remote[ep.Name] = kept
	}
	old := *kept
	*kept = ep
	if known && old.Node != ep.Node {
		withdraw(a.byNode, old.Node, kept)
	}
	if !known || old.Node != ep.Node {
		a.byNode[ep.Node] = append(a.byNode[ep.Node], kept)
	}
	// The new identity's ports come first, so that an identity in use is never without them.
	e.useIdentity(ep.Identity, user{pod: ep.Name}, ep.Ports)
	for _, ip := range ep.IPs {
		if !known || !slices.Contains(old.IPs, ip) {
			a.claim(ip, kept)
		}
		e.emitAddress(ip)
	}
	if known {
		for _, ip := range old.IPs {
			if !slices.Contains(ep.IPs, ip) {
				a.unclaim(ip, kept)
				e.emitAddress(ip)
			}
		}
		if old.Identity != ep.Identity {
			e.releaseIdentity(old.Identity, user{pod: ep.Name})
		}
	}
}

func (e *Engine) deleteRemote(name cluster.Name) {
	a := e.addresses
	old, ok := a.remote[name]
	if !ok {
		return
	}
	delete(a.remote, name)
	withdraw(a.byNode, old.Node, old)
	for _, ip := range old.IPs {
		a.unclaim(ip, old)
		e.emitAddress(ip)
	}
	e.releaseIdentity(old.Identity, user{pod: name})
}

// emitAddress brings the ipcache row of one address up to date, and says whether it is this node's.
func (e *Engine) emitAddress(ip netip.Addr) {
	e.emitOwn(ip)
	e.emitPrefix(netip.PrefixFrom(ip, ip.BitLen()))
	e.dropOwn(ip)
}

// emitPrefix writes or removes one ipcache row if it is not as it should be. Flows with an address
// whose meaning changed are judged anew.
func (e *Engine) emitPrefix(p netip.Prefix) {
	if !e.live {
		return
	}
	want, ok := e.wantIPCache(p)
	had, written := e.addresses.written[p]
	switch {
	case ok && written && want == had, !ok && !written:
		return
	case ok:
		e.addresses.written[p] = want
		e.put(IPCache, p, want)
	default:
		delete(e.addresses.written, p)
		e.remove(IPCache, p)
	}
	if p.IsSingleIP() {
		e.put(AddrEpoch, p.Addr(), nil)
	}
}

func (e *Engine) wantIPCache(p netip.Prefix) (datapath.IPCache, bool) {
	a := e.addresses
	if p.IsSingleIP() {
		ip := p.Addr()
		if id, ok := a.local[ip]; ok {
			if ep := e.local[id]; ep != nil && ep.identity != identity.Unknown {
				return datapath.IPCache{Identity: ep.identity}, true
			}
			return datapath.IPCache{}, false
		}
		if name, ok := a.node[ip]; ok {
			if name == e.node {
				return datapath.IPCache{Identity: identity.Host}, true
			}
			row := datapath.IPCache{Identity: identity.RemoteNode}
			if e.apiServers.On(e.nodes[name]) {
				row.Identity = identity.KubeAPIServer
			}
			if e.routing == Tunnel {
				row.Tunnel = e.tunnelTo(name, netip.Addr{})
			}
			return row, true
		}
		// The latest claim whose identity is known. One whose identity is not known yet has no row:
		// its traffic counts as the world's until it is.
		if cs := a.claims[ip]; len(cs) > 0 {
			ep := cs[len(cs)-1]
			if !e.identities.known(ep.Identity) {
				return datapath.IPCache{}, false
			}
			row := datapath.IPCache{Identity: ep.Identity}
			switch e.routing {
			case Tunnel:
				row.Tunnel = e.tunnelTo(ep.Node, ep.NodeIP)
			case Direct:
				row.NextHop = e.neighbour(ep.Node, ip.Is4())
			}
			return row, true
		}
		if e.onDevices[ip] {
			return datapath.IPCache{Identity: identity.Host}, true
		}
	}
	if c, ok := a.prefixes[p]; ok {
		return datapath.IPCache{Identity: c.id}, true
	}
	return datapath.IPCache{}, false
}

// neighbour is the address of a node in a family; invalid if it has none, or is not known yet: then the stack
// finds the way to its pods, or does not.
func (e *Engine) neighbour(node string, v4 bool) netip.Addr {
	for _, a := range e.nodes[node].Addresses {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// tunnelTo is the underlay address of a node; announced is what an endpoint says, for nodes that are
// not known yet.
func (e *Engine) tunnelTo(node string, announced netip.Addr) netip.Addr {
	if n, ok := e.nodes[node]; ok && len(n.Addresses) > 0 {
		return n.Addresses[0]
	}
	return announced
}
