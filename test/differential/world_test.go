package differential_test

import (
	"math/rand/v2"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/packet"
)

// kind says where somebody lives, as the world was meant to be; the tables need not agree.
type kind int

const (
	localPod kind = iota
	host
	remotePod
	remoteHost
	outside
	nobody // an address of this node that no endpoint has
	group  // multicast and the like
	odd    // loopback and unspecified addresses
)

// party is an address with what belongs to it.
type party struct {
	kind   kind
	addr   netip.Addr
	id     datapath.EndpointID // localPod
	ident  identity.ID
	slot   int        // localPod
	tunnel netip.Addr // remotePod, remoteHost
	direct bool       // reached as a neighbour, not through the tunnel
}

// gen makes one sequence.
type gen struct {
	*rand.Rand
	calm     bool    // complete tables, policies that allow much, few broken packets
	direct   bool    // some nodes are neighbours
	shadow   *shadow // nil: no services
	ops      []op
	parties  [2][]party // IPv4, IPv6
	serials  uint32
	policies []datapath.PolicyID
	epochs   map[datapath.EndpointID]datapath.Epoch
	talks    []talk
	sent     []injection
	pieces   []injection // fragments that wait for their turn
}

func oneOf[T any](g *gen, from ...T) T { return from[g.IntN(len(from))] }

// chance is true so many times out of 100.
func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

// mostly is chance, but in a calm sequence always true.
func (g *gen) mostly(percent int) bool { return g.chance(percent) || g.calm }

// rarely is chance, but in a calm sequence a third of it.
func (g *gen) rarely(percent int) bool { return g.chance(percent) && (!g.calm || g.chance(33)) }

func (g *gen) add(o op) {
	g.ops = append(g.ops, o)
	if g.shadow != nil {
		g.shadow.live(o)
	}
}

var (
	nodeA    = netip.MustParseAddr("192.0.2.2")
	nodeB    = netip.MustParseAddr("192.0.2.3")
	nodeC    = netip.MustParseAddr("2001:db8:1::4") // sends nothing: test runs know senders of IPv4 only
	stranger = netip.MustParseAddr("192.0.2.66")
)

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParseAddr(t)
	}
	return out
}

// Addresses of each kind, by family.
var people = [2]map[kind][]netip.Addr{
	{
		localPod:   addrs("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"),
		host:       addrs("10.1.0.254", "192.0.2.1"),
		remotePod:  addrs("10.2.0.1", "10.2.0.2", "10.3.0.1"),
		remoteHost: addrs("10.2.0.254"),
		outside:    addrs("198.51.100.1", "198.51.100.2", "203.0.113.9"),
		nobody:     addrs("10.1.0.77"),
		group:      addrs("224.0.0.1", "239.1.2.3", "255.255.255.255", "10.1.0.255", "223.255.255.255", "240.0.0.1"),
		odd:        addrs("127.0.0.1", "0.0.0.0", "169.254.1.1"),
	},
	{
		localPod:   addrs("fd00:1::1", "fd00:1::2", "fd00:1::3", "fd00:1::4"),
		host:       addrs("fd00:1::fe", "2001:db8:1::1"),
		remotePod:  addrs("fd00:2::1", "fd00:2::2", "fd00:3::1"),
		remoteHost: addrs("fd00:2::fe"),
		outside:    addrs("2001:db8::1", "2001:db8::2", "64:ff9b::c633:6401"),
		nobody:     addrs("fd00:1::77"),
		group:      addrs("ff02::1", "ff05::1:3", "feff::1"),
		odd:        addrs("::1", "::", "fe80::1", "::10.1.0.1"),
	},
}

var identities = []identity.ID{0, 1, 2, 3, 6, 7, 9, 10, 1001, 1002, 1003, 1004, 2001, 2002, 2003, 65535, 65536, identity.MinLocal, identity.MinLocal + 1, identity.MaxLocal, identity.MaxLocal + 1}

func (g *gen) identity() identity.ID { return identities[g.IntN(len(identities))] }

