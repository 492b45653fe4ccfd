package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// tuple names a flow in the direction in which a packet of it went.
type tuple struct {
	proto        uint8
	src, dst     netip.Addr
	sport, dport uint16
}

func (t tuple) back() tuple { return tuple{t.proto, t.dst, t.src, t.dport, t.sport} }

func (t tuple) String() string {
	return fmt.Sprintf("%s %s > %s", datapath.ProtoName(t.proto), netip.AddrPortFrom(t.src, t.sport), netip.AddrPortFrom(t.dst, t.dport))
}

// opening is what is remembered of a flow that a packet opened at a node.
type opening struct {
	vni  uint32    // of the latest packet in that direction
	last time.Time // when the latest packet passed
}

// shortestLife is when an entry of a flow without traffic may be gone.
func shortestLife(proto uint8) time.Duration {
	if proto == datapath.ProtoTCP {
		return datapath.LifetimeTCPClosing * time.Second
	}
	return datapath.LifetimeOther * time.Second
}

func isEcho(p packet.Packet) (request, reply bool) {
	switch p.Proto {
	case datapath.ProtoICMP:
		return p.ICMPType == 8, p.ICMPType == 0
	case datapath.ProtoICMPv6:
		return p.ICMPType == 128, p.ICMPType == 129
	}
	return false, false
}

func isError(p packet.Packet) bool {
	request, reply := isEcho(p)
	return (p.Proto == datapath.ProtoICMP || p.Proto == datapath.ProtoICMPv6) && !request && !reply
}

func tupleOf(p packet.Packet) tuple {
	t := tuple{p.Proto, p.Src, p.Dst, p.SPort, p.DPort}
	if request, reply := isEcho(p); request || reply {
		t.sport, t.dport = p.ICMPID, p.ICMPID
	}
	return t
}

// question is one judgement that a hook should have made.
type question struct {
	subjects []who
	dir      datapath.Direction
	peers    []who
	port     uint16
	ready    bool // the subject surely has a policy in force
}

// checkTrace judges every step of every packet.
func (s *Sim) checkTrace(t kernel.Trace) {
	for _, st := range t.Steps {
		if st.Result == nil {
			s.trace("  %s: %s: %s", st.Node, st.Packet, st.Note)
			continue
		}
		s.trace("  %s %s: %s: %s", st.Node, st.Hook, st.Packet, st.Result)
		s.counts.hooks++
		if p, err := packet.Read(st.Frame); err == nil {
			s.checkStep(s.node(st.Node), st, p, t)
		}
	}
	s.observe(t)
}

func (s *Sim) checkStep(n *node, st kernel.Step, p packet.Packet, t kernel.Trace) {
	if st.Hook == kernel.FromHost || st.Hook == kernel.FromNetwork && st.Result.Action == kernel.Pass {
		return // not judged there
	}
	s.checkSender(n, st, p, t)
	if isError(p) {
		return // it goes with the flow whose packet it quotes, and carries nothing of its own
	}
	flow := tupleOf(p)
	fwd := n.forward(st, p, flow)
	_, reply := isEcho(p)
	var back []question
	o, opened := n.opened[flow.back()]
	if opened {
		back = n.backward(st, p, flow, o.vni, reply)
	}
	lo := n.view.clean
	f, b := n.answer(fwd, p.Proto, lo), n.answer(back, p.Proto, lo)
	if st.Result.Action != kernel.Drop {
		if len(fwd) == 0 && !opened {
			return // to the node itself: there is no policy
		}
		now := s.clock.Now()
		if opened && b.allow {
			// If the entry may have expired, this packet may have opened the flow anew, as its own.
			if f.allow && now.Sub(o.last) >= shortestLife(p.Proto) {
				n.opened[flow] = opening{st.Meta.VNI, now}
			}
			o.last = now
			n.opened[flow.back()] = o
			return
		}
		if !f.allow {
			s.failf("allowed", "%s %s: %s passed; no state since the kernel was last complete allows it (moment %d of %d)\n%s\n%s",
				n.name, st.Hook, flow, n.view.clean, n.view.now, n.explain(fwd, back, p.Proto), traceText(t))
			return
		}
		n.opened[flow] = opening{st.Meta.VNI, now}
		return
	}
	switch st.Result.Reason {
	case datapath.ReasonPolicyDenied, datapath.ReasonPolicyDeny:
		s.counts.drops++
		if !f.deny && !(opened && b.deny) {
			s.failf("denied", "%s %s: %s dropped by policy; every state since the kernel was last complete allows it (moment %d of %d); the agent names %s\n%s\n%s",
				n.name, st.Hook, flow, n.view.clean, n.view.now, n.named(st), n.explain(fwd, back, p.Proto), traceText(t))
			return
		}
		s.checkCookie(n, st, flow, fwd, back, p.Proto, t)
	case datapath.ReasonNotReady:
		if slices.ContainsFunc(fwd, func(q question) bool { return !q.ready }) || slices.ContainsFunc(back, func(q question) bool { return !q.ready }) {
			return
		}
		s.failf("denied", "%s %s: %s dropped: no policy in force for an endpoint that has one\n%s", n.name, st.Hook, flow, traceText(t))
	}
}

