package manifest

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// The translation of ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).
//
// In this dialect nothing is isolated: rules are asked in their order, and what none decides goes to the next
// tier. Peers are pods, nodes or networks, and a list of them is never empty. Networks speak of addresses, also
// of pods; identities don't know addresses, so here they are those outside the cluster, and 0.0.0.0/0 or ::/0
// are everybody.

const (
	maxTierRules    = 25
	maxTierPriority = 1000
)

func readClusterNetworkPolicy(_ *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec", "status")
	p := policy.Policy{Ref: policy.Ref{Kind: KindClusterNetworkPolicy, Name: md.name}}
	spec, ok := top.get("spec").strictObject("tier", "priority", "subject", "ingress", "egress")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; want tier, priority and subject")
		}
		return nil
	}
	s := policy.Spec{}
	switch tier, ok := spec.get("tier").text(); {
	case spec.get("tier").absent():
		spec.get("tier").bad("missing; allowed: Admin, Baseline")
	case !ok:
	case tier == "Admin":
		s.Tier = policy.TierAdmin
	case tier == "Baseline":
		s.Tier = policy.TierBaseline
	default:
		spec.get("tier").bad("unknown tier %q; allowed: Admin, Baseline", clip(tier))
	}
	if spec.get("priority").absent() {
		spec.get("priority").bad("missing; want a number from 0, asked first, to %d", maxTierPriority)
	}
	priority, _ := spec.get("priority").integer(0, maxTierPriority)
	s.Priority = int(priority)
	if reqs, ok := spec.get("subject").clusterPods(); ok {
		s.Subject = spec.get("subject").build(reqs)
	}
	for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
		rules, _ := spec.get(dir.String()).list()
		if len(rules) > maxTierRules {
			spec.get(dir.String()).bad("%d rules; allowed: %d", len(rules), maxTierRules)
		}
		for i, item := range rules {
			s.Rules = append(s.Rules, readTierRule(item, p.Ref, dir, fmt.Sprintf("%s[%d]", dir, i)))
		}
	}
	p.Specs = []policy.Spec{s}
	return policyBody{p}
}

// clusterPods reads the choice between namespaces and pods. Pods of the host's network are never meant.
func (v value) clusterPods() ([]labels.Requirement, bool) {
	o, ok := v.strictObject("namespaces", "pods")
	if !ok {
		if v.absent() {
			v.bad("missing; want one of namespaces, pods")
		}
		return nil, false
	}
	spaces, pods := o.get("namespaces"), o.get("pods")
	if spaces.absent() == pods.absent() {
		v.bad("want exactly one of namespaces, pods (namespaces: {} is every pod of the cluster)")
		return nil, false
	}
	return o.podsOf(spaces, pods)
}

func (o object) podsOf(spaces, pods value) ([]labels.Requirement, bool) {
	reqs := []labels.Requirement{anyNamespace()}
	if !spaces.absent() {
		return append(reqs, spaces.requirements(namespaceKey)...), true
	}
	both, ok := pods.strictObject("namespaceSelector", "podSelector")
	if !ok {
		return nil, false
	}
	if both.get("podSelector").absent() {
		both.get("podSelector").bad("missing; {} is every pod of the namespaces")
		return nil, false
	}
	reqs = append(reqs, both.get("namespaceSelector").requirements(namespaceKey)...)
	return append(reqs, both.get("podSelector").requirements(podKey)...), true
}

func readTierRule(v value, ref policy.Ref, dir datapath.Direction, path string) policy.Rule {
	rule := policy.Rule{Ref: policy.RuleRef{Policy: ref, Direction: dir, Path: path}}
	field := "from"
	if dir == datapath.Egress {
		field = "to"
	}
	o, ok := v.strictObject("name", "action", field, "protocols")
	if !ok {
		return rule
	}
	if s, ok := o.get("name").text(); ok && len(s) > 100 {
		o.get("name").bad("%d bytes; allowed: 100", len(s))
	}
	switch action, ok := o.get("action").text(); {
	case o.get("action").absent():
		o.get("action").bad("missing; allowed: Accept, Deny, Pass")
	case !ok || action == "Accept":
	case action == "Deny":
		rule.Deny = true
	case action == "Pass":
		rule.Pass = true
	default:
		o.get("action").bad("unknown action %q; allowed: Accept, Deny, Pass", clip(action))
	}
	peers, _ := o.get(field).list()
	if n := len(peers); n == 0 || n > maxTierRules {
		o.get(field).bad("%d peers; want 1 to %d", n, maxTierRules)
	}
	pods := true
	for _, item := range peers {
		found, onlyPods := readTierPeer(item, &rule, fmt.Sprintf("%s[%d]", field, item.index))
		rule.Peers = append(rule.Peers, found...)
		pods = pods && onlyPods
	}
	protocols, isList := o.get("protocols").list()
	if n := len(protocols); isList && (n == 0 || n > maxTierRules) {
		o.get("protocols").bad("%d protocols; want 1 to %d, or no list for all", n, maxTierRules)
	}
	rule.AnyPort = len(protocols) == 0
	for _, item := range protocols {
		if p, ok := readTierProtocol(item); ok {
			if p.Name != "" && !pods {
				item.bad("a port by name needs peers that are pods: nodes and networks have no named ports")
			}
			rule.Ports = append(rule.Ports, p)
		}
	}
	return rule
}

