package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// Party is one end of a connection as Evaluate sees it.
type Party struct {
	// Labels of the endpoint, or the reserved labels of a party that is none (reserved:host,
	// reserved:world, …).
	Labels labels.Set
	// Ports are the named ports. For a peer of an egress rule they are the union over all endpoints
	// that cannot be told apart from it by their labels.
	Ports []NamedPort
	// Addr of a party outside the cluster. Others are never judged by their address, and theirs is
	// not looked at.
	Addr netip.Addr
}

// Outside is the party at an address that belongs to nothing in the cluster.
func Outside(addr netip.Addr) Party {
	addr = addr.Unmap()
	family := identity.WorldIPv6
	if addr.Is4() {
		family = identity.WorldIPv4
	}
	return Party{Labels: identity.ReservedIdentity(family).Labels, Addr: addr}
}

// judgement is what one packet is judged by.
type judgement struct {
	subject, peer Party
	dir           datapath.Direction
	proto         uint8
	port          uint16
}

func (j *judgement) matches(r *Rule) bool {
	return r.Ref.Direction == j.dir && r.admitsPeer(j.peer) && r.admitsPort(j.subject, j.peer, j.proto, j.port)
}

// Evaluate judges one packet (for ICMP, port is the message type; for protocols without ports it is
// 0) by reading the rules one after the other, as their documentation says:
//
//   - A spec applies if its Subject selects the subject. The subject is isolated in a direction if an
//     applying spec says so.
//   - The first matching rule of the admin tier allows, denies, or passes to the rules that follow here.
//   - A matching deny rule of an ordinary spec denies, isolated or not, whatever else allows.
//   - Otherwise a matching allow rule allows.
//   - Otherwise an isolated subject refuses, except what its own node sends in.
//   - For one that is not isolated the first matching rule of the baseline tier allows or denies.
//   - What is left, or passed there, is accepted.
//
// Of several matching rules of the deciding kind the first one is named: by priority, where the tier has
// an order, by Kind, Namespace and Name of the policy, then by the order of its specs and rules.
// Policies may come in any order.
//
// A peer selector with a positive requirement (In, Exists) matches by labels alone. One without any
// (everything, or exclusions only) does not match the world: who means addresses outside the
// cluster names them, by entity, CIDR or reserved label.
//
// Evaluate is the executable form of the documentation. It takes time proportional to the number of
// rules; Compiler gives the same verdicts from tables.
func Evaluate(policies []Policy, subject Party, dir datapath.Direction, peer Party, proto uint8, port uint16) Verdict {
	j := &judgement{subject: subject, peer: peer, dir: dir, proto: proto, port: port}
	if r := j.first(policies, TierAdmin); r != nil && !r.Pass {
		return Verdict{Allowed: !r.Deny, Rule: r.Ref}
	}
	byRef := func(a, b Policy) int { return a.Ref.Compare(b.Ref) }
	ordered := policies
	if !slices.IsSortedFunc(ordered, byRef) {
		ordered = slices.Clone(policies)
		slices.SortStableFunc(ordered, byRef)
	}

	var deny, allow *Rule
	var isolating []Ref
	for _, p := range ordered {
		for _, s := range p.Specs {
			if s.Tier != TierOrdinary || !s.Subject.Matches(subject.Labels) {
				continue
			}
			isolates := s.IsolateIngress
			if dir == datapath.Egress {
				isolates = s.IsolateEgress
			}
			if isolates && !slices.Contains(isolating, p.Ref) {
				isolating = append(isolating, p.Ref)
			}
			for i := range s.Rules {
				r := &s.Rules[i]
				if !j.matches(r) {
					continue
				}
				if r.Deny && deny == nil {
					deny = r
				}
				if !r.Deny && allow == nil {
					allow = r
				}
			}
		}
	}
	switch {
	case deny != nil:
		return Verdict{Rule: deny.Ref}
	case allow != nil:
		return Verdict{Allowed: true, Rule: allow.Ref}
	case len(isolating) > 0 && dir == datapath.Ingress && peer.is("host"):
		return Verdict{Allowed: true, Note: NoteLocalHost}
	case len(isolating) > 0:
		return Verdict{Isolating: isolating}
	}
	if r := j.first(policies, TierBaseline); r != nil && !r.Pass {
		return Verdict{Allowed: !r.Deny, Rule: r.Ref}
	}
	return Verdict{Allowed: true}
}