func (n *node) answer(qs []question, proto uint8, lo int) opinion {
	if len(qs) == 0 {
		return opinion{}
	}
	o := opinion{allow: true}
	for _, q := range qs {
		j := n.view.judge(q.subjects, q.dir, q.peers, proto, q.port, lo)
		if !q.ready {
			j.deny = true
		}
		o = o.and(j)
	}
	return o
}

// behind finds the container behind an interface.
func (n *node) behind(ifindex uint32) *container {
	for _, c := range n.s.containers {
		if c.node == n && c.inFabric() && c.link.Ifindex == ifindex {
			return c
		}
	}
	return nil
}

// ask makes the question about one pod of this node; no question if there is none at the address.
func (n *node) question(a netip.Addr, dir datapath.Direction, peers []who, port uint16) []question {
	lo := n.view.clean
	var q question
	for _, c := range n.local(a, lo) {
		q.subjects = addWho(q.subjects, n.podAs(c, lo)...)
		q.ready = q.ready || c.to == 0 && n.settled(c, lo)
	}
	if q.subjects == nil {
		return nil
	}
	q.dir, q.peers, q.port = dir, peers, port
	return []question{q}
}

// forward asks what the hook has to if the packet opens a flow.
func (n *node) forward(st kernel.Step, p packet.Packet, flow tuple) []question {
	port := p.DPort
	if p.Proto == datapath.ProtoICMP || p.Proto == datapath.ProtoICMPv6 {
		port = uint16(p.ICMPType)
	}
	lo := n.view.clean
	switch st.Hook {
	case kernel.FromPod:
		qs := n.question(flow.src, datapath.Egress, n.at(flow.dst, lo), port)
		if len(n.local(flow.dst, lo)) > 0 {
			in := n.question(flow.dst, datapath.Ingress, n.at(flow.src, lo), port)
			for i := range in { // its row may be gone: then nobody is asked
				if n.s.holds(n, flow.dst) {
					qs = append(qs, in[i])
				}
			}
		}
		return qs
	case kernel.FromOverlay:
		return n.question(flow.dst, datapath.Ingress, n.carried(st.Meta.VNI, lo), port)
	}
	return n.question(flow.dst, datapath.Ingress, n.at(flow.src, lo), port)
}

// backward asks what it has to if the packet answers a flow that the other side opened.
func (n *node) backward(st kernel.Step, p packet.Packet, flow tuple, vni uint32, echo bool) []question {
	port := p.SPort
	if echo {
		port = 8
		if p.Proto == datapath.ProtoICMPv6 {
			port = 128
		}
	}
	lo := n.view.clean
	initiator, other := flow.dst, flow.src
	var qs []question
	if len(n.local(initiator, lo)) > 0 {
		qs = append(qs, n.question(initiator, datapath.Egress, n.at(other, lo), port)...)
	}
	if st.Hook == kernel.FromPod {
		peers := n.at(initiator, lo)
		if vni != 0 {
			peers = addWho(peers, n.carried(vni, lo)...)
		}
		qs = append(qs, n.question(other, datapath.Ingress, peers, port)...)
	}
	return qs
}

// holds says whether the kernel has a row for a local address.
func (s *Sim) holds(n *node, a netip.Addr) bool {
	_, err := n.kernel.Tables().Endpoints.Get(a)
	return err == nil
}

