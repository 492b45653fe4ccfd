// Package matrix answers who can reach whom: it reads a cluster's objects and judges every pair of
// pods by the rules as their documentation says, with no kernel, identity or table in between. What
// a running cluster does with real packets must agree with it.
package matrix

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// World is the part of a cluster that decides who can reach whom. The zero value is an empty
// cluster. It has one caller.
type World struct {
	nodes      map[string]cluster.Node
	namespaces map[string]cluster.Namespace
	pods       map[cluster.Name]cluster.Pod
	policies   map[policy.Ref]policy.Policy
	apiServers cluster.APIServers

	judge *judge // prepared for the objects above; nil after a change
}

// New makes a world of the objects that the events leave behind.
func New(events []cluster.Event) *World {
	w := &World{}
	for _, e := range events {
		w.Apply(e)
	}
	return w
}

// Apply takes in one change. Events that do not matter here are ignored.
func (w *World) Apply(e cluster.Event) {
	if w.pods == nil {
		w.nodes, w.namespaces = map[string]cluster.Node{}, map[string]cluster.Namespace{}
		w.pods, w.policies = map[cluster.Name]cluster.Pod{}, map[policy.Ref]policy.Policy{}
	}
	switch e := e.(type) {
	case cluster.NodeUpsert:
		w.nodes[e.Node.Name] = e.Node
	case cluster.NodeDelete:
		delete(w.nodes, e.Name)
	case cluster.NamespaceUpsert:
		w.namespaces[e.Namespace.Name] = e.Namespace
	case cluster.NamespaceDelete:
		delete(w.namespaces, e.Name)
	case cluster.PodUpsert:
		w.pods[e.Pod.Name] = e.Pod
	case cluster.PodDelete:
		delete(w.pods, e.Name)
	case cluster.PolicyUpsert:
		w.policies[e.Policy.Ref] = e.Policy
	case cluster.PolicyDelete:
		delete(w.policies, e.Ref)
	default:
		if !w.apiServers.Apply(e) {
			return
		}
	}
	w.judge = nil
}

// Query narrows a matrix. The zero value asks for every port that the destination declares, with
// TCP and UDP, and with SCTP where the port is declared so.
type Query struct {
	Port  uint16 // only this port, declared or not; 0: the declared ones
	Proto uint8  // only this protocol; 0: see above. ICMP asks for echo requests, with no port
}

// Row says whether one end can open a connection to a port of the other.
type Row struct {
	From, To string         // namespace/name of a pod, or an address
	Port     uint16         // 0 for ICMP
	Proto    uint8          // TCP, UDP, SCTP, or ICMP for echo requests of both families
	Egress   policy.Verdict // of the policies of From
	Ingress  policy.Verdict // of the policies of To
}

// Allowed says whether both sides' policies let the connection pass.
func (r Row) Allowed() bool { return r.Egress.Allowed && r.Ingress.Allowed }

// Verdict is "allowed" or "denied".
func (r Row) Verdict() string {
	if r.Allowed() {
		return "allowed"
	}
	return "denied"
}

// Protocol is TCP, UDP, SCTP or ICMP.
func (r Row) Protocol() string {
	if r.Proto == datapath.ProtoICMP {
		return nameICMP
	}
	return datapath.ProtoName(r.Proto)
}

// MarshalJSON writes the row with the keys from, to, port, protocol, verdict, egress_rule and
// ingress_rule; the rules as policy.Verdict writes them.
func (r Row) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		From        string `json:"from"`
		To          string `json:"to"`
		Port        uint16 `json:"port"`
		Protocol    string `json:"protocol"`
		Verdict     string `json:"verdict"`
		EgressRule  string `json:"egress_rule"`
		IngressRule string `json:"ingress_rule"`
	}{r.From, r.To, r.Port, r.Protocol(), r.Verdict(), r.Egress.String(), r.Ingress.String()})
}

// Rows judges every ordered pair of distinct pods. Pods that have finished are left out. The rows
// are sorted by from, to, port and protocol (TCP, UDP, SCTP).
func (w *World) Rows(q Query) []Row {
	j := w.prepare()
	var out []Row
	for _, from := range j.pods {
		for _, to := range j.pods {
			if from == to {
				continue
			}
			for _, p := range q.ports(to.Ports) {
				out = append(out, j.row(podEnd(from), podEnd(to), p.proto, p.port))
			}
		}
	}
	return out
}

// Judge explains one connection; for ICMP, echo requests, and the port is not looked at. An end is the
// namespace/name of a pod, or an address: a pod's, a node's, or one outside the cluster. Echo requests of
// a pod that is named are those of both families, as in Rows; an address asks about its own. The error
// names the end that is neither.
func (w *World) Judge(from, to string, proto uint8, port uint16) (Row, error) {
	j := w.prepare()
	f, err := j.find(from)
	if err != nil {
		return Row{}, fmt.Errorf("from: %w", err)
	}
	t, err := j.find(to)
	if err != nil {
		return Row{}, fmt.Errorf("to: %w", err)
	}
	return j.row(f, t, proto, port), nil
}

// Pods lists the names of the pods that take part, sorted.
func (w *World) Pods() []string {
	var out []string
	for _, p := range w.prepare().pods {
		out = append(out, p.name)
	}
	return out
}

type protoPort struct {
	proto uint8
	port  uint16
}

// protoOrder sorts the protocols as people list them.
var protoOrder = []uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP}

// ports lists what to judge at a destination that declares these ports.
func (q Query) ports(declared []policy.NamedPort) []protoPort {
	if q.Proto == datapath.ProtoICMP {
		return []protoPort{{datapath.ProtoICMP, 0}}
	}
	sctp := map[uint16]bool{} // ports to judge, and whether with SCTP
	if q.Port != 0 {
		sctp[q.Port] = false
	}
	for _, p := range declared {
		if q.Port == 0 || p.Port == q.Port {
			sctp[p.Port] = sctp[p.Port] || p.Proto == datapath.ProtoSCTP
		}
	}
	var out []protoPort
	for port, withSCTP := range sctp {
		for _, proto := range protoOrder {
			asked := proto != datapath.ProtoSCTP || withSCTP
			if q.Proto != 0 {
				// A protocol that is named, with a port that is named, needs no declaration.
				asked = proto == q.Proto && (asked || q.Port != 0)
			}
			if asked {
				out = append(out, protoPort{proto, port})
			}
		}
	}
	slices.SortFunc(out, func(a, b protoPort) int {
		return cmp.Or(cmp.Compare(a.port, b.port),
			cmp.Compare(slices.Index(protoOrder, a.proto), slices.Index(protoOrder, b.proto)))
	})
	return out
}

// nameICMP stands for both families.
const nameICMP = "ICMP"

// ParseProto reads TCP, UDP, SCTP or ICMP, in any case. The error lists what is allowed.
func ParseProto(s string) (uint8, error) {
	if strings.EqualFold(s, nameICMP) {
		return datapath.ProtoICMP, nil
	}
	for _, p := range protoOrder {
		if strings.EqualFold(s, datapath.ProtoName(p)) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q is not allowed; allowed: TCP, UDP, SCTP, ICMP", s)
}

// find names an end: a pod by its name, or whatever has the address.
func (j *judge) find(s string) (end, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return j.address(a.Unmap()), nil
	}
	name, err := cluster.ParseName(s)
	if err != nil {
		return end{}, fmt.Errorf("%q is neither namespace/pod nor an address", s)
	}
	for _, p := range j.pods {
		if p.Name == name {
			return podEnd(p), nil
		}
	}
	return end{}, fmt.Errorf("there is no pod %s among the %d pods", name, len(j.pods))
}
