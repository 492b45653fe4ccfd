package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// The node's own addresses are those of its description, and those that its devices have besides. Of the latter
// the cluster knows nothing: what it says of one, that it is a pod's or another node's, goes first.

// takeDeviceAddresses takes all addresses of the devices that lead to the network.
func (e *Engine) takeDeviceAddresses(now []netip.Addr) {
	before := e.onDevices
	e.onDevices = map[netip.Addr]bool{}
	for _, a := range now {
		e.onDevices[a] = true
	}
	for _, a := range sortedAddresses(e.onDevices) { // the new ones first
		if !before[a] {
			e.emitAddress(a)
			e.holdAPIServer(a)
		}
	}
	for _, a := range sortedAddresses(before) {
		if !e.onDevices[a] {
			e.holdAPIServer(a)
			e.emitAddress(a)
		}
	}
	e.relabelHost()
}

// isOwn says whether an address is this node's.
func (e *Engine) isOwn(a netip.Addr) bool {
	if _, ok := e.addresses.local[a]; ok {
		return false
	}
	if name, ok := e.addresses.node[a]; ok {
		return name == e.node
	}
	return e.onDevices[a] && len(e.addresses.claims[a]) == 0
}

// onNode says whether an address is a node's, this one included.
func (e *Engine) onNode(a netip.Addr) bool {
	_, ok := e.addresses.node[a]
	return ok || e.isOwn(a)
}

// emitOwn writes the endpoints row of an address of this node, if it is one.
func (e *Engine) emitOwn(a netip.Addr) {
	if e.live && !e.ownWritten[a] && e.isOwn(a) {
		e.ownWritten[a] = true
		e.put(Endpoints, a, datapath.Endpoint{Identity: identity.Host, Host: true})
	}
}

// dropOwn takes the row back when the address is this node's no more. That of a pod which has the address now takes its place.
func (e *Engine) dropOwn(a netip.Addr) {
	if !e.ownWritten[a] || e.isOwn(a) {
		return
	}
	delete(e.ownWritten, a)
	if _, ok := e.addresses.local[a]; !ok {
		e.remove(Endpoints, a)
	}
}

// ownAddresses are all addresses of this node, in an order of their own.
func (e *Engine) ownAddresses() []netip.Addr {
	out := nodeAddresses(e.nodes[e.node])
	for _, a := range sortedAddresses(e.onDevices) {
		if !slices.Contains(out, a) && e.isOwn(a) {
			out = append(out, a)
		}
	}
	return out
}

func sortedAddresses(set map[netip.Addr]bool) []netip.Addr {
	out := make([]netip.Addr, 0, len(set))
	for a := range set {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
