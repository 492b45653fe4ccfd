package matrix

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// judge is a world made ready for many questions. Pods that no rule can tell apart share a kind, and
// a question about two kinds is answered once.
type judge struct {
	pods     []*pod
	nodes    map[string]cluster.Node
	policies []policy.Policy
	servers  *cluster.APIServers
	shared   map[string][]policy.NamedPort // by labels: the named ports of all pods that have them
	answers  map[question]policy.Verdict
}

type pod struct {
	cluster.Pod
	name   string // as Pod.Name writes it
	labels labels.Set
	kind   int
}

type question struct {
	subject, peer int // kinds; negative for a peer that is no pod
	dir           datapath.Direction
	proto         uint8
	port          uint16
}

// Kinds of peers that are not pods.
const (
	kindHost       = -1
	kindRemoteNode = -2
	kindOutside    = -3 // differs by address: not remembered
	// Nodes that serve the API.
	kindHostAPI   = -4
	kindRemoteAPI = -5
)

// end is one end of a connection: a pod, a node, or an address outside.
type end struct {
	name  string
	pod   *pod
	node  string       // of a pod on the host network, or of a node's address
	addr  netip.Addr   // outside the cluster, when it is neither
	addrs []netip.Addr // all that are known
}

func podEnd(p *pod) end {
	e := end{name: p.name, node: p.Node, addrs: p.IPs}
	if !p.HostNetwork {
		e.pod = p
	}
	return e
}

func (w *World) prepare() *judge {
	if w.judge != nil {
		return w.judge
	}
	j := &judge{nodes: w.nodes, servers: &w.apiServers, shared: map[string][]policy.NamedPort{}, answers: map[question]policy.Verdict{}}
	for _, p := range w.policies {
		j.policies = append(j.policies, p)
	}
	slices.SortFunc(j.policies, func(a, b policy.Policy) int { return a.Ref.Compare(b.Ref) })
	for _, p := range w.pods {
		if p.Finished {
			continue
		}
		ns, ok := w.namespaces[p.Name.Namespace]
		if !ok {
			ns = cluster.Namespace{Name: p.Name.Namespace}
		}
		j.pods = append(j.pods, &pod{Pod: p, name: p.Name.String(), labels: cluster.PodLabels(p, ns)})
	}
	slices.SortFunc(j.pods, func(a, b *pod) int { return strings.Compare(a.name, b.name) })

	var kinds []*pod
	for _, p := range j.pods {
		if p.HostNetwork {
			continue // not an endpoint: its ports answer under the node's identity
		}
		p.kind = slices.IndexFunc(kinds, func(k *pod) bool {
			return k.labels.Key() == p.labels.Key() && slices.Equal(k.Ports, p.Ports)
		})
		if p.kind < 0 {
			p.kind = len(kinds)
			kinds = append(kinds, p)
		}
		for _, np := range p.Ports {
			if key := p.labels.Key(); !slices.Contains(j.shared[key], np) {
				j.shared[key] = append(j.shared[key], np)
			}
		}
	}
	w.judge = j
	return j
}

// address finds what an address belongs to.
func (j *judge) address(a netip.Addr) end {
	for _, p := range j.pods {
		if !p.HostNetwork && slices.Contains(p.IPs, a) {
			e := podEnd(p)
			e.addrs = []netip.Addr{a} // who names an address asks about its family
			return e
		}
	}
	for _, n := range j.nodes {
		if slices.Contains(n.Addresses, a) || slices.Contains(n.Routers, a) {
			return end{name: a.String(), node: n.Name, addrs: []netip.Addr{a}}
		}
	}
	return end{name: a.String(), addr: a, addrs: []netip.Addr{a}}
}

