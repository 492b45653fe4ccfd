package matrix

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// Hint is the rule that came nearest to allowing a connection that is denied for want of a rule.
type Hint struct {
	Direction datapath.Direction
	Rule      policy.RuleRef
	Lacks     string // what keeps the rule from allowing it
}

// String is the rule and what it lacks.
func (h Hint) String() string { return h.Rule.String() + " " + h.Lacks }

// hints looks on both sides for the allow rule that fails in one point only and is nearest: first one
// that admits the other end with the protocol but not the port, then one that allows the port to others,
// then one that admits the other end with other protocols; among equals the first by policy.
func (j *judge) hints(from, to end, proto uint8, port uint16) []Hint {
	protos := []uint8{proto}
	if proto == datapath.ProtoICMP {
		protos = from.icmp(to)
	}
	var out []Hint
	for _, s := range []struct {
		dir           datapath.Direction
		subject, peer end
	}{{datapath.Egress, from, to}, {datapath.Ingress, to, from}} {
		for _, proto := range protos {
			number := port
			if echo, ok := echoRequest[proto]; ok {
				number = echo
			}
			if s.subject.pod == nil {
				continue
			}
			if v := j.side(s.subject, s.dir, s.peer, proto, number); v.Allowed || v.Rule.Path != "" {
				continue
			}
			if h, ok := j.nearest(s.subject, s.dir, s.peer, proto, number); ok {
				out = append(out, h)
				break
			}
		}
	}
	return out
}

func (j *judge) nearest(subject end, dir datapath.Direction, peer end, proto uint8, port uint16) (Hint, bool) {
	me := policy.Party{Labels: subject.pod.labels, Ports: subject.pod.Ports}
	them := j.party(peer, j.kindFor(peer, subject))
	preposition := "to"
	if dir == datapath.Ingress {
		preposition = "from"
	}
	var best Hint
	rank := 4
	consider := func(as int, r policy.Rule, lacks string) {
		if len(r.Unenforced) > 0 {
			lacks += ", and grants nothing by its " + strings.Join(r.Unenforced, ", ") + ", which weir does not enforce yet"
		}
		if as < rank {
			best, rank = Hint{dir, r.Ref, lacks}, as
		}
	}
	for _, p := range j.policies {
		for _, s := range p.Specs {
			if !s.Subject.Matches(me.Labels) {
				continue
			}
			for _, r := range s.Rules {
				if r.Deny || r.Pass || r.Ref.Direction != dir {
					continue
				}
				anyPort, anyPeer := r, r
				anyPort.AnyPort, anyPeer.AnyPeer = true, true
				switch {
				case admits(p.Ref, s, anyPort, me, dir, them, proto, port):
					as := 1
					if !speaks(r, proto) && len(r.Unenforced) == 0 { // else its other part may well speak of it
						as = 3
					}
					consider(as, r, fmt.Sprintf("admits %s, but %s", peer.name, portList(r)))
				case admits(p.Ref, s, anyPeer, me, dir, them, proto, port):
					consider(2, r, fmt.Sprintf("allows %s, but not %s %s", portText(proto, port), preposition, peer.name))
				}
			}
		}
	}
	return best, rank < 4
}

// speaks says whether a rule allows anything at all of a protocol.
func speaks(r policy.Rule, proto uint8) bool {
	for _, p := range r.Ports {
		ported := proto == datapath.ProtoTCP || proto == datapath.ProtoUDP || proto == datapath.ProtoSCTP
		if p.Proto == proto || p.AnyProto && ported {
			return true
		}
	}
	for _, m := range r.ICMP {
		if m.IPv6 == (proto == datapath.ProtoICMPv6) && (m.IPv6 || proto == datapath.ProtoICMP) {
			return true
		}
	}
	return false
}

// admits says whether a rule by itself lets something pass.
func admits(ref policy.Ref, s policy.Spec, r policy.Rule, me policy.Party, dir datapath.Direction, them policy.Party, proto uint8, port uint16) bool {
	s.Rules = []policy.Rule{r}
	return policy.Evaluate([]policy.Policy{{Ref: ref, Specs: []policy.Spec{s}}}, me, dir, them, proto, port).Rule.Path != ""
}

func portText(proto uint8, port uint16) string {
	switch proto {
	case datapath.ProtoICMP, datapath.ProtoICMPv6:
		return fmt.Sprintf("%s type %d", datapath.ProtoName(proto), port)
	}
	return fmt.Sprintf("%d/%s", port, datapath.ProtoName(proto))
}

func portList(r policy.Rule) string {
	var out []string
	for _, p := range r.Ports {
		proto := "ANY"
		if !p.AnyProto {
			proto = datapath.ProtoName(p.Proto)
		}
		switch {
		case p.Name != "":
			out = append(out, p.Name+"/"+proto)
		case p.First == 0 && p.Last == 65535:
			out = append(out, proto)
		case p.First == p.Last:
			out = append(out, fmt.Sprintf("%d/%s", p.First, proto))
		default:
			out = append(out, fmt.Sprintf("%d-%d/%s", p.First, p.Last, proto))
		}
	}
	for _, m := range r.ICMP {
		proto := datapath.ProtoICMP
		if m.IPv6 {
			proto = datapath.ProtoICMPv6
		}
		out = append(out, portText(proto, uint16(m.Type)))
	}
	if out == nil {
		return "on no port at all"
	}
	return "only on " + strings.Join(out, ", ")
}
