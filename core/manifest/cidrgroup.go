package manifest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// The translation of CiliumCIDRGroup (cilium.io/v2), and what policies make of it. A policy names groups in
// fromCIDRSet and toCIDRSet or selects them by their labels. It is resolved by the Assembler: what policies are
// judged by knows prefixes only.

// cidrGroupBody is a group. Nobody but policies is told of it.
type cidrGroupBody struct {
	labels   labels.Set
	prefixes []netip.Prefix // sorted, each once
}

func (cidrGroupBody) upserts() []cluster.Event { return nil }
func (cidrGroupBody) deletes() []cluster.Event { return nil }

func readCIDRGroup(_ *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec")
	g := cidrGroupBody{labels: groupLabelSet(md.labels)}
	spec, ok := top.get("spec").strictObject("externalCIDRs")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; want spec.externalCIDRs, a list of prefixes")
		}
		return g
	}
	if spec.get("externalCIDRs").absent() {
		spec.get("externalCIDRs").bad("missing; want a list of prefixes, [] for no address")
	}
	items, _ := spec.get("externalCIDRs").list()
	for _, item := range items {
		if p, ok := item.prefix(); ok {
			g.prefixes = append(g.prefixes, p)
		}
	}
	slices.SortFunc(g.prefixes, netip.Prefix.Compare)
	g.prefixes = slices.Compact(g.prefixes)
	return g
}

// groupUse is an entry of fromCIDRSet or toCIDRSet that stands for groups.
type groupUse struct {
	spec, rule int             // of the policy, by index
	name       string          // of the group; empty: selector
	selector   labels.Selector // of groups
	except     []netip.Prefix
	field      string // the entry's place
}

// groupKey reads the keys of selectors of groups: those of Cilium's selectors, also of labels that are no part of a
// pod's identity. Groups carry labels of Kubernetes alone.
func groupKey(at value, key string) (string, string, bool) { return nodeKey(at, key) }

// GroupUse is a place of a policy that stands for CIDR groups: for the one of a name, or for those with labels.
type GroupUse struct {
	Field    string
	name     string // empty: selector
	selector labels.Selector
}

// Means says whether the place stands for a group of this name and these labels.
func (u GroupUse) Means(name string, groupLabels map[string]string) bool {
	if u.name != "" {
		return u.name == name
	}
	return u.selector.Matches(groupLabelSet(groupLabels))
}

// Missing is what is to be said if there is no such group: a warning, the policy takes effect.
func (u GroupUse) Missing() cluster.Finding {
	f := cluster.Finding{Field: u.Field, Warning: true}
	if f.Message = fmt.Sprintf("selects no %s; it stands for no address", KindCiliumCIDRGroup); u.name != "" {
		f.Message = fmt.Sprintf("%s %s does not exist or is not valid; it stands for no address", KindCiliumCIDRGroup, u.name)
	}
	return f
}

// GroupUses lists the places of a policy that stand for CIDR groups, in its order; nil if it is not valid, or no policy.
func (o Object) GroupUses() []GroupUse {
	b, _ := o.body.(policyBody)
	var out []GroupUse
	for _, u := range b.groups {
		out = append(out, u.place())
	}
	return out
}

func (u groupUse) place() GroupUse {
	if u.name != "" {
		return GroupUse{Field: u.field + ".cidrGroupRef", name: u.name}
	}
	return GroupUse{Field: u.field + ".cidrGroupSelector", selector: u.selector}
}

func groupLabelSet(m map[string]string) labels.Set {
	var ls []labels.Label
	for _, k := range sortedKeys(m) {
		ls = append(ls, labels.Label{Source: labels.SourceK8s, Key: k, Value: m[k]})
	}
	return labels.NewSet(ls...)
}

// peers are what the use of these groups comes to: their prefixes without the exceptions. exceptFor says of each
// exception whether it has something to do with one of the prefixes.
func (u groupUse) peers(groups []cidrGroupBody) (out []policy.Peer, exceptFor []bool) {
	exceptFor = make([]bool, len(u.except))
	for _, g := range groups {
		for _, p := range g.prefixes {
			peer, whole := policy.Peer{CIDR: p}, false
			for i, e := range u.except {
				if !e.Overlaps(p) {
					continue
				}
				exceptFor[i] = true
				if e.Bits() <= p.Bits() {
					whole = true
				} else {
					peer.Except = append(peer.Except, e)
				}
			}
			if !whole {
				out = append(out, peer)
			}
		}
	}
	slices.SortFunc(out, func(a, b policy.Peer) int { return a.CIDR.Compare(b.CIDR) })
	// Two groups may hold one prefix; its exceptions are the same then.
	return slices.CompactFunc(out, func(a, b policy.Peer) bool { return a.CIDR == b.CIDR }), exceptFor
}
