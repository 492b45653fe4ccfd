package fakes

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/kernel"
)

// Verdict is what became of a probe.
type Verdict struct {
	From, To string
	Addr     netip.Addr
	Port     uint16
	Protocol string

	Allowed bool // packets went there and back, be the answer a refusal because nobody listens
	Answer  kernel.Answer
	// Egress and Ingress say who decided, as far as a policy was asked; nil also while no agent runs that
	// could explain the rule.
	Egress, Ingress *policy.Verdict
	Reason          datapath.Reason // why packets were dropped
	// Note says what was not as it should be: the address families differ, another pod answered.
	Note  string
	Trace kernel.Trace // every packet at every hook
}

// String says what happened and by which rules.
func (v Verdict) String() string {
	s := "denied"
	if v.Allowed {
		s = "allowed"
	}
	var why []string
	if v.Egress != nil {
		why = append(why, "egress: "+v.Egress.String())
	}
	if v.Ingress != nil {
		why = append(why, "ingress: "+v.Ingress.String())
	}
	if v.Note != "" {
		why = append(why, v.Note)
	}
	switch {
	case len(why) > 0:
	case v.Reason != datapath.ReasonNone:
		why = append(why, fmt.Sprintf("drop reason %d", v.Reason))
	case v.Answer.Err != nil:
		why = append(why, v.Answer.Err.Error())
	default:
		return s
	}
	return s + " (" + strings.Join(why, "; ") + ")"
}

// Probe tries to reach a pod, node or Outside on every address family that both have, and tells who
// decided. Protocols are TCP, UDP and ICMP; the port of ICMP is ignored. When the families differ the
// denied one is told, with a note.
func (c *Cluster) Probe(from, to string, port uint16, protocol string) Verdict {
	var out Verdict
	addrs := c.common(from, to)
	if len(addrs) == 0 {
		return Verdict{From: from, To: to, Port: port, Protocol: protocol, Note: "no common address family"}
	}
	for i, a := range addrs {
		v := c.ProbeAddr(from, a, port, protocol)
		if by := v.Answer.By; by != "" && by != to && by != c.hostOf(to) {
			v.Note = by + " answered"
		}
		switch {
		case i == 0:
			out = v
		case v.Allowed != out.Allowed:
			if out.Allowed {
				out = v
			}
			out.Note = "the families differ"
		}
	}
	out.To = to
	return out
}

// ProbeAddr is Probe for one address, be it a pod's, a service's or any other.
func (c *Cluster) ProbeAddr(from string, to netip.Addr, port uint16, protocol string) Verdict {
	v := Verdict{From: from, To: to.String(), Addr: to, Port: port, Protocol: strings.ToUpper(protocol)}
	party := c.party(from)
	switch v.Protocol {
	case "TCP":
		var conn *kernel.Conn
		conn, v.Answer, v.Trace = c.fabric.Open(party, datapath.ProtoTCP, to, port)
		if v.Answer.Connected {
			conn.Close()
		}
	case "UDP":
		v.Answer, v.Trace = c.fabric.Dial(party, datapath.ProtoUDP, to, port)
	case "ICMP":
		v.Port = 0
		v.Answer, v.Trace = c.fabric.Ping(party, to)
	default:
		panic(fmt.Sprintf("fakes: protocol %q: TCP, UDP and ICMP are allowed", protocol))
	}
	v.Allowed = v.Answer.Connected || v.Answer.Refused
	if d := v.Trace.Drop(); d != nil {
		v.Reason = d.Reason
	}
	c.explain(&v)
	return v
}

// explain looks for the rules that decided in what the hooks reported.
func (c *Cluster) explain(v *Verdict) {
	for _, s := range v.Trace.Steps {
		if s.Result == nil {
			continue
		}
		for _, e := range s.Result.Events {
			if e.Reply || e.Type == datapath.EventClose {
				continue
			}
			refused := e.Type == datapath.EventDrop
			if e.EgressJudged && v.Egress == nil {
				v.Egress = c.rule(s.Node, e.EgressCookie, e.Reason, !(refused && e.Direction == datapath.Egress))
			}
			if e.IngressJudged && v.Ingress == nil {
				v.Ingress = c.rule(s.Node, e.IngressCookie, e.Reason, !(refused && e.Direction == datapath.Ingress))
			}
		}
	}
}

