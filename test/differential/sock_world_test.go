package differential_test

import (
	"math/rand/v2"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// lbGen makes a sequence of calls amid services that come and go.
type lbGen struct {
	gen
	frontends []datapath.ServiceKey
	services  map[datapath.ServiceKey]datapath.Service
}

// Addresses by family. Some are both: a service may have the address of a backend.
var (
	frontendAddrs = [2][]netip.Addr{
		addrs("10.96.0.1", "10.96.0.2", "10.9.0.1", "192.0.2.1", "127.0.0.1"),
		addrs("fd00:96::1", "fd00:96::2", "fd00:9::1", "2001:db8:1::1", "::1"),
	}
	backendAddrs = [2][]netip.Addr{
		addrs("10.9.0.1", "10.9.0.2", "10.9.0.3", "192.0.2.1", "127.0.0.1"),
		addrs("fd00:9::1", "fd00:9::2", "fd00:9::3", "2001:db8:1::1"),
	}
	plainAddrs = [2][]netip.Addr{
		addrs("198.51.100.1", "10.9.0.1", "10.96.0.1", "127.0.0.1"),
		addrs("2001:db8::1", "fd00:9::1", "fd00:96::1"),
	}
)

// Addresses that tables may call this node's, another node's, and what a socket calls its own machine.
var (
	nodeAddrs = [2][]netip.Addr{
		addrs("192.0.2.1", "192.0.2.2", "192.0.2.3", "10.96.0.2"),
		addrs("2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3", "fd00:96::2"),
	}
	selfAddrs = [2][]netip.Addr{addrs("127.0.0.1", "0.0.0.0", "127.0.0.2"), addrs("::1", "::")}
)

var anyAddrs = [2]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}

const lbBackends = 16

// generateCalls makes sequence n of a seed.
func generateCalls(seed, n uint64) []op {
	g := &lbGen{gen: gen{Rand: rand.New(rand.NewPCG(seed, n|1<<63))}, services: map[datapath.ServiceKey]datapath.Service{}}
	g.calm = g.chance(50)
	for id := range uint32(lbBackends) {
		if g.mostly(92) {
			g.backend(id + 1)
		}
	}
	for range 4 + g.IntN(8) {
		g.service()
	}
	for f := range nodeAddrs {
		for _, a := range nodeAddrs[f] {
			g.node(a)
		}
	}
	for slot := range socketSlots {
		g.open(slot)
	}
	for range 40 + g.IntN(120) {
		g.turn()
	}
	return g.ops
}

func (g *lbGen) backend(id uint32) {
	f := int(id) % 2
	if g.rarely(10) {
		f = 1 - f
	}
	// No two have the same address and port: what a call led to tells which it was.
	of := backendAddrs[f]
	per := (lbBackends + len(of)) / len(of)
	b := datapath.Backend{
		Addr: of[int(id)/per%len(of)], Port: servedPorts[int(id)%len(servedPorts)], Proto: oneOf(&g.gen, datapath.ProtoTCP, datapath.ProtoUDP),
	}
	for _, o := range g.ops {
		if o.Backend != nil && o.Backend.Value != nil && o.Backend.Key != id && o.Backend.Value.Addr == b.Addr && o.Backend.Value.Port == b.Port {
			return
		}
	}
	g.add(op{Backend: put(id, b)})
}

// node says whether an address is this node's, another's, or a pod's.
func (g *lbGen) node(a netip.Addr) {
	switch g.IntN(5) {
	case 0, 1:
		g.add(op{Endpoint: put(a, datapath.Endpoint{Identity: identity.Host, Host: true})})
	case 2, 3:
		g.add(op{Node: put(a, datapath.Node{ID: 2})})
	case 4:
		g.add(op{Endpoint: put(a, datapath.Endpoint{ID: 3, Identity: 1001, Ifindex: slotHost})})
	}
}

