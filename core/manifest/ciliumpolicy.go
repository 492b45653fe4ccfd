package manifest

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// The translation of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2), layers
// 3 and 4.
//
// In this dialect an empty rule selects nobody, and the mere presence of rules in a direction
// isolates in it. A missing list of peers does not restrict if ports are given; a list that is there
// but empty matches nothing. What is valid and what weir doesn't enforce (HTTP rules, DNS names, ...) lets
// the rest of the policy take effect and itself fails closed: see ciliumunenforced.go.

func readCiliumPolicy(r *report, md metadata, top object) body {
	kind := KindCiliumNetworkPolicy
	if md.namespace == "" {
		kind = KindCiliumClusterwideNetworkPolicy
	}
	top.only("apiVersion", "kind", "metadata", "spec", "specs", "status")
	p := policy.Policy{Ref: policy.Ref{Kind: kind, Namespace: md.namespace, Name: md.name}}
	c := &ciliumReader{ref: p.Ref}
	specs, present := top.get("specs").list()
	if top.get("spec").absent() {
		switch {
		case top.get("specs").absent():
			r.bad("spec", "missing; want spec, one set of rules, or specs, a list of them")
		case present && len(specs) == 0:
			r.bad("specs", "empty; want spec, or at least one entry in specs")
		}
	}
	var nodes []value
	read := func(v value, prefix string) {
		c.spec = len(p.Specs)
		used := len(c.groups)
		s, node, ok := c.readSpec(v, prefix)
		switch {
		case ok && node.absent():
			p.Specs = append(p.Specs, s)
		case ok:
			nodes = append(nodes, node)
			fallthrough
		default:
			c.groups = c.groups[:used]
		}
	}
	read(top.get("spec"), "")
	for i, item := range specs {
		read(item, fmt.Sprintf("specs[%d].", i))
	}
	for _, n := range nodes {
		if len(p.Specs) == 0 {
			n.bad("policies for nodes are not supported; use endpointSelector")
		} else { // what is for pods must not stay open for it
			n.warn("nothing of this set of rules is in force, and nodes stay open: policies for nodes are not supported; use endpointSelector")
		}
	}
	return policyBody{policy: p, groups: c.groups}
}

// ciliumReader reads one object.
type ciliumReader struct {
	ref        policy.Ref
	spec, rule int // where it is, by the indexes in policy.Policy
	groups     []groupUse
}

// section is one of the four lists of rules.
type section struct {
	field string
	dir   datapath.Direction
	deny  bool
}

var sections = []section{
	{"ingress", datapath.Ingress, false},
	{"ingressDeny", datapath.Ingress, true},
	{"egress", datapath.Egress, false},
	{"egressDeny", datapath.Egress, true},
}

// readSpec reads one set of rules. prefix goes before the paths of its rules. One for nodes returns its
// selector of nodes.
func (c *ciliumReader) readSpec(v value, prefix string) (s policy.Spec, node value, ok bool) {
	ref := c.ref
	o, ok := v.strictObject("endpointSelector", "nodeSelector", "ingress", "ingressDeny", "egress", "egressDeny",
		"enableDefaultDeny", "labels", "description", "log")
	if !ok {
		return s, node, false
	}
	ep := o.get("endpointSelector")
	node = o.get("nodeSelector")
	switch {
	case !ep.absent() && !node.absent():
		v.bad("endpointSelector and nodeSelector exclude one another; keep one")
		node = value{}
	case !node.absent() && ref.Namespace != "":
		node.bad("only a CiliumClusterwideNetworkPolicy may select nodes; use endpointSelector")
		node = value{}
	case !node.absent():
		node.requirements(nodeKey)
	case ep.absent():
		ep.bad("missing; want a label selector, {} for every pod")
	default:
		s.Subject = ep.ciliumSubject(ref.Namespace)
	}

	present := false
	for _, sec := range sections {
		rules, has := o.get(sec.field).list()
		present = present || !o.get(sec.field).absent()
		if has && len(rules) == 0 {
			o.get(sec.field).warn("empty, so it says nothing; [{}] denies everything that no rule allows")
		}
		if len(rules) > 0 && sec.dir == datapath.Ingress {
			s.IsolateIngress = true
		}
		if len(rules) > 0 && sec.dir == datapath.Egress {
			s.IsolateEgress = true
		}
		for i, item := range rules {
			path := fmt.Sprintf("%s%s[%d]", prefix, sec.field, i)
			c.rule = len(s.Rules)
			s.Rules = append(s.Rules, c.readRule(item, sec, path))
		}
	}
	if !present {
		v.bad("holds no rules; want at least one of ingress, ingressDeny, egress, egressDeny")
	}
	if d, ok := o.get("enableDefaultDeny").strictObject("ingress", "egress"); ok {
		if on, ok := d.get("ingress").flag(); ok {
			s.IsolateIngress = on
		}
		if on, ok := d.get("egress").flag(); ok {
			s.IsolateEgress = on
		}
	}
	readCiliumNotes(o)
	return s, node, true
}

