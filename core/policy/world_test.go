package policy

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// world is what a compiler is told, as plain values, and the packets worth asking about.
type world struct {
	policies   map[Ref]Policy
	identities map[identity.ID]knownIdentity
	subjects   map[datapath.EndpointID]Party
}

type knownIdentity struct {
	identity.Identity
	ports []NamedPort
}

func newWorld() *world {
	return &world{policies: map[Ref]Policy{}, identities: map[identity.ID]knownIdentity{}, subjects: map[datapath.EndpointID]Party{}}
}

func (w *world) list() []Policy {
	var out []Policy
	for _, p := range w.policies {
		out = append(out, p)
	}
	return out
}

// packets are protocols and ports on and beside every border of the rules.
func packets(policies ...[]Policy) [][2]uint16 {
	set := map[[2]uint16]bool{{uint16(datapath.ProtoTCP), 4711}: true, {uint16(datapath.ProtoUDP), 4711}: true, {47, 0}: true, {50, 0}: true}
	add := func(proto uint8, port uint16) {
		for _, p := range []uint16{port - 1, port, port + 1} {
			set[[2]uint16{uint16(proto), p}] = true
		}
	}
	for _, port := range []uint16{53, 80, 8080} {
		set[[2]uint16{uint16(datapath.ProtoTCP), port}] = true
		set[[2]uint16{uint16(datapath.ProtoUDP), port}] = true
		set[[2]uint16{uint16(datapath.ProtoICMP), port}] = true
	}
	for _, ps := range policies {
		for _, p := range ps {
			for _, s := range p.Specs {
				for _, r := range s.Rules {
					for _, port := range r.Ports {
						protos := []uint8{port.Proto}
						if port.AnyProto {
							protos = []uint8{datapath.ProtoTCP, datapath.ProtoSCTP}
						}
						for _, proto := range protos {
							add(proto, port.First)
							add(proto, port.Last)
						}
					}
					for _, m := range r.ICMP {
						add(datapath.ProtoICMP, uint16(m.Type))
						add(datapath.ProtoICMPv6, uint16(m.Type))
					}
				}
			}
		}
	}
	out := make([][2]uint16, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b [2]uint16) int { return slices.Compare(a[:], b[:]) })
	return out
}

// party is how the evaluator sees an identity. Identities of prefixes stand for an address inside
// that no longer prefix holds.
func (w *world) party(id knownIdentity) (Party, bool) {
	p := Party{Labels: id.Labels, Ports: id.ports}
	if !id.Prefix.IsValid() {
		return p, true
	}
	for a, n := id.Prefix.Addr(), 0; id.Prefix.Contains(a) && n < 3; n++ {
		var longer netip.Prefix
		for _, o := range w.identities {
			if o.Prefix.IsValid() && o.Prefix.Bits() > id.Prefix.Bits() && o.Prefix.Contains(a) && (!longer.IsValid() || o.Prefix.Bits() < longer.Bits()) {
				longer = o.Prefix
			}
		}
		if !longer.IsValid() {
			p.Addr = a
			return p, true
		}
		a = lastAddr(longer).Next()
	}
	return p, false // all of it belongs to longer prefixes
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// question is one packet at one endpoint.
type question struct {
	ep    datapath.EndpointID
	dir   datapath.Direction
	peer  identity.ID
	proto uint8
	port  uint16
}

func (w *world) questions(pk [][2]uint16) []question {
	var out []question
	for ep := range w.subjects {
		for id, k := range w.identities {
			if _, ok := w.party(k); !ok {
				continue
			}
			for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
				for _, p := range pk {
					out = append(out, question{ep, dir, id, uint8(p[0]), p[1]})
				}
			}
		}
	}
	return out
}

func (w *world) answer(q question) Verdict {
	peer, _ := w.party(w.identities[q.peer])
	return Evaluate(w.list(), w.subjects[q.ep], q.dir, peer, q.proto, q.port)
}