// service writes a service, sometimes with fewer slots than it says, or none.
func (g *lbGen) service() {
	f := g.IntN(2)
	key := datapath.ServiceKey{
		Addr: oneOf(&g.gen, frontendAddrs[f]...), Port: oneOf(&g.gen, servedPorts[1:4]...),
		Proto: oneOf(&g.gen, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoUDP, datapath.ProtoUDP, protoUDPLite, datapath.ProtoSCTP),
	}
	row := datapath.Service{
		ID: uint32(1 + g.IntN(8)), Count: uint32(g.IntN(6)),
		AffinityTimeout: oneOf[uint32](&g.gen, 0, 0, 0, 1, 5, 10, 10, 10800, 1<<32-1),
	}
	if g.chance(35) { // a port of every node
		key.Addr, row.Local = anyAddrs[f], g.chance(30)
	}
	if g.chance(8) {
		key.Scope = datapath.External // not for sockets
	}
	if g.mostly(80) && row.Count == 0 {
		row.Count = 3
	}
	for n := range row.Count {
		if !g.mostly(92) {
			continue
		}
		id := uint32(g.IntN(lbBackends/2))*2 + uint32(f)
		if id == 0 || g.rarely(8) {
			id = uint32(1 + g.IntN(lbBackends+2))
		}
		g.add(op{SlotRow: put(datapath.SlotKey{Service: row.ID, Slot: n + 1}, id)})
	}
	if _, ok := g.services[key]; !ok {
		g.frontends = append(g.frontends, key)
	}
	g.services[key] = row
	g.add(op{Service: put(key, row)})
}

func (g *lbGen) call(c call) { g.add(op{Call: &c}) }

func (g *lbGen) open(slot int) {
	c := call{Do: "open", Slot: slot, Client: g.IntN(clients), V6: g.chance(60)}
	switch n := g.IntN(100); {
	case n < 6:
		c.Outside = true
	case n < 12:
		c.Proto = protoUDPLite
	case n < 45:
		c.Proto = datapath.ProtoTCP
	default:
		c.Proto = datapath.ProtoUDP
	}
	g.call(c)
}

// target is where a call goes: mostly to a service, or right beside one.
func (g *lbGen) target() netip.AddrPort {
	if len(g.frontends) > 0 && g.chance(80) {
		key := oneOf(&g.gen, g.frontends...)
		if g.chance(8) {
			key.Port = oneOf(&g.gen, servedPorts...)
		}
		if key.Addr.IsUnspecified() || g.chance(5) {
			f := familyOf(key.Addr)
			switch n := g.IntN(10); {
			case n < 6:
				key.Addr = oneOf(&g.gen, nodeAddrs[f]...)
			case n < 9:
				key.Addr = oneOf(&g.gen, selfAddrs[f]...)
			default:
				key.Addr = oneOf(&g.gen, frontendAddrs[f]...)
			}
		}
		return netip.AddrPortFrom(key.Addr, key.Port)
	}
	return netip.AddrPortFrom(oneOf(&g.gen, plainAddrs[g.IntN(2)]...), oneOf(&g.gen, servedPorts...))
}

func (g *lbGen) turn() {
	slot := g.IntN(socketSlots)
	switch n := g.IntN(100); {
	case n < 20:
		g.open(slot)
		g.call(call{Do: "connect", Slot: slot, Addr: g.target()})
	case n < 35:
		g.call(call{Do: "connect", Slot: slot, Addr: g.target()})
	case n < 60:
		g.call(call{Do: "send", Slot: slot, Addr: g.target()})
	case n < 65:
		g.call(call{Do: "send", Slot: slot})
	case n < 72: // perhaps one that it never spoke to
		f := g.IntN(2)
		g.call(call{Do: "hear", Slot: slot, Addr: netip.AddrPortFrom(oneOf(&g.gen, backendAddrs[f]...), oneOf(&g.gen, servedPorts...))})
	case n < 80:
		g.call(call{Do: "peer", Slot: slot})
	case n < 84:
		g.add(op{Advance: oneOf(&g.gen, 1, 4, 5, 6, 9, 10, 11, 10799, 10800)})
	case n < 90:
		g.service()
	case n < 93 && len(g.frontends) > 0:
		g.add(op{Service: remove[datapath.ServiceKey, datapath.Service](oneOf(&g.gen, g.frontends...))})
	case n < 95:
		a := oneOf(&g.gen, nodeAddrs[g.IntN(2)]...)
		g.add(op{Endpoint: remove[netip.Addr, datapath.Endpoint](a)})
		g.add(op{Node: remove[netip.Addr, datapath.Node](a)})
		g.node(a)
	case n < 98:
		g.backend(uint32(1 + g.IntN(lbBackends)))
	default:
		g.add(op{Backend: remove[uint32, datapath.Backend](uint32(1 + g.IntN(lbBackends)))})
	}
}