// rule explains a cookie: by its own node's agent, or, as rules have the same cookie everywhere, by
// another one. nil if nobody can.
func (c *Cluster) rule(node string, cookie datapath.Cookie, reason datapath.Reason, allowed bool) *policy.Verdict {
	switch {
	case !allowed && reason == datapath.ReasonNotReady:
		return &policy.Verdict{Note: policy.NoteNotReady}
	case cookie == 0:
		return &policy.Verdict{Allowed: allowed}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Patience)
	defer cancel()
	ask := append([]*Node{c.Node(node)}, c.nodes...)
	for _, n := range ask {
		a := n.Agent()
		if a == nil {
			continue
		}
		if v, err := a.Rule(ctx, cookie); err == nil {
			v.Allowed = allowed
			return &v
		}
	}
	return nil
}

// party is the name under which the fabric knows somebody: a pod on its node's own network is its node.
func (c *Cluster) party(name string) string {
	if host := c.hostOf(name); host != "" {
		return host
	}
	return name
}

func (c *Cluster) hostOf(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil && p.spec.HostNetwork {
		return p.node.Name
	}
	return ""
}

// Addrs are the addresses of a pod, a node or Outside.
func (c *Cluster) Addrs(name string) []netip.Addr {
	if name == Outside {
		return OutsideAddresses
	}
	if n := c.findNode(name); n != nil {
		return n.Addresses
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[name]
	switch {
	case p == nil:
		panic(fmt.Sprintf("fakes: no pod, node or machine %q", name))
	case !p.running:
		panic(fmt.Sprintf("fakes: pod %q does not run yet", name))
	}
	return slices.Clone(p.ips)
}

// Service lists the addresses of a service with a port of theirs, in the order of its frontends.
func (c *Cluster) Service(name string) []netip.AddrPort {
	for _, e := range c.store.Snapshot() {
		s, ok := e.(cluster.ServiceUpsert)
		if !ok || s.Service.Name.String() != name {
			continue
		}
		var out []netip.AddrPort
		for _, f := range s.Service.Frontends {
			if f.Addr.IsUnspecified() {
				continue // the nodes' addresses are not its own
			}
			out = append(out, netip.AddrPortFrom(f.Addr, f.Port))
		}
		return out
	}
	panic(fmt.Sprintf("fakes: no service %q", name))
}

// common are the addresses of a destination in families that the source has, too.
func (c *Cluster) common(from, to string) []netip.Addr {
	own := c.Addrs(from)
	return slices.DeleteFunc(slices.Clone(c.Addrs(to)), func(a netip.Addr) bool {
		return !slices.ContainsFunc(own, func(b netip.Addr) bool { return a.Is4() == b.Is4() })
	})
}

// Addr is the first address of a pod, a node or Outside; mostly the IPv4 one.
func (c *Cluster) Addr(name string) netip.Addr { return c.Addrs(name)[0] }

// Dial opens a connection to somebody's first address and tells who answered.
func (c *Cluster) Dial(from, to string, port uint16, proto uint8) (kernel.Answer, kernel.Trace) {
	return c.fabric.Dial(c.party(from), proto, c.Addr(to), port)
}

// Open is Dial and keeps the connection.
func (c *Cluster) Open(from, to string, port uint16, proto uint8) (*kernel.Conn, kernel.Answer, kernel.Trace) {
	return c.fabric.Open(c.party(from), proto, c.Addr(to), port)
}

// Ping sends an echo request to somebody's first address.
func (c *Cluster) Ping(from, to string) (kernel.Answer, kernel.Trace) {
	return c.fabric.Ping(c.party(from), c.Addr(to))
}
