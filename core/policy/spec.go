package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// spec is a Spec of a loaded policy with what can be worked out without an endpoint.
type spec struct {
	Spec
	serial   uint64 // unique among all specs that were ever loaded
	ref      Ref
	index    int
	rules    [2][]specRule // by direction, in the order of the spec
	names    []string      // that ingress rules ask for, sorted
	subjects map[*subject]struct{}
}

// specRule is a rule with its peers and ports taken apart.
type specRule struct {
	*Rule
	everyone bool        // no peer restricts it
	peers    []keyedPeer // unless everyone
	spans    []span      // ports without a name, and ICMP
	named    []namedSpan
}

type keyedPeer struct {
	key  string
	kind peerKind
}

// namedSpan is a port by name.
type namedSpan struct {
	name     string
	proto    uint8
	anyProto bool
}

func (n namedSpan) resolves(p NamedPort) bool {
	return n.name == p.Name && (n.proto == p.Proto && !n.anyProto || n.anyProto && slices.Contains(portProtos, p.Proto))
}

// portProtos are the protocols of a port that names none.
var portProtos = []uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP}

func newSpec(serial uint64, ref Ref, index int, s Spec) *spec {
	sp := &spec{Spec: s, serial: serial, ref: ref, index: index, subjects: map[*subject]struct{}{}}
	for i := range s.Rules {
		r := &s.Rules[i]
		sr := specRule{Rule: r, everyone: r.AnyPeer}
		if !r.AnyPeer {
			for _, p := range r.Peers {
				kind, everyone := compilePeer(p)
				if everyone {
					sr.everyone = true
				} else if kind != nil {
					sr.peers = append(sr.peers, keyedPeer{kind.key(), kind})
				}
			}
		}
		if !r.AnyPort {
			sr.takePorts()
		}
		if !sr.everyone && len(sr.peers) == 0 || !r.AnyPort && len(sr.spans)+len(sr.named) == 0 {
			continue // matches nothing
		}
		sp.rules[r.Ref.Direction] = append(sp.rules[r.Ref.Direction], sr)
		if r.Ref.Direction == datapath.Ingress {
			for _, n := range sr.named {
				sp.names = append(sp.names, n.name)
			}
		}
	}
	slices.Sort(sp.names)
	sp.names = slices.Compact(sp.names)
	return sp
}

func (r *specRule) takePorts() {
	for _, p := range r.Ports {
		if p.Name != "" {
			r.named = append(r.named, namedSpan{p.Name, p.Proto, p.AnyProto})
			continue
		}
		protos := []uint8{p.Proto}
		if p.AnyProto {
			protos = portProtos
		}
		for _, proto := range protos {
			r.spans = append(r.spans, span{proto, p.First, p.Last})
		}
	}
	for _, m := range r.ICMP {
		proto := datapath.ProtoICMP
		if m.IPv6 {
			proto = datapath.ProtoICMPv6
		}
		r.spans = append(r.spans, span{proto, uint16(m.Type), uint16(m.Type)})
	}
}

// eachPrefix visits the prefixes that the rules name, once for each time they do.
func (s *spec) eachPrefix(visit func(netip.Prefix)) {
	for d := range s.rules {
		for i := range s.rules[d] {
			for _, p := range s.rules[d][i].peers {
				cidr, ok := p.kind.(cidrPeer)
				if !ok {
					continue
				}
				for _, p := range append([]netip.Prefix{cidr.cidr}, cidr.except...) {
					if p.Bits() > 0 {
						visit(p)
					}
				}
			}
		}
	}
}

// compare orders specs of one tier as the rules of precedence do.
func (s *spec) compare(o *spec) int {
	return cmp.Or(cmp.Compare(s.rank(), o.rank()), s.ref.Compare(o.ref), cmp.Compare(s.index, o.index))
}

// rank is the priority where it means something.
func (s *Spec) rank() int {
	if s.Tier == TierOrdinary {
		return 0
	}
	return s.Priority
}

// Compare orders named ports by name, protocol and number.
func (p NamedPort) Compare(o NamedPort) int {
	return cmp.Or(cmp.Compare(p.Name, o.Name), cmp.Compare(p.Proto, o.Proto), cmp.Compare(p.Port, o.Port))
}
