package cluster

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/lb"
)

// APIServerService is the service whose backends are the cluster's API servers. Kubernetes keeps its
// EndpointSlices.
var APIServerService = lb.Name{Namespace: "default", Name: "kubernetes"}

// APIServers are the addresses of the cluster's API servers. The zero value knows none. It has one caller.
type APIServers struct {
	slices map[string][]netip.Addr // by the name of the slice that says so
}

// Apply takes in an event and says whether the addresses may have changed. Events that are not about
// APIServerService are ignored.
func (a *APIServers) Apply(e Event) bool {
	switch e := e.(type) {
	case BackendsUpsert:
		if e.Slice.Service != APIServerService {
			return false
		}
		var addrs []netip.Addr
		for _, b := range e.Slice.Backends {
			addrs = append(addrs, b.Addr)
		}
		if slices.Equal(addrs, a.slices[e.Slice.Name]) {
			return false
		}
		if a.slices == nil {
			a.slices = map[string][]netip.Addr{}
		}
		a.slices[e.Slice.Name] = addrs
		return true
	case BackendsDelete:
		if e.Service != APIServerService || len(a.slices[e.Slice]) == 0 {
			return false
		}
		delete(a.slices, e.Slice)
		return true
	}
	return false
}

// Has says whether an API server has the address.
func (a *APIServers) Has(ip netip.Addr) bool {
	for _, addrs := range a.slices {
		if slices.Contains(addrs, ip) {
			return true
		}
	}
	return false
}

// On says whether an API server runs on the node: whether it has one of the node's addresses. Policies then
// judge the whole node as kube-apiserver, by whichever of its addresses it is met.
func (a *APIServers) On(n Node) bool {
	return slices.ContainsFunc(n.Addresses, a.Has) || slices.ContainsFunc(n.Routers, a.Has)
}

// Addresses lists the addresses, each once, sorted.
func (a *APIServers) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, addrs := range a.slices {
		out = append(out, addrs...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
