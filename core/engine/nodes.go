package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
)

// zoneLabel names the zone that a node is in.
const zoneLabel = "topology.kubernetes.io/zone"

// upsertNode takes a node's description. The kernel's view of a node is its addresses (host or
// remote-node), whether it may tunnel to us, and the routes to its pods.
func (e *Engine) upsertNode(n cluster.Node) {
	old, known := e.nodes[n.Name]
	e.nodes[n.Name] = n
	if known {
		for _, a := range nodeAddresses(old) {
			if !slices.Contains(nodeAddresses(n), a) {
				e.dropNodeAddress(old, a)
			}
		}
	}
	e.emitNode(n)
	if n.Name == e.node {
		e.services.SetZone(n.Labels[zoneLabel])
		e.flushServices()
	}
	e.relabelHost()
	for _, ep := range e.addresses.onNode("") {
		if slices.Contains(n.Addresses, ep.NodeIP) {
			e.upsertRemote(*ep) // now it is known whose it is
		}
	}
	if !known || !slices.Equal(old.Addresses, n.Addresses) {
		for _, ep := range e.addresses.onNode(n.Name) {
			for _, ip := range ep.IPs {
				e.emitAddress(ip)
			}
		}
	}
	e.emitRoutes()
}

func (e *Engine) deleteNode(name string) {
	n, ok := e.nodes[name]
	if !ok {
		return
	}
	delete(e.nodes, name)
	if name == e.node {
		e.services.SetZone("")
		e.flushServices()
	}
	e.emitRoutes()
	for _, a := range nodeAddresses(n) {
		e.dropNodeAddress(n, a)
	}
	e.relabelHost()
	for _, ep := range e.addresses.onNode(name) {
		for _, ip := range ep.IPs {
			e.emitAddress(ip)
		}
	}
}

// nodeAddresses are all addresses of the machine, those in the pod range included.
func nodeAddresses(n cluster.Node) []netip.Addr {
	out := make([]netip.Addr, 0, len(n.Addresses)+len(n.Routers))
	out = append(out, n.Addresses...)
	return append(out, n.Routers...)
}

// emitNode writes the rows of a node. Where pods are tunnelled to, so are nodes: both directions then take
// the same way and no address is translated.
func (e *Engine) emitNode(n cluster.Node) {
	for _, a := range nodeAddresses(n) {
		e.addresses.node[a] = n.Name
		e.emitAddress(a)
		e.holdAPIServer(a)
	}
	if n.Name == e.node {
		return
	}
	for _, a := range n.Addresses {
		e.put(Nodes, a, datapath.Node{ID: uint16(datapath.AddrBucket(a)) + 1})
	}
}

func (e *Engine) dropNodeAddress(n cluster.Node, a netip.Addr) {
	if e.addresses.node[a] != n.Name {
		return // another node took the address over
	}
	delete(e.addresses.node, a)
	e.holdAPIServer(a)
	e.emitAddress(a)
	if n.Name != e.node && slices.Contains(n.Addresses, a) {
		e.remove(Nodes, a)
	}
}

// emitRoutes writes the routes to the other nodes' pods when they changed.
func (e *Engine) emitRoutes() {
	if !e.live {
		return
	}
	self := e.nodes[e.node]
	routes := []Route{}
	for _, name := range sortedKeys(e.nodes) {
		n := e.nodes[name]
		if name == e.node || len(n.Addresses) == 0 || e.routing == Native {
			continue
		}
		for _, p := range n.PodCIDRs {
			if e.routing == Direct {
				if via := e.neighbour(name, p.Addr().Is4()); via.IsValid() {
					routes = append(routes, Route{Prefix: p, Via: via})
				}
				continue
			}
			for _, r := range self.Routers {
				if r.Is4() == p.Addr().Is4() {
					routes = append(routes, Route{Prefix: p, Source: r})
					break
				}
			}
		}
	}
	if e.routes == nil || !slices.Equal(routes, e.routes) {
		e.routes = routes
		e.put(Routes, nil, routes)
	}
}
