package differential_test

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// rowFor is the row of services that a destination may mean; wildcard: it counts only if it is a node's address.
func rowFor(k *kernel.Kernel, dst netip.AddrPort, proto uint8) (key datapath.ServiceKey, wildcard bool) {
	key = datapath.ServiceKey{Addr: dst.Addr(), Port: dst.Port(), Proto: proto}
	if _, err := k.Tables().Services.Get(key); err == nil && !dst.Addr().IsUnspecified() {
		return key, false
	}
	key.Addr = netip.IPv6Unspecified()
	if dst.Addr().Is4() {
		key.Addr = netip.IPv4Unspecified()
	}
	return key, true
}

// countWildcard counts calls to ports that are a service's at every address of a node, by whose address it was.
func (s *sockets) countWildcard(x *socket, k *kernel.Kernel, dst netip.AddrPort, service datapath.Service, taken bool, seen *tally) {
	whose := "somebody's"
	if ep, err := k.Tables().Endpoints.Get(dst.Addr()); err == nil && ep.Host {
		whose = "this node's"
	} else if _, err := k.Tables().Nodes.Get(dst.Addr()); err == nil {
		whose = "another node's"
	}
	switch {
	case dst.Addr().IsUnspecified():
		whose = "unspecified"
	case dst.Addr().IsLoopback():
		whose = "loopback"
	}
	if dst.Addr().IsUnspecified() || dst.Addr().IsLoopback() {
		whose += map[bool]string{true: " at home", false: " elsewhere"}[x.fake.Netns == nodeNetns]
	}
	seen.counts[fmt.Sprintf("node port, %s, local %v, taken %v", whose, service.Local, taken)]++
}

// nodeNetns is how the fake calls the namespace of the first client, which is the node's own.
const nodeNetns = 1

// chosen is the slot, counted from 0, that leads to a backend, or to none.
func chosen(k *kernel.Kernel, frontend datapath.ServiceKey, real netip.AddrPort) uint32 {
	service, err := k.Tables().Services.Get(frontend)
	if err != nil {
		return 0
	}
	for n := range service.Count {
		var to netip.AddrPort
		if id, err := k.Tables().Slots.Get(datapath.SlotKey{Service: service.ID, Slot: n + 1}); err == nil {
			if b, err := k.Tables().Backends.Get(id); err == nil && b.Addr.Is4() == frontend.Addr.Is4() {
				to = netip.AddrPortFrom(b.Addr, b.Port)
			}
		}
		if to == real {
			return n
		}
	}
	return 0
}
