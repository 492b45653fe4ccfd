package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// What the kinds for administrators have in common: ClusterNetworkPolicy, and AdminNetworkPolicy and
// BaselineAdminNetworkPolicy before it.
//
// In this dialect nothing is isolated: rules are asked in their order, and what none decides goes to the next
// tier. Peers are pods, nodes or networks, and a list of them is never empty. Networks speak of addresses, also
// of pods; identities don't know addresses, so here they are those outside the cluster, and 0.0.0.0/0 or ::/0
// are everybody.

// tierDialect is what these kinds do not have in common.
type tierDialect struct {
	most          int      // rules of a direction, peers and ports of a rule
	actions       []string // what allows, what denies and, if it can, what passes
	domainNames   bool     // are part of the API
	ports         string   // the field of a rule
	port          func(value) (policy.Port, bool)
	bothSelectors bool // pods are chosen by namespaceSelector and podSelector, none left out
}

// maxNetworks is how many networks a peer may list.
const maxNetworks = 25

// tierPriority reads the priority of a policy.
func (v value) tierPriority() int {
	if v.absent() {
		v.bad("missing; want a number from 0, asked first, to %d", maxTierPriority)
	}
	n, _ := v.integer(0, maxTierPriority)
	return int(n)
}

// readSubjectAndRules reads what all kinds have.
func (d tierDialect) readSubjectAndRules(spec object, ref policy.Ref, s *policy.Spec) {
	if reqs, ok := d.clusterPods(spec.get("subject")); ok {
		s.Subject = spec.get("subject").build(reqs)
	}
	for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
		rules, _ := spec.get(dir.String()).list()
		if len(rules) > d.most {
			spec.get(dir.String()).bad("%d rules; allowed: %d", len(rules), d.most)
		}
		for i, item := range rules {
			s.Rules = append(s.Rules, d.readRule(item, ref, dir, fmt.Sprintf("%s[%d]", dir, i)))
		}
	}
}

// clusterPods reads the choice between namespaces and pods. Pods of the host's network are never meant.
func (d tierDialect) clusterPods(v value) ([]labels.Requirement, bool) {
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
	return d.podsOf(spaces, pods)
}

func (d tierDialect) podsOf(spaces, pods value) ([]labels.Requirement, bool) {
	reqs := []labels.Requirement{anyNamespace()}
	if !spaces.absent() {
		return append(reqs, spaces.requirements(namespaceKey)...), true
	}
	both, ok := pods.strictObject("namespaceSelector", "podSelector")
	if !ok {
		return nil, false
	}
	if d.bothSelectors && both.get("namespaceSelector").absent() {
		both.get("namespaceSelector").bad("missing; {} is every namespace")
		return nil, false
	}
	if both.get("podSelector").absent() {
		both.get("podSelector").bad("missing; {} is every pod of the namespaces")
		return nil, false
	}
	reqs = append(reqs, both.get("namespaceSelector").requirements(namespaceKey)...)
	return append(reqs, both.get("podSelector").requirements(podKey)...), true
}

func (d tierDialect) readRule(v value, ref policy.Ref, dir datapath.Direction, path string) policy.Rule {
	rule := policy.Rule{Ref: policy.RuleRef{Policy: ref, Direction: dir, Path: path}}
	field := "from"
	if dir == datapath.Egress {
		field = "to"
	}
	o, ok := v.strictObject("name", "action", field, d.ports)
	if !ok {
		return rule
	}
	if s, ok := o.get("name").text(); ok && len(s) > 100 {
		o.get("name").bad("%d bytes; allowed: 100", len(s))
	}
	rule.Deny, rule.Pass = d.readAction(o.get("action"))
	peers, _ := o.get(field).list()
	if n := len(peers); n == 0 || n > d.most {
		o.get(field).bad("%d peers; want 1 to %d", n, d.most)
	}
	pods := true
	for _, item := range peers {
		found, onlyPods := d.readPeer(item, &rule, fmt.Sprintf("%s[%d]", field, item.index))
		rule.Peers = append(rule.Peers, found...)
		pods = pods && onlyPods
	}
	ports, isList := o.get(d.ports).list()
	if n := len(ports); isList && (n == 0 || n > d.most) {
		o.get(d.ports).bad("%d %s; want 1 to %d, or no list for all", n, d.ports, d.most)
	}
	rule.AnyPort = len(ports) == 0
	for _, item := range ports {
		if p, ok := d.port(item); ok {
			if p.Name != "" && !pods {
				item.bad("a port by name needs peers that are pods: nodes and networks have no named ports")
			}
			rule.Ports = append(rule.Ports, p)
		}
	}
	return rule
}

// readAction reads what becomes of what a rule matches: allowed, denied or passed.
func (d tierDialect) readAction(v value) (deny, pass bool) {
	action, ok := v.text()
	switch at := slices.Index(d.actions, action); {
	case v.absent():
		v.bad("missing; allowed: %s", strings.Join(d.actions, ", "))
	case !ok:
	case at < 0:
		v.bad("unknown action %q; allowed: %s", clip(action), strings.Join(d.actions, ", "))
	default:
		deny, pass = at == 1, at == 2
	}
	return deny, pass
}

// readPeer reads one peer of a rule, which stands at the path and may be several of ours. What weir doesn't
// enforce fails closed as in a CiliumNetworkPolicy.
func (d tierDialect) readPeer(v value, rule *policy.Rule, path string) (out []policy.Peer, onlyPods bool) {
	dir := rule.Ref.Direction
	allowed := []string{"namespaces", "pods"}
	if dir == datapath.Egress {
		allowed = append(allowed, "nodes", "networks")
	}
	if dir == datapath.Egress && d.domainNames {
		allowed = append(allowed, "domainNames")
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
		d.readDomainNames(o.get("domainNames"))
		if rule.Deny || rule.Pass {
			o.get("domainNames").bad("only possible in a rule with action %s", d.actions[0])
		} else {
			unenforced(o.get("domainNames"), path+".domainNames", domainNames, rule)
		}
		return nil, false
	}
	reqs, ok := d.podsOf(o.get("namespaces"), o.get("pods"))
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

func (d tierDialect) readDomainNames(v value) {
	items, _ := v.list()
	if n := len(items); n == 0 || n > d.most {
		v.bad("%d names; want 1 to %d", n, d.most)
	}
	for _, item := range items {
		if s, ok := item.text(); ok && !dottedName(strings.TrimPrefix(s, "*."), "") {
			item.bad("%q is not a domain name; want letters, digits and '-' between single dots, perhaps after \"*.\"", clip(s))
		}
	}
}

func readNetworks(v value) (out []policy.Peer) {
	items, _ := v.list()
	if n := len(items); n == 0 || n > maxNetworks {
		v.bad("%d networks; want 1 to %d", n, maxNetworks)
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

// tierRange reads a range of ports from an object that has start and end.
func (r object) tierRange(p *policy.Port) bool {
	ok := true
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