// world fills the tables; little of it is quite complete.
func (g *gen) world() {
	for f := range people {
		for k := localPod; k <= odd; k++ {
			for i, a := range people[f][k] {
				p := party{kind: k, addr: a}
				switch k {
				case localPod:
					p.id, p.ident, p.slot = datapath.EndpointID(i+1), identity.ID(1001+i), i
				case host:
					p.ident = identity.Host
				case remotePod:
					p.ident, p.tunnel = identity.ID(2001+i), oneOf(g, nodeA, nodeA, nodeB, nodeB, nodeC)
				case remoteHost:
					p.ident, p.tunnel = oneOf(g, identity.RemoteNode, identity.KubeAPIServer), nodeA
				}
				p.direct = p.tunnel.IsValid() && g.direct && g.chance(60)
				g.parties[f] = append(g.parties[f], p)
				g.know(p)
			}
		}
	}
	for _, c := range []struct {
		prefix  string
		percent int
	}{
		{"198.51.100.0/24", 50}, {"198.51.100.0/31", 40}, {"0.0.0.0/0", 15}, {"10.1.0.0/16", 20}, {"203.0.113.9/32", 30},
		{"2001:db8::/32", 50}, {"2001:db8::2/128", 40}, {"::/0", 25}, {"fd00:1::/64", 20}, {"::/64", 20},
	} {
		if g.chance(c.percent) {
			row := datapath.IPCache{Identity: identity.MinLocal + identity.ID(g.IntN(2))}
			if g.chance(10) {
				row.Tunnel = nodeB
			}
			g.add(op{IPCache: put(netip.MustParsePrefix(c.prefix), row)})
		}
	}
	for n, a := range []netip.Addr{nodeA, nodeB, nodeC} {
		if g.mostly(93) {
			g.add(op{Node: put(a, datapath.Node{ID: uint16(n + 2)})})
		}
	}
	for generation := range uint8(datapath.GenerationCount) {
		for _, id := range identities {
			if g.chance(60) {
				g.add(op{Class: put(datapath.ClassKey{Generation: generation, Identity: id}, datapath.Class(g.IntN(4)))})
			}
		}
	}
	for range 6 {
		g.policy()
	}
	for id := datapath.EndpointID(1); id <= 5; id++ {
		if g.mostly(95) {
			g.enforce(id)
		}
	}
}

func macOf(id datapath.EndpointID, last byte) datapath.MAC {
	return datapath.MAC{2, last, 0, 0, byte(id >> 8), byte(id)}
}

// know writes what an address is into endpoints and ipcache, most of the time.
func (g *gen) know(p party) {
	switch p.kind {
	case localPod:
		if g.mostly(93) {
			g.add(op{Endpoint: put(p.addr, endpointOf(p))})
		}
	case host:
		if g.mostly(95) {
			g.add(op{Endpoint: put(p.addr, datapath.Endpoint{Identity: oneOf(g, identity.Host, identity.Host, 7), Host: true})})
		}
	case remotePod, remoteHost:
	default:
		return
	}
	if g.mostly(90) {
		g.add(op{IPCache: put(netip.PrefixFrom(p.addr, p.addr.BitLen()), p.row())})
	}
}

// row is what ipcache says of somebody.
func (p party) row() datapath.IPCache {
	if p.direct {
		return datapath.IPCache{Identity: p.ident, NextHop: neighbours[familyOf(p.addr)]}
	}
	return datapath.IPCache{Identity: p.ident, Tunnel: p.tunnel}
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// A node that is a neighbour, by family.
var neighbours = [2]netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8:1::9")}

func endpointOf(p party) datapath.Endpoint {
	return datapath.Endpoint{
		ID: p.id, Identity: p.ident, Ifindex: uint32(p.slot), MAC: macOf(p.id, 0xa), NodeMAC: macOf(p.id, 0xb),
	}
}

var policyProtos = []uint8{
	datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoUDP, datapath.ProtoICMP,
	datapath.ProtoICMPv6, datapath.ProtoSCTP, packet.ESP, protoGRE, 0, 255,
}

const (
	protoGRE  = 47
	protoOSPF = 89
)

// policy writes a policy under a new id.
func (g *gen) policy() {
	g.serials++
	id := datapath.NewPolicyID(uint8(g.IntN(datapath.GenerationCount)), g.serials)
	g.policies = append(g.policies, id)
	row := func(k datapath.PolicyKey, allow int) {
		k.Policy = id
		v := datapath.PolicyRow{Allow: g.chance(allow), Cookie: datapath.Cookie(g.IntN(6)), ProxyPort: uint16(g.IntN(2))}
		if !v.Allow && g.chance(60) {
			v.Cookie |= 1 << 31
		}
		g.add(op{Policy: put(k, v)})
	}
	for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
		if g.mostly(65) {
			row(datapath.PolicyKey{Direction: d, AnyProto: true}, 90)
		}
	}
	for range g.IntN(14) {
		k := datapath.PolicyKey{
			Class: datapath.Class(g.IntN(4)), Direction: datapath.Direction(g.IntN(2)), AnyProto: g.chance(25),
		}
		if !k.AnyProto {
			k.Proto = policyProtos[g.IntN(len(policyProtos))]
			k.PortBits = oneOf[uint8](g, 0, 0, 1, 7, 8, 12, 15, 16, 16, 16)
			k.Port = g.port() &^ (0xffff >> k.PortBits)
		}
		row(k, 70)
	}
}