// readTierPeer reads one peer of a rule, which stands at the path and may be several of ours. What weir doesn't
// enforce fails closed as in a CiliumNetworkPolicy.
func readTierPeer(v value, rule *policy.Rule, path string) (out []policy.Peer, onlyPods bool) {
	allowed := []string{"namespaces", "pods"}
	if rule.Ref.Direction == datapath.Egress {
		allowed = append(allowed, "nodes", "networks", "domainNames")
	}
	o, ok := v.strictObject(allowed...)
	if !ok {
		return nil, true
	}
	set := 0
	for _, f := range allowed {
		if !o.get(f).absent() {
			set++
		}
	}
	if set != 1 {
		v.bad("names %d kinds of peers; want exactly one of %v", set, allowed)
		return nil, true
	}
	switch {
	case !o.get("nodes").absent():
		reqs := o.get("nodes").requirements(podKey)
		switch {
		case len(reqs) > 0 && rule.Pass: // neither more nor less of what is passed is safe
			o.get("nodes").bad("nodes can't be told apart by their labels; allowed in a rule that passes: {}, every node")
		case len(reqs) > 0:
			unenforced(o.get("nodes"), path+".nodes", tierNodeLabels, rule)
			return nil, false
		}
		return []policy.Peer{{Entity: policy.EntityHost}, {Entity: policy.EntityRemoteNode}}, false
	case !o.get("networks").absent():
		return readNetworks(o.get("networks")), false
	case !o.get("domainNames").absent():
		readDomainNames(o.get("domainNames"))
		if rule.Deny || rule.Pass {
			o.get("domainNames").bad("only possible in a rule that accepts")
		} else {
			unenforced(o.get("domainNames"), path+".domainNames", domainNames, rule)
		}
		return nil, false
	}
	reqs, ok := o.podsOf(o.get("namespaces"), o.get("pods"))
	if !ok {
		return nil, true
	}
	s := v.build(reqs)
	return []policy.Peer{{Selector: &s}}, true
}

var (
	domainNames    = feature{name: "rules by domain name", instead: "use networks"}
	tierNodeLabels = feature{name: "rules by the labels of nodes", instead: "{} is every node", wider: nodeLabels.wider, word: nodeLabels.word}
)

func readDomainNames(v value) {
	items, _ := v.list()
	if n := len(items); n == 0 || n > maxTierRules {
		v.bad("%d names; want 1 to %d", n, maxTierRules)
	}
	for _, item := range items {
		if s, ok := item.text(); ok && !dottedName(strings.TrimPrefix(s, "*."), "") {
			item.bad("%q is not a domain name; want letters, digits and '-' between single dots, perhaps after \"*.\"", clip(s))
		}
	}
}

func readNetworks(v value) (out []policy.Peer) {
	items, _ := v.list()
	if n := len(items); n == 0 || n > maxTierRules {
		v.bad("%d networks; want 1 to %d", n, maxTierRules)
	}
	for _, item := range items {
		p, ok := item.prefix()
		switch {
		case !ok:
		case p.Bits() == 0:
			item.warn("matches every pod and node as well, in both families: they are not told apart by address")
			out = append(out, policy.Peer{CIDR: p}, policy.Peer{Entity: policy.EntityCluster})
		default:
			item.warn("matches addresses outside the cluster; pods and nodes with such an address are judged by their labels")
			out = append(out, policy.Peer{CIDR: p})
		}
	}
	return out
}

func readTierProtocol(v value) (policy.Port, bool) {
	o, ok := v.strictObject("tcp", "udp", "sctp", "destinationNamedPort")
	if !ok {
		return policy.Port{}, false
	}
	p := policy.Port{Last: 65535}
	set := 0
	good := true
	for _, proto := range []struct {
		field string
		num   uint8
	}{{"tcp", datapath.ProtoTCP}, {"udp", datapath.ProtoUDP}, {"sctp", datapath.ProtoSCTP}} {
		if o.get(proto.field).absent() {
			continue
		}
		set++
		p.Proto = proto.num
		if at, ok := o.get(proto.field).strictObject("destinationPort"); !ok {
			good = false
		} else if at.get("destinationPort").absent() {
			o.get(proto.field).bad("want destinationPort; a range from 1 to 65535 is every port")
			good = false
		} else {
			good = at.get("destinationPort").tierPort(&p) && good
		}
	}
	if name := o.get("destinationNamedPort"); !name.absent() {
		set++
		s, ok := name.text()
		if !ok || !validPortName(s, 15) {
			name.bad("%q is not a port name; want at most 15 letters, digits and '-' with a letter in it", clip(s))
			good = false
		}
		p.Name, p.AnyProto, p.Last = s, true, 0
	}
	if set != 1 {
		v.bad("names %d protocols; want exactly one of tcp, udp, sctp, destinationNamedPort", set)
		return p, false
	}
	return p, good
}

// tierPort reads a number or a range of ports.
func (v value) tierPort(p *policy.Port) bool {
	o, ok := v.strictObject("number", "range")
	if !ok {
		return false
	}
	number, span := o.get("number"), o.get("range")
	if number.absent() == span.absent() {
		v.bad("want exactly one of number, range")
		return false
	}
	if !number.absent() {
		n, ok := number.integer(1, 65535)
		p.First, p.Last = uint16(n), uint16(n)
		return ok
	}
	r, ok := span.strictObject("start", "end")
	if !ok {
		return false
	}
	for _, f := range []string{"start", "end"} {
		if r.get(f).absent() {
			r.get(f).bad("missing; want a number from 1 to 65535")
			ok = false
		}
	}
	first, okFirst := r.get("start").integer(1, 65535)
	last, okLast := r.get("end").integer(1, 65535)
	if ok && okFirst && okLast && first >= last {
		r.get("end").bad("%d is not more than start, %d", last, first)
		ok = false
	}
	p.First, p.Last = uint16(first), uint16(last)
	return ok && okFirst && okLast
}