// row judges one connection. Policies apply to pods with a network of their own; the host's side of a
// connection is not judged.
func (j *judge) row(from, to end, proto uint8, port uint16) Row {
	if proto == datapath.ProtoICMP {
		return j.echo(from, to)
	}
	r := Row{From: from.name, To: to.name, Port: port, Proto: proto,
		Egress: policy.Verdict{Allowed: true}, Ingress: policy.Verdict{Allowed: true}}
	if from.pod != nil {
		r.Egress = j.side(from, datapath.Egress, to, proto, port)
	}
	if to.pod != nil {
		r.Ingress = j.side(to, datapath.Ingress, from, proto, port)
	}
	return r
}

// echo judges echo requests in the families that both ends have. They are different messages, so
// rules may part them: the one that is refused is shown.
func (j *judge) echo(from, to end) Row {
	var out Row
	for i, proto := range from.icmp(to) {
		r := Row{Egress: policy.Verdict{Allowed: true}, Ingress: policy.Verdict{Allowed: true}}
		if from.pod != nil {
			r.Egress = j.side(from, datapath.Egress, to, proto, echoRequest[proto])
		}
		if to.pod != nil {
			r.Ingress = j.side(to, datapath.Ingress, from, proto, echoRequest[proto])
		}
		if i == 0 || !r.Allowed() {
			out = r
		}
	}
	out.From, out.To, out.Proto = from.name, to.name, datapath.ProtoICMP
	return out
}

// echoRequest is the type of the message.
var echoRequest = map[uint8]uint16{datapath.ProtoICMP: 8, datapath.ProtoICMPv6: 128}

// icmp lists the protocols of the families that both ends have; IPv4 if nothing is known.
func (e end) icmp(o end) []uint8 {
	var out []uint8
	if e.has(netip.Addr.Is4) && o.has(netip.Addr.Is4) {
		out = append(out, datapath.ProtoICMP)
	}
	if e.has(netip.Addr.Is6) && o.has(netip.Addr.Is6) {
		out = append(out, datapath.ProtoICMPv6)
	}
	if len(out) == 0 {
		return []uint8{datapath.ProtoICMP}
	}
	return out
}

func (e end) has(family func(netip.Addr) bool) bool { return slices.ContainsFunc(e.addrs, family) }

// side asks the policies of the subject, which is a pod.
func (j *judge) side(subject end, dir datapath.Direction, peer end, proto uint8, port uint16) policy.Verdict {
	kind := j.kindFor(peer, subject)
	q := question{subject.pod.kind, kind, dir, proto, port}
	if v, ok := j.answers[q]; ok && kind != kindOutside {
		return v
	}
	v := policy.Evaluate(j.policies, policy.Party{Labels: subject.pod.labels, Ports: subject.pod.Ports},
		dir, j.party(peer, kind), proto, port)
	if kind != kindOutside {
		j.answers[q] = v
	}
	return v
}

// kindFor says what an end is to a subject: a pod, its own node, another node, or the outside.
func (j *judge) kindFor(e, subject end) int {
	kind, serving := kindRemoteNode, kindRemoteAPI
	switch {
	case e.pod != nil:
		return e.pod.kind
	case e.addr.IsValid():
		return kindOutside
	case e.node == subject.node:
		kind, serving = kindHost, kindHostAPI
	}
	if j.servers.On(j.nodes[e.node]) {
		return serving
	}
	return kind
}

func (j *judge) party(e end, kind int) policy.Party {
	switch kind {
	case kindOutside:
		p := policy.Outside(e.addr)
		if j.servers.Has(e.addr) {
			p.Labels = identity.Identity{Labels: p.Labels}.ServingAPI().Labels
		}
		return p
	case kindHost:
		return policy.Party{Labels: identity.ReservedIdentity(identity.Host).Labels}
	case kindHostAPI:
		return policy.Party{Labels: identity.ReservedIdentity(identity.Host).ServingAPI().Labels}
	case kindRemoteNode:
		return policy.Party{Labels: identity.ReservedIdentity(identity.RemoteNode).Labels}
	case kindRemoteAPI:
		return policy.Party{Labels: identity.ReservedIdentity(identity.KubeAPIServer).Labels}
	}
	return policy.Party{Labels: e.pod.labels, Ports: j.shared[e.pod.labels.Key()]}
}