// port gives few different ones, so that rules and flows meet. Small ones are ICMP types, too.
func (g *gen) port() uint16 {
	return oneOf[uint16](g, 80, 80, 80, 81, 443, 53, 53, 8, 0, 3, 128, 129, 65535, 32768)
}

// enforce puts some policy in force for an endpoint, or none.
func (g *gen) enforce(id datapath.EndpointID) {
	g.epochs[id]++
	word := datapath.EndpointPolicy{Policy: g.policies[g.IntN(len(g.policies))], Epoch: g.epochs[id]}
	if g.rarely(5) {
		word.Policy = 0
	}
	g.add(op{Word: put(id, word)})
}

// any gives somebody of a family, more often those who talk.
func (g *gen) any(family int) *party {
	return g.anyOf(family, oneOf(g, localPod, localPod, localPod, localPod, localPod, localPod, localPod, localPod,
		remotePod, remotePod, remotePod, host, host, outside, outside, remoteHost, nobody, group, odd))
}

// anyOf gives somebody of a kind.
func (g *gen) anyOf(family int, k kind) *party {
	of := people[family][k]
	addr := of[g.IntN(len(of))]
	for i := range g.parties[family] {
		if p := &g.parties[family][i]; p.addr == addr {
			return p
		}
	}
	panic(addr.String() + " is nobody's address")
}

// event changes something that flows depend on.
func (g *gen) event() {
	family := g.IntN(2)
	switch g.IntN(16) {
	case 0, 1, 2:
		if g.chance(50) {
			g.policy()
		}
		g.enforce(datapath.EndpointID(1 + g.IntN(5)))
	case 3:
		g.enforce(datapath.EndpointID(1 + g.IntN(5)))
	case 4:
		if g.chance(30) {
			g.add(op{Word: remove[datapath.EndpointID, datapath.EndpointPolicy](datapath.EndpointID(1 + g.IntN(5)))})
		}
	case 5: // a pod goes
		p := g.anyOf(family, localPod)
		g.add(op{Endpoint: remove[netip.Addr, datapath.Endpoint](p.addr)})
	case 6, 7: // a pod comes, perhaps as another
		p := g.anyOf(family, localPod)
		if g.chance(40) {
			p.id, p.ident = datapath.EndpointID(1+g.IntN(5)), identity.ID(1001+g.IntN(4))
		}
		if g.chance(25) {
			p.slot = g.IntN(podSlots)
		}
		g.add(op{Endpoint: put(p.addr, endpointOf(*p))})
		if g.chance(70) {
			g.bump(p.addr)
		}
	case 8, 9: // an address becomes somebody else's
		p := g.any(family)
		prefix := netip.PrefixFrom(p.addr, p.addr.BitLen())
		if g.chance(30) {
			g.add(op{IPCache: remove[netip.Prefix, datapath.IPCache](prefix)})
		} else {
			row := datapath.IPCache{Identity: g.identity()}
			if p.tunnel.IsValid() || g.chance(10) {
				p.tunnel = oneOf(g, nodeA, nodeB, nodeC)
				row.Tunnel = p.tunnel
			}
			if g.chance(10) {
				row.Tunnel = netip.Addr{}
			}
			if g.direct && g.chance(40) {
				row.Tunnel, row.NextHop = netip.Addr{}, neighbours[family]
			}
			g.add(op{IPCache: put(prefix, row)})
		}
		if g.chance(85) {
			g.bump(p.addr)
		}
	case 10:
		g.bump(g.any(family).addr)
	case 11:
		g.add(op{BumpAll: true})
	case 12:
		if g.chance(20) {
			g.add(op{Flush: true})
		} else {
			g.add(op{Collect: true})
		}
	case 13, 14:
		g.add(op{Advance: oneOf(g, 1, 5, 9, 10, 11, 49, 50, 59, 60, 61, 100, 7999, 8000)})
	case 15:
		switch g.IntN(3) {
		case 0:
			n := oneOf(g, nodeA, nodeB)
			if g.chance(50) {
				g.add(op{Node: remove[netip.Addr, datapath.Node](n)})
			} else {
				g.add(op{Node: put(n, datapath.Node{ID: 9})})
			}
		case 1: // the node gains or loses an address, perhaps that of a pod
			p := g.any(family)
			if p.kind == host && g.chance(50) {
				g.add(op{Endpoint: remove[netip.Addr, datapath.Endpoint](p.addr)})
			} else {
				g.add(op{Endpoint: put(p.addr, datapath.Endpoint{Identity: identity.Host, Host: true})})
			}
		case 2:
			key := datapath.ClassKey{Generation: uint8(g.IntN(datapath.GenerationCount)), Identity: g.identity()}
			g.add(op{Class: put(key, datapath.Class(g.IntN(4)))})
		}
	}
}

func (g *gen) bump(a netip.Addr) { g.add(op{BumpAddr: &a}) }