// readCiliumNotes checks the fields that don't decide anything.
func readCiliumNotes(o object) {
	o.get("description").text()
	items, _ := o.get("labels").list()
	for _, item := range items {
		if l, ok := item.strictObject("key", "value", "source", "cidr"); ok {
			l.get("key").text()
			l.get("value").text()
			l.get("source").text()
		}
	}
	if l, ok := o.get("log").strictObject("value"); ok {
		text, _ := l.get("value").text()
		if len([]rune(text)) > 32 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			l.get("value").bad("want at most 32 printable characters")
		}
	}
}

// l3Members are the kinds of peers by their name without "from" or "to". A rule has at most one.
var l3Members = []string{"Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes", "Groups", "Services", "FQDNs", "Requires"}

// l3Fields are the members as written in one direction.
func l3Fields(sec section) []string {
	var out []string
	for _, m := range l3Members {
		switch {
		case sec.dir == datapath.Egress:
			if m == "FQDNs" && sec.deny {
				continue
			}
			out = append(out, "to"+m)
		case m != "Services" && m != "FQDNs":
			out = append(out, "from"+m)
		}
	}
	return out
}

func (c *ciliumReader) readRule(v value, sec section, path string) policy.Rule {
	rule := policy.Rule{Ref: policy.RuleRef{Policy: c.ref, Direction: sec.dir, Path: path}, Deny: sec.deny}
	members := l3Fields(sec)
	allowed := append(append([]string(nil), members...), "toPorts", "icmps")
	if !sec.deny {
		allowed = append(allowed, "authentication")
	}
	o, ok := v.strictObject(allowed...)
	if !ok {
		return rule
	}
	anyMember := false
	used := ""
	groups := len(c.groups)
	for _, m := range members {
		items, present := o.get(m).list()
		if !present {
			continue
		}
		anyMember = true
		if len(items) == 0 {
			continue
		}
		if used != "" {
			v.bad("%s and %s can't stand in one rule; make them two rules", used, m)
		}
		used = m
		c.readPeers(o.get(m), items, m, &rule)
	}
	anyPorts := readCiliumPorts(o, sec, &rule)
	rule.AnyPort = !anyPorts
	// Without a word on peers a rule for ports is for everyone; a rule without a word on anything is
	// for no one.
	rule.AnyPeer = rule.AnyPeer || !anyMember && anyPorts
	if !sec.deny && !readAuthentication(o.get("authentication"), &rule) {
		c.groups = c.groups[:groups]
	}
	return rule
}

// readPeers adds one kind of peers to a rule.
func (c *ciliumReader) readPeers(list value, items []value, member string, rule *policy.Rule) {
	add := func(p policy.Peer) { rule.Peers = append(rule.Peers, p) }
	switch strings.TrimPrefix(strings.TrimPrefix(member, "from"), "to") {
	case "Endpoints":
		for _, item := range items {
			if _, ok := item.object(); ok {
				s := item.ciliumPeer(rule.Ref.Policy.Namespace)
				add(policy.Peer{Selector: &s})
			}
		}
	case "Entities":
		for i, item := range items {
			if e, ok := readEntity(item); ok && e == entityClusterMesh {
				unenforced(item, fmt.Sprintf("%s[%d]", member, i), otherClusters, rule)
			} else if ok {
				add(policy.Peer{Entity: e})
			}
		}
	case "CIDR":
		for _, item := range items {
			if p, ok := item.prefix(); ok {
				add(policy.Peer{CIDR: p})
			}
		}
	case "CIDRSet":
		for _, item := range items {
			if p, ok := c.readCIDRRule(item); ok {
				add(p)
			}
		}
	case "Requires":
		list.bad("no longer part of the API; join the requirement to the selectors of fromEndpoints or toEndpoints, or deny what lacks it with ingressDeny or egressDeny")
	default:
		readUnenforcedPeers(list, items, member, rule)
	}
}

