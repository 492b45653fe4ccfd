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

// hints looks on both sides for allow rules that fail in one point only: one that admits the other
// end but not the port goes before one that admits the port but not the other end.
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
	them := j.party(peer, peer.kindFor(subject))
	preposition := "to"
	if dir == datapath.Ingress {
		preposition = "from"
	}
	var second *Hint
	for _, p := range j.policies {
		for _, s := range p.Specs {
			if !s.Subject.Matches(me.Labels) {
				continue
			}
			for _, r := range s.Rules {
				if r.Deny || r.Ref.Direction != dir {
					continue
				}
				if wide := r; !r.AnyPort {
					wide.AnyPort = true
					if admits(p.Ref, s, wide, me, dir, them, proto, port) {
						return Hint{dir, r.Ref, fmt.Sprintf("allows %s %s, but %s", preposition, peer.name, portList(r))}, true
					}
				}
				if wide := r; second == nil && !r.AnyPeer {
					wide.AnyPeer = true
					if admits(p.Ref, s, wide, me, dir, them, proto, port) {
						second = &Hint{dir, r.Ref, fmt.Sprintf("allows %s, but not %s %s", portText(proto, port), preposition, peer.name)}
					}
				}
			}
		}
	}
	if second == nil {
		return Hint{}, false
	}
	return *second, true
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