// first finds the rule that decides in a tier with an order; nil if none matches.
func (j *judgement) first(policies []Policy, t Tier) *Rule {
	var found *Rule
	var by [2]int // priority of its spec, and the spec's place in its policy
	for _, p := range policies {
		for at, s := range p.Specs {
			if s.Tier != t || !s.Subject.Matches(j.subject.Labels) {
				continue
			}
			i := slices.IndexFunc(s.Rules, func(r Rule) bool { return j.matches(&r) })
			if i < 0 {
				continue
			}
			if found == nil || cmp.Or(cmp.Compare(s.Priority, by[0]), p.Ref.Compare(found.Ref.Policy), cmp.Compare(at, by[1])) < 0 {
				found, by = &s.Rules[i], [2]int{s.Priority, at}
			}
		}
	}
	return found
}

// Compare orders references by kind, namespace and name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Name, o.Name))
}

func (p Party) is(reserved string) bool { return p.Labels.Has(labels.SourceReserved, reserved) }

func (r *Rule) admitsPeer(peer Party) bool {
	return r.AnyPeer || slices.ContainsFunc(r.Peers, func(p Peer) bool { return p.admits(peer) })
}

func (p Peer) admits(peer Party) bool {
	switch {
	case p.Selector != nil:
		positive := false
		for _, req := range p.Selector.Requirements() {
			positive = positive || req.Operator == labels.In || req.Operator == labels.Exists
		}
		return p.Selector.Matches(peer.Labels) && (positive || !peer.is("world"))
	case p.Entity != "":
		return p.Entity.admits(peer)
	}
	if !peer.is("world") || !peer.Addr.IsValid() || !p.CIDR.Contains(peer.Addr) {
		return false
	}
	return !slices.ContainsFunc(p.Except, func(e netip.Prefix) bool { return e.Contains(peer.Addr) })
}

func (e Entity) admits(peer Party) bool {
	switch e {
	case EntityAll:
		return true
	case EntityNone:
		return false
	case EntityCluster:
		if peer.Labels.Has(labels.SourceK8s, labels.KeyCluster) {
			return true
		}
		for _, e := range []Entity{EntityHost, EntityRemoteNode, EntityInit, EntityUnmanaged, EntityHealth, EntityKubeAPIServer, EntityIngress} {
			if peer.is(string(e)) {
				return true
			}
		}
		return false
	}
	return peer.is(string(e))
}

func (r *Rule) admitsPort(subject, peer Party, proto uint8, port uint16) bool {
	if r.AnyPort {
		return true
	}
	destination := peer
	if r.Ref.Direction == datapath.Ingress {
		destination = subject
	}
	for _, p := range r.Ports {
		if p.AnyProto && proto != datapath.ProtoTCP && proto != datapath.ProtoUDP && proto != datapath.ProtoSCTP {
			continue
		}
		if !p.AnyProto && p.Proto != proto {
			continue
		}
		if p.Name == "" && p.First <= port && port <= p.Last {
			return true
		}
		if p.Name != "" && slices.Contains(destination.Ports, NamedPort{Name: p.Name, Proto: proto, Port: port}) {
			return true
		}
	}
	for _, m := range r.ICMP {
		want := datapath.ProtoICMP
		if m.IPv6 {
			want = datapath.ProtoICMPv6
		}
		if proto == want && port == uint16(m.Type) {
			return true
		}
	}
	return false
}