var entities = []policy.Entity{
	policy.EntityAll, policy.EntityWorld, policy.EntityWorldIPv4, policy.EntityWorldIPv6, policy.EntityCluster,
	policy.EntityHost, policy.EntityRemoteNode, policy.EntityInit, policy.EntityIngress, policy.EntityUnmanaged,
	policy.EntityHealth, policy.EntityKubeAPIServer, policy.EntityNone, entityClusterMesh,
}

func readEntity(v value) (policy.Entity, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	names := make([]string, len(entities))
	for i, e := range entities {
		if string(e) == s {
			return e, true
		}
		names[i] = string(e)
	}
	v.bad("unknown entity %q; allowed: %s", clip(s), strings.Join(names, ", "))
	return "", false
}

// readCIDRRule reads an entry of fromCIDRSet or toCIDRSet. One that stands for CIDR groups is noted; ok is false then,
// since it is no peer yet.
func (c *ciliumReader) readCIDRRule(v value) (peer policy.Peer, ok bool) {
	o, ok := v.strictObject("cidr", "except", "cidrGroupRef", "cidrGroupSelector")
	if !ok {
		return peer, false
	}
	cidr, name, selector := o.get("cidr"), o.get("cidrGroupRef"), o.get("cidrGroupSelector")
	var set []string
	for _, v := range []value{cidr, name, selector} {
		if !v.absent() {
			set = append(set, v.key)
		}
	}
	switch {
	case len(set) == 0:
		cidr.bad(`missing; want a prefix like "10.0.0.0/8", or else cidrGroupRef or cidrGroupSelector`)
		return peer, false
	case len(set) > 1:
		v.bad("%s stand in one entry; want exactly one of cidr, cidrGroupRef, cidrGroupSelector", strings.Join(set, " and "))
		return peer, false
	case cidr.absent():
		c.readGroupUse(o)
		return peer, false
	}
	p, good := cidr.prefix()
	except, ok := readExcept(o, func(e value, x netip.Prefix) bool {
		if good && (x.Bits() < p.Bits() || !p.Contains(x.Addr())) {
			e.bad("%s is not a part of %s; every exception must lie inside the cidr", x, p)
			return false
		}
		return true
	})
	return policy.Peer{CIDR: p, Except: except}, ok && good
}

// readExcept reads exceptions that a check agrees with. ok is false if something is wrong with one.
func readExcept(o object, check func(value, netip.Prefix) bool) (out []netip.Prefix, ok bool) {
	ok = true
	items, _ := o.get("except").list()
	for _, e := range items {
		x, good := e.prefix()
		if good = good && check(e, x); good {
			out = append(out, x)
		}
		ok = ok && good
	}
	return out, ok
}

// readGroupUse reads an entry that stands for CIDR groups. What its exceptions lie in is for the groups to say.
func (c *ciliumReader) readGroupUse(o object) {
	u := groupUse{spec: c.spec, rule: c.rule, field: o.path()}
	if field := o.get("cidrGroupRef"); !field.absent() {
		var ok bool
		if u.name, ok = field.text(); ok && !validName(u.name) {
			field.bad("%q is not the name of a %s; want lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253", clip(u.name), KindCiliumCIDRGroup)
		}
	} else {
		u.selector = o.get("cidrGroupSelector").build(o.get("cidrGroupSelector").requirements(groupKey))
	}
	u.except, _ = readExcept(o, func(value, netip.Prefix) bool { return true })
	c.groups = append(c.groups, u)
}