// checkSender holds what a pod's packet claims to be against what the pod is.
func (s *Sim) checkSender(n *node, st kernel.Step, p packet.Packet, t kernel.Trace) {
	if st.Hook != kernel.FromPod || st.Result.Action != kernel.Tunnel {
		return
	}
	c := n.behind(st.Ifindex)
	if c == nil || !slices.Contains(c.res.Addresses, p.Src) {
		s.failf("sender", "%s: a packet from %s left through interface %d, which is not that pod's\n%s", n.name, p.Src, st.Ifindex, traceText(t))
		return
	}
	lo := n.view.clean
	for _, w := range n.podAs(c, lo) {
		for _, ls := range s.api.ever[identityID(st.Result.VNI)] {
			if ls.Key() == w.Labels.Key() {
				return
			}
		}
	}
	s.failf("sender", "%s: pod %s sends as identity %d, which its labels never were\n%s", n.name, c.pod, st.Result.VNI, traceText(t))
}

// checkCookie holds the rule that a drop names against the rules.
func (s *Sim) checkCookie(n *node, st kernel.Step, flow tuple, fwd, back []question, proto uint8, t kernel.Trace) {
	if n.agent == nil || !n.agent.Ready() || len(st.Result.Events) == 0 {
		return
	}
	ev := st.Result.Events[len(st.Result.Events)-1]
	cookie := ev.EgressCookie
	if ev.Direction == datapath.Ingress {
		cookie = ev.IngressCookie
	}
	v, ok := n.agent.Rule(cookie)
	explicit := st.Result.Reason == datapath.ReasonPolicyDeny
	switch {
	case cookie == 0 || !ok:
		s.failf("cause", "%s %s: %s dropped (reason %d) with cookie %#x, which nobody can explain\n%s", n.name, st.Hook, flow, st.Result.Reason, uint32(cookie), traceText(t))
		return
	case v.Allowed || explicit != (v.Rule.Path != ""):
		s.failf("cause", "%s %s: %s dropped (reason %d) by %q\n%s", n.name, st.Hook, flow, st.Result.Reason, v, traceText(t))
		return
	}
	if !n.view.isClean() {
		if explicit && !n.wasRule(v.Rule) {
			s.failf("cause", "%s %s: %s dropped by %q, which did not exist\n%s", n.name, st.Hook, flow, v, traceText(t))
		}
		return
	}
	for _, qs := range [][]question{fwd, back} {
		for _, q := range qs {
			if q.dir != ev.Direction {
				continue
			}
			for _, subject := range q.subjects {
				for _, peer := range q.peers {
					o := n.view.verdict(subject, q.dir, peer, proto, q.port)
					if !o.Allowed && o.String() == v.String() {
						s.counts.causes++
						return
					}
				}
			}
		}
	}
	s.failf("cause", "%s %s: %s dropped by %q (%s), which does not decide it\n%s\n%s", n.name, st.Hook, flow, v, ev.Direction, n.explain(fwd, back, proto), traceText(t))
}

// named is what the agent says about a drop.
func (n *node) named(st kernel.Step) string {
	if n.agent == nil {
		return "nothing: it does not run"
	}
	e, _ := n.agent.Rule(st.Result.Egress)
	i, _ := n.agent.Rule(st.Result.Ingress)
	return fmt.Sprintf("%q for egress, %q for ingress", e, i)
}

// wasRule says whether a rule existed since the node was last clean.
func (n *node) wasRule(r policy.RuleRef) bool {
	for _, p := range n.view.policies[r.Policy].window(n.view.clean) {
		if p == nil {
			continue
		}
		for _, sp := range p.Specs {
			if slices.ContainsFunc(sp.Rules, func(x policy.Rule) bool { return x.Ref == r }) {
				return true
			}
		}
	}
	return false
}

// explain writes the questions with their answers.
func (n *node) explain(fwd, back []question, proto uint8) string {
	out := ""
	for i, qs := range [][]question{fwd, back} {
		for _, q := range qs {
			out += fmt.Sprintf("%s %s port %d ready %v\n", []string{"opens", "answers"}[i], q.dir, q.port, q.ready)
			for _, subject := range q.subjects {
				for _, p := range q.peers {
					out += fmt.Sprintf("  %v %v\n  with %v %v %v unknown %v: %+v, now %s\n", subject.Labels.Strings(), subject.Ports, p.Labels.Strings(), p.Addr, p.Ports, p.unknown,
						n.view.judge([]who{subject}, q.dir, []who{p}, proto, q.port, n.view.clean), n.view.verdict(subject, q.dir, p, proto, q.port))
				}
			}
		}
	}
	return out
}
