package ebpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

func addrKey(a netip.Addr) (rawAddr, error) {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return rawAddr{}, fmt.Errorf("address %q: an IPv4 address, or an IPv6 one without zone and "+
			"outside ::ffff:0:0/96, is needed", a)
	}
	return newAddr(a), nil
}

// optionalAddr maps the invalid address to zero.
func optionalAddr(a netip.Addr) (rawAddr, error) {
	if !a.IsValid() {
		return rawAddr{}, nil
	}
	return addrKey(a)
}

func plain[K any](k K) (K, error) { return k, nil }

func endpointTable(m *ebpf.Map) ports.Table[netip.Addr, datapath.Endpoint] {
	return &mapTable[netip.Addr, datapath.Endpoint, rawAddr, rawEndpoint]{
		name: mapEndpoints, m: m, key: addrKey,
		value: func(_ netip.Addr, e datapath.Endpoint) (rawEndpoint, error) {
			r := rawEndpoint{
				ID: uint16(e.ID), Identity: uint32(e.Identity), Ifindex: e.Ifindex,
				Mac: e.MAC, NodeMac: e.NodeMAC,
			}
			if e.Host {
				r.Flags = endpointHost
			} else if e.ID == 0 {
				return r, fmt.Errorf("id 0 is for the node's own addresses; a pod's is 1 to 65535")
			}
			return r, nil
		},
		row: func(k rawAddr, r rawEndpoint) (netip.Addr, datapath.Endpoint) {
			return k.any(), datapath.Endpoint{
				ID: datapath.EndpointID(r.ID), Identity: identity.ID(r.Identity), Ifindex: r.Ifindex,
				MAC: r.Mac, NodeMAC: r.NodeMac, Host: r.Flags&endpointHost != 0,
			}
		},
	}
}

func ipcacheKey(p netip.Prefix) (rawIPCacheKey, error) {
	if !p.IsValid() || p.Addr().Is4In6() {
		return rawIPCacheKey{}, fmt.Errorf("prefix %q: an IPv4 prefix, or an IPv6 one that is not of "+
			"IPv4-mapped addresses, is needed", p)
	}
	p = p.Masked()
	k := rawIPCacheKey{PrefixBits: uint32(p.Bits()), Addr: newAddr(p.Addr())}
	if p.Addr().Is4() {
		k.PrefixBits += 96
	}
	return k, nil
}

func ipcacheTable(m *ebpf.Map) ports.Table[netip.Prefix, datapath.IPCache] {
	return &mapTable[netip.Prefix, datapath.IPCache, rawIPCacheKey, rawIPCache]{
		name: mapIPCache, m: m, key: ipcacheKey,
		value: func(p netip.Prefix, c datapath.IPCache) (rawIPCache, error) {
			tunnel, err := optionalAddr(c.Tunnel)
			k, _ := ipcacheKey(p)
			direct := uint8(0)
			if c.NextHop.IsValid() {
				if err := c.CheckNextHop(p); err != nil {
					return rawIPCache{}, err
				}
				tunnel, direct = newAddr(c.NextHop), 1
			}
			r := rawIPCache{Identity: uint32(c.Identity), Family: 6, PrefixBits: uint8(k.PrefixBits), Direct: direct, Tunnel: tunnel}
			if p.Addr().Is4() {
				r.Family = 4
			}
			if err != nil {
				return r, fmt.Errorf("tunnel: %w", err)
			}
			return r, nil
		},
		row: func(k rawIPCacheKey, r rawIPCache) (netip.Prefix, datapath.IPCache) {
			addr, bits := netip.AddrFrom16(k.Addr.W), int(k.PrefixBits)
			if r.Family == 4 {
				addr, bits = addr.Unmap(), bits-96
			}
			row := datapath.IPCache{Identity: identity.ID(r.Identity)}
			if r.Direct != 0 {
				row.NextHop = r.Tunnel.addr()
			} else {
				row.Tunnel = r.Tunnel.addr()
			}
			return netip.PrefixFrom(addr, bits), row
		},
		exact: func(k rawIPCacheKey, r rawIPCache) bool { return uint32(r.PrefixBits) == k.PrefixBits },
	}
}

// Bits of a policy key before the protocol, and before the port.
const (
	policyBitsAnyProto = 72
	policyBitsProto    = 80
)

func policyKey(k datapath.PolicyKey) (rawPolicyKey, error) {
	r := rawPolicyKey{
		PrefixBits: policyBitsAnyProto,
		Policy:     uint32(k.Policy), Class: uint32(k.Class), Direction: uint8(k.Direction),
	}
	switch {
	case k.Policy == 0:
		return r, fmt.Errorf("policy id 0 means that no policy is in force; it has no rows")
	case k.AnyProto && (k.Proto != 0 || k.Port != 0 || k.PortBits != 0):
		return r, fmt.Errorf("a row for all protocols has protocol, port and port bits 0")
	case k.AnyProto:
		return r, nil
	case k.PortBits > 16:
		return r, fmt.Errorf("port bits %d are more than 16", k.PortBits)
	case k.Port&(1<<(16-k.PortBits)-1) != 0:
		return r, fmt.Errorf("port %d has bits behind the first %d", k.Port, k.PortBits)
	}
	r.PrefixBits = policyBitsProto + uint32(k.PortBits)
	r.Proto = k.Proto
	binary.BigEndian.PutUint16(r.PortBe[:], k.Port)
	return r, nil
}

