package manifest

import (
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// What Cilium's policies can say and weir doesn't enforce. Such a part must have the form that Cilium asks for,
// or the object is refused as for any other mistake. Then it fails closed: the policy takes effect, isolates,
// and its other parts work; in an allow rule the part grants nothing, in a deny rule it denies
// everything that it could mean. Each is told by a warning.

// feature is something that a rule can ask for and that weir doesn't enforce.
type feature struct {
	name    string // as in "until weir enforces ..."
	instead string // what does it today
	// What it could mean at most, for deny rules: peers, and a word for them. Without peers, everyone.
	wider []policy.Peer
	word  string
}

const everyone = "everyone"

func entityPeers(es ...policy.Entity) []policy.Peer {
	out := make([]policy.Peer, len(es))
	for i, e := range es {
		out[i].Entity = e
	}
	return out
}

var (
	dnsNames      = feature{name: "rules by DNS name", instead: "name the addresses with toCIDR"}
	services      = feature{name: "rules by service", instead: "select the service's pods with toEndpoints, or its addresses with toCIDR", word: everyone}
	otherClusters = feature{name: "rules about other clusters", instead: "name their addresses as CIDRs", word: everyone}
	nodeLabels    = feature{name: "rules by the labels of nodes", instead: "name nodes by the entities host and remote-node",
		wider: entityPeers(policy.EntityHost, policy.EntityRemoteNode), word: "every node"}
	cloudGroups = feature{name: "rules by group of a cloud", instead: "name the addresses as CIDRs",
		wider: entityPeers(policy.EntityWorld), word: "everything outside the cluster"}
)

// entityClusterMesh stands for the clusters of a mesh; no rule keeps it.
const entityClusterMesh policy.Entity = "cluster-mesh"

// unenforced lets a part of a rule, which stands at the path below the rule, fail closed.
func unenforced(v value, path string, f feature, rule *policy.Rule) {
	rule.Unenforced = append(rule.Unenforced, path)
	if !rule.Deny {
		v.warn("grants nothing until weir enforces %s; %s", f.name, f.instead)
		return
	}
	v.warn("denies %s until weir enforces %s; %s", f.word, f.name, f.instead)
	rule.Peers = append(rule.Peers, f.wider...)
	rule.AnyPeer = rule.AnyPeer || f.wider == nil
}

// readUnenforcedPeers reads a list of peers of a kind that weir doesn't enforce.
func readUnenforcedPeers(list value, items []value, member string, rule *policy.Rule) {
	var f feature
	var read func(value)
	switch member {
	case "toFQDNs":
		f, read = dnsNames, func(v value) { readFQDN(v) }
	case "toServices":
		f, read = services, readServicePeer
	case "fromNodes", "toNodes":
		f, read = nodeLabels, func(v value) { v.requirements(nodeKey) }
	default: // fromGroups, toGroups
		f, read = cloudGroups, readCloudGroup
	}
	for _, item := range items {
		read(item)
	}
	unenforced(list, member, f, rule)
}

// readFQDN reads a selector of DNS names; any says that every name matches.
func readFQDN(v value) (any bool) {
	o, ok := v.strictObject("matchName", "matchPattern")
	if !ok {
		return false
	}
	name, pattern := o.get("matchName"), o.get("matchPattern")
	if name.absent() == pattern.absent() {
		v.bad("want exactly one of matchName, matchPattern")
	}
	if s, ok := name.text(); ok && !dottedName(s, "") {
		name.bad("%q is not a DNS name; want letters, digits, '-' and '_' between single dots, at most 255", clip(s))
	}
	s, ok := pattern.text()
	if ok && !dottedName(s, "*") {
		pattern.bad("%q is not a pattern of DNS names; want letters, digits, '-', '_' and '*' between single dots, at most 255", clip(s))
	}
	return s == "*"
}

// dottedName says whether s consists of letters, digits, '-', '_' and those of more, with single dots between or
// behind them.
func dottedName(s, more string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	dot := true // before the first
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isAlnum(c) || c == '-' || c == '_' || more != "" && c == more[0]:
			dot = false
		case c == '.' && !dot:
			dot = true
		default:
			return false
		}
	}
	return true
}

func readServicePeer(v value) {
	o, ok := v.strictObject("k8sService", "k8sServiceSelector")
	if !ok {
		return
	}
	if s, ok := o.get("k8sService").strictObject("serviceName", "namespace"); ok {
		s.get("serviceName").text()
		s.get("namespace").text()
	}
	if s, ok := o.get("k8sServiceSelector").strictObject("selector", "namespace"); ok {
		if s.get("selector").absent() {
			s.get("selector").bad("missing; want a label selector, {} for every service")
		}
		s.get("selector").requirements(nodeKey)
		s.get("namespace").text()
	}
}

func readCloudGroup(v value) {
	o, ok := v.strictObject("aws")
	if !ok {
		return
	}
	aws, ok := o.get("aws").strictObject("labels", "securityGroupsIds", "securityGroupsNames", "region")
	if !ok {
		return
	}
	aws.get("labels").textMap()
	aws.get("region").text()
	aws.get("securityGroupsIds").texts()
	aws.get("securityGroupsNames").texts()
}

// readAuthentication reads what the peers of an allow rule must prove of themselves. It returns false if the rule
// therefore has no peers.
func readAuthentication(v value, rule *policy.Rule) bool {
	o, ok := v.strictObject("mode")
	if !ok {
		return true
	}
	place := o.get("mode")
	switch mode, ok := place.text(); {
	case place.absent():
		place.bad("missing; allowed: disabled, required, test-always-fail")
	case !ok || mode == "disabled":
	case mode == "required" || mode == "test-always-fail":
		place.warn("the rule grants nothing until weir enforces mutual authentication; allowed now: disabled")
		rule.Unenforced = append(rule.Unenforced, "authentication")
		rule.Peers, rule.AnyPeer = nil, false
		return false
	default:
		place.bad("unknown mode %q; allowed: disabled, required, test-always-fail", clip(mode))
	}
	return true
}

// nodeKey reads the keys of selectors for things that are no pods: what Cilium's selectors take, but any label
// can tell them apart.
func nodeKey(at value, key string) (string, string, bool) {
	source, k, ok := ciliumKeyParts(at, key)
	return source, k, ok && (source != labels.SourceReserved || knownReserved(at, key, k))
}

// texts checks that the place is a list of strings, if anything.
func (v value) texts() {
	items, _ := v.list()
	for _, item := range items {
		item.text()
	}
}
