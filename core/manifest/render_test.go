package manifest

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// renderPolicy writes a policy as lines, so that tests show what was understood.
func renderPolicy(p policy.Policy) []string {
	var out []string
	for _, s := range p.Specs {
		line := "for " + s.Subject.String()
		if s.Tier != policy.TierOrdinary {
			line += fmt.Sprintf(" in %s %d", s.Tier, s.Priority)
		}
		if s.IsolateIngress {
			line += " isolate-ingress"
		}
		if s.IsolateEgress {
			line += " isolate-egress"
		}
		out = append(out, line)
		for _, r := range s.Rules {
			out = append(out, renderRule(r))
		}
	}
	return out
}

func renderRule(r policy.Rule) string {
	verb := "allow"
	switch {
	case r.Deny:
		verb = "deny"
	case r.Pass:
		verb = "pass"
	}
	peers := []string{}
	for _, p := range r.Peers {
		switch {
		case p.Selector != nil:
			peers = append(peers, "{"+p.Selector.String()+"}")
		case p.Entity != "":
			peers = append(peers, string(p.Entity))
		default:
			s := p.CIDR.String()
			for _, e := range p.Except {
				s += " but " + e.String()
			}
			peers = append(peers, s)
		}
	}
	if r.AnyPeer {
		peers = append(peers, "anyone")
	}
	ports := []string{}
	for _, p := range r.Ports {
		proto := datapath.ProtoName(p.Proto)
		if p.AnyProto {
			proto = "ANY"
		}
		switch {
		case p.Name != "":
			proto += "/" + p.Name
		case p.First == 0 && p.Last == 65535:
		case p.First == p.Last:
			proto += fmt.Sprintf("/%d", p.First)
		default:
			proto += fmt.Sprintf("/%d-%d", p.First, p.Last)
		}
		ports = append(ports, proto)
	}
	for _, m := range r.ICMP {
		family := "ICMPv4"
		if m.IPv6 {
			family = "ICMPv6"
		}
		ports = append(ports, fmt.Sprintf("%s type %d", family, m.Type))
	}
	if r.AnyPort {
		ports = append(ports, "everything")
	}
	out := fmt.Sprintf("%s %s %s: [%s] [%s]", r.Ref.Direction, r.Ref.Path, verb, strings.Join(peers, ", "), strings.Join(ports, ", "))
	if len(r.Unenforced) > 0 {
		out += " but " + strings.Join(r.Unenforced, ", ")
	}
	return out
}

// renderFindings writes findings as "field: message" lines, warnings with a "warning: " in front.
func renderFindings(fs []cluster.Finding) []string {
	var out []string
	for _, f := range fs {
		line := f.Field + ": " + f.Message
		if f.Warning {
			line = "warning: " + line
		}
		out = append(out, line)
	}
	return out
}