func policyTable(m *ebpf.Map) ports.Table[datapath.PolicyKey, datapath.PolicyRow] {
	return &mapTable[datapath.PolicyKey, datapath.PolicyRow, rawPolicyKey, rawPolicy]{
		name: mapPolicy, m: m, key: policyKey,
		value: func(k datapath.PolicyKey, p datapath.PolicyRow) (rawPolicy, error) {
			rk, _ := policyKey(k)
			r := rawPolicy{Cookie: uint32(p.Cookie), ProxyPort: p.ProxyPort, PrefixBits: uint8(rk.PrefixBits)}
			if p.Allow {
				r.Allow = 1
			}
			return r, nil
		},
		row: func(k rawPolicyKey, r rawPolicy) (datapath.PolicyKey, datapath.PolicyRow) {
			key := datapath.PolicyKey{
				Policy: datapath.PolicyID(k.Policy), Class: datapath.Class(k.Class),
				Direction: datapath.Direction(k.Direction), AnyProto: k.PrefixBits == policyBitsAnyProto,
			}
			if !key.AnyProto {
				key.Proto, key.Port = k.Proto, binary.BigEndian.Uint16(k.PortBe[:])
				key.PortBits = uint8(k.PrefixBits - policyBitsProto)
			}
			return key, datapath.PolicyRow{
				Allow: r.Allow != 0, ProxyPort: r.ProxyPort, Cookie: datapath.Cookie(r.Cookie),
			}
		},
		exact: func(k rawPolicyKey, r rawPolicy) bool { return uint32(r.PrefixBits) == k.PrefixBits },
	}
}

func nodeTable(m *ebpf.Map) ports.Table[netip.Addr, datapath.Node] {
	return &mapTable[netip.Addr, datapath.Node, rawAddr, rawNode]{
		name: mapNodes, m: m, key: addrKey,
		value: func(_ netip.Addr, n datapath.Node) (rawNode, error) { return rawNode{ID: n.ID}, nil },
		row: func(k rawAddr, r rawNode) (netip.Addr, datapath.Node) {
			return k.any(), datapath.Node{ID: r.ID}
		},
	}
}

// markPort says what a port is used for, before a row is there that does so. A mark stays: connections outlive their service.
func markPort(used *words, use uint32, port uint16) error {
	bit := use*65536 + uint32(port)
	if err := used.or(bit/64, 1<<(bit%64)); err != nil {
		return fmt.Errorf("mark port %d: %w", port, err)
	}
	return nil
}

func serviceTable(m *ebpf.Map, used *words) ports.Table[datapath.ServiceKey, datapath.Service] {
	return &mapTable[datapath.ServiceKey, datapath.Service, rawServiceKey, rawService]{
		name: mapServices, m: m,
		key: func(k datapath.ServiceKey) (rawServiceKey, error) {
			a, err := addrKey(k.Addr)
			if err == nil && k.Scope > datapath.External {
				err = fmt.Errorf("scope %d: %d (internal) or %d (external) is needed", k.Scope, datapath.Internal, datapath.External)
			}
			return rawServiceKey{Addr: a, Port: k.Port, Proto: k.Proto, Scope: uint8(k.Scope)}, err
		},
		value: func(k datapath.ServiceKey, s datapath.Service) (rawService, error) {
			if k.Scope == datapath.External {
				if err := markPort(used, portOfFrontend, k.Port); err != nil {
					return rawService{}, err
				}
			}
			r := rawService{ID: s.ID, Count: s.Count, AffinityS: s.AffinityTimeout}
			if s.Local {
				r.Flags = serviceLocal
			}
			return r, nil
		},
		row: func(k rawServiceKey, r rawService) (datapath.ServiceKey, datapath.Service) {
			return datapath.ServiceKey{Addr: k.Addr.any(), Port: k.Port, Proto: k.Proto, Scope: datapath.Scope(k.Scope)},
				datapath.Service{ID: r.ID, Count: r.Count, AffinityTimeout: r.AffinityS, Local: r.Flags&serviceLocal != 0}
		},
	}
}

func slotTable(m *ebpf.Map) ports.Table[datapath.SlotKey, uint32] {
	return &mapTable[datapath.SlotKey, uint32, rawSlotKey, uint32]{
		name: mapSlots, m: m,
		key: func(k datapath.SlotKey) (rawSlotKey, error) {
			return rawSlotKey{Service: k.Service, Slot: k.Slot}, nil
		},
		value: func(_ datapath.SlotKey, v uint32) (uint32, error) { return v, nil },
		row: func(k rawSlotKey, v uint32) (datapath.SlotKey, uint32) {
			return datapath.SlotKey{Service: k.Service, Slot: k.Slot}, v
		},
	}
}

func backendTable(m *ebpf.Map, used *words) ports.Table[uint32, datapath.Backend] {
	return &mapTable[uint32, datapath.Backend, uint32, rawBackend]{
		name: mapBackends, m: m, key: plain[uint32],
		value: func(_ uint32, b datapath.Backend) (rawBackend, error) {
			a, err := addrKey(b.Addr)
			if err == nil {
				err = markPort(used, portOfBackend, b.Port)
			}
			return rawBackend{Addr: a, Port: b.Port, Proto: b.Proto}, err
		},
		row: func(id uint32, r rawBackend) (uint32, datapath.Backend) {
			return id, datapath.Backend{Addr: r.Addr.any(), Port: r.Port, Proto: r.Proto}
		},
	}
}
