package sim

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// who is what one end of a connection may count as. unknown: an identity that the node knows no labels
// of: only rules that restrict no peer are about it.
type who struct {
	policy.Party
	unknown bool
}

func same(a, b who) bool {
	return a.unknown == b.unknown && a.Labels.Key() == b.Labels.Key() && a.Addr == b.Addr && slices.Equal(a.Ports, b.Ports)
}

func addWho(list []who, ws ...who) []who {
	for _, w := range ws {
		if !slices.ContainsFunc(list, func(o who) bool { return same(o, w) }) {
			list = append(list, w)
		}
	}
	return list
}

// opinion is what can come out of judging by any combination of what was true since some moment.
type opinion struct{ allow, deny bool }

func (o opinion) and(p opinion) opinion {
	return opinion{o.allow && p.allow, o.deny || p.deny}
}

func (o opinion) or(p opinion) opinion { return opinion{o.allow || p.allow, o.deny || p.deny} }

// effect is what one policy object says about one packet.
type effect struct{ deny, allow, isolates bool }

func effectOf(p *policy.Policy, subject who, dir datapath.Direction, peer who, proto uint8, port uint16) effect {
	if p == nil {
		return effect{}
	}
	q := *p
	if peer.unknown {
		q = onlyEveryone(q)
	}
	v := policy.Evaluate([]policy.Policy{q}, subject.Party, dir, peer.Party, proto, port)
	switch {
	case v.Rule.Path != "":
		return effect{deny: !v.Allowed, allow: v.Allowed}
	case v.Note != "":
		return effect{isolates: true} // the node's own exception is everybody's, see judge
	}
	return effect{isolates: !v.Allowed}
}

// onlyEveryone keeps the rules that restrict no peer.
func onlyEveryone(p policy.Policy) policy.Policy {
	p.Specs = slices.Clone(p.Specs)
	for i := range p.Specs {
		p.Specs[i].Rules = slices.DeleteFunc(slices.Clone(p.Specs[i].Rules), func(r policy.Rule) bool {
			return !r.AnyPeer && !slices.ContainsFunc(r.Peers, func(p policy.Peer) bool { return p.Entity == policy.EntityAll })
		})
	}
	return p
}

// judge weighs every combination: of subjects, of peers, of versions of each policy since lo.
func (v *view) judge(subjects []who, dir datapath.Direction, peers []who, proto uint8, port uint16, lo int) opinion {
	var o opinion
	var windows [][]*policy.Policy
	for _, ref := range v.refs {
		windows = append(windows, v.policies[ref].window(lo))
	}
	for _, s := range subjects {
		for _, p := range peers {
			host := dir == datapath.Ingress && p.Labels.Has(labels.SourceReserved, "host")
			o = o.or(judgeOne(windows, s, dir, p, proto, port, host))
			if o.allow && o.deny {
				return o
			}
		}
	}
	return o
}

func judgeOne(windows [][]*policy.Policy, s who, dir datapath.Direction, p who, proto uint8, port uint16, host bool) opinion {
	denies, mayNotDeny, allows, mayOpen, mayNotAllow, isolates := false, true, false, true, true, false
	for _, versions := range windows {
		noDeny, noDenyAllow, open, noAllow, isolating := false, false, false, false, false
		for _, q := range versions {
			e := effectOf(q, s, dir, p, proto, port)
			denies = denies || e.deny
			noDeny = noDeny || !e.deny
			noDenyAllow = noDenyAllow || e.allow
			open = open || !e.deny && !e.isolates
			noAllow = noAllow || !e.allow
			isolating = isolating || e.isolates
		}
		mayNotDeny = mayNotDeny && noDeny
		allows = allows || noDenyAllow
		// A policy that allows may isolate too, but then its allowing counts.
		mayOpen = mayOpen && open
		mayNotAllow = mayNotAllow && noAllow
		isolates = isolates || isolating
	}
	return opinion{
		allow: mayNotDeny && (allows || mayOpen || host),
		deny:  denies || mayNotAllow && isolates && !host,
	}
}

// verdict judges by what is true now, and names the rule.
func (v *view) verdict(subject who, dir datapath.Direction, peer who, proto uint8, port uint16) policy.Verdict {
	var all []policy.Policy
	for _, ref := range v.refs {
		if p := v.policies[ref].latest(); p != nil {
			if peer.unknown {
				all = append(all, onlyEveryone(*p))
			} else {
				all = append(all, *p)
			}
		}
	}
	return policy.Evaluate(all, subject.Party, dir, peer.Party, proto, port)
}

// podAs lists what a pod may count as at its node since lo.
func (n *node) podAs(c *container, lo int) []who {
	v := n.view
	pods := v.pods[c.pod].window(lo)
	spaces := v.namespaces[c.pod.Namespace].window(lo)
	there := slices.DeleteFunc(slices.Clone(pods), func(p *cluster.Pod) bool { return p == nil || p.Node != "" && p.Node != n.name })
	if len(there) < len(pods) {
		// A pod that is gone from the cluster, and not yet from its node, keeps the labels that it had.
		there, spaces = nil, v.namespaces[c.pod.Namespace].window(0)
		for _, p := range v.pods[c.pod].window(0) {
			if p != nil && (p.Node == "" || p.Node == n.name) {
				there = append(there, p)
			}
		}
	}
	var out []who
	for _, p := range there {
		for _, ns := range spaces {
			if ns == nil {
				ns = &cluster.Namespace{}
			}
			out = addWho(out, who{Party: policy.Party{Labels: cluster.PodLabels(*p, *ns), Ports: named(p.Ports)}})
		}
	}
	return out
}

func named(ports []policy.NamedPort) []policy.NamedPort {
	return slices.DeleteFunc(slices.Clone(ports), func(p policy.NamedPort) bool { return p.Name == "" })
}

// outside is an address that belongs to nothing in the cluster.
func outside(a netip.Addr) who { return who{Party: policy.Outside(a)} }

func reservedAs(id identity.ID) who {
	return who{Party: policy.Party{Labels: identity.ReservedIdentity(id).Labels}}
}

// local lists the containers that have an address at the node, or had it since lo.
func (n *node) local(a netip.Addr, lo int) (out []*container) {
	for _, list := range [][]*container{n.s.containers, n.s.former} {
		for _, c := range list {
			if c.node == n && c.claimed && c.boot == n.boots && slices.Contains(c.res.Addresses, a) && (c.to == 0 || c.to > lo) {
				out = append(out, c)
			}
		}
	}
	return out
}

// at lists whom the node may take an address for, since lo.
func (n *node) at(a netip.Addr, lo int) []who {
	v := n.view
	var out []who
	sure := false
	for _, c := range n.local(a, lo) {
		out = addWho(out, n.podAs(c, lo)...)
		sure = sure || c.to == 0 && c.from <= lo && n.settled(c, lo)
	}
	if sure {
		return n.withPorts(out, lo)
	}
	for _, name := range sortedKeys(v.nodes) {
		always, once := true, false
		for _, o := range v.nodes[name].window(lo) {
			has := o != nil && (slices.Contains(o.Addresses, a) || slices.Contains(o.Routers, a))
			always, once = always && has, once || has
		}
		if once {
			id := identity.RemoteNode
			if name == n.name {
				id = identity.Host
			}
			out = addWho(out, reservedAs(id))
		}
		sure = sure || always
	}
	if sure {
		return n.withPorts(out, lo)
	}
	for _, name := range sortedNames(v.endpoints) {
		always := true
		for _, e := range v.endpoints[name].window(lo) {
			if e == nil || e.Node == n.name || !slices.Contains(e.IPs, a) {
				always = false
				continue
			}
			as, known := n.identityAs(e.Identity, lo)
			out = addWho(out, as...)
			always = always && known
		}
		sure = sure || always
	}
	if !sure {
		out = addWho(out, outside(a))
	}
	return n.withPorts(out, lo)
}

// settled says whether a local pod has surely had its identity since lo.
func (n *node) settled(c *container, lo int) bool {
	return (c.phase == inForce || c.phase == running) && !slices.Contains(n.view.pods[c.pod].window(lo), nil)
}

// identityAs lists what an identity may mean at the node; known: it surely was known since lo.
func (n *node) identityAs(id identity.ID, lo int) (out []who, known bool) {
	if id.IsReserved() {
		return []who{reservedAs(id)}, true
	}
	known = true
	for _, ls := range n.view.identities[id].window(lo) {
		if ls == nil {
			known = false
			continue
		}
		out = addWho(out, who{Party: policy.Party{Labels: *ls}})
	}
	if !known { // an identity that is gone from the cluster stays as long as it has users
		for _, v := range n.view.identities[id] {
			if v.v != nil {
				out = addWho(out, who{Party: policy.Party{Labels: *v.v}})
			}
		}
	}
	return out, known
}

// carried lists what the sender of a tunnelled packet may count as by its VNI.
func (n *node) carried(vni uint32, lo int) []who {
	id := identity.ID(vni)
	if id == identity.Unknown || id == identity.Host {
		id = identity.RemoteNode
	}
	out, known := n.identityAs(id, lo)
	if !known {
		out = addWho(out, who{unknown: true})
	}
	return n.withPorts(out, lo)
}

// withPorts gives each the named ports of all that can't be told apart from it: by what is true now, and
// by anything that was true since lo.
func (n *node) withPorts(list []who, lo int) []who {
	var out []who
	for _, w := range list {
		if !w.Labels.Has(labels.SourceK8s, labels.KeyCluster) {
			out = addWho(out, w)
			continue
		}
		key := w.Labels.Key()
		for _, ports := range [][]policy.NamedPort{n.portsOf(key, n.view.now, false), n.portsOf(key, lo, false), n.portsOf(key, lo, true)} {
			w.Ports = ports
			out = addWho(out, w)
		}
	}
	return out
}

// portsOf joins the ports of whoever has these labels at some moment since lo, or has them always since then.
func (n *node) portsOf(key string, lo int, always bool) []policy.NamedPort {
	var out []policy.NamedPort
	take := func(ports []policy.NamedPort) {
		for _, p := range ports {
			if p.Name != "" && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	for _, name := range sortedNames(n.view.endpoints) {
		versions := n.view.endpoints[name].window(lo)
		if always && len(versions) > 1 {
			continue
		}
		for _, e := range versions {
			if e == nil || e.Node == n.name {
				continue
			}
			as, known := n.identityAs(e.Identity, lo)
			if slices.ContainsFunc(as, func(w who) bool { return w.Labels.Key() == key }) && (known || !always) {
				take(e.Ports)
			}
		}
	}
	for _, list := range [][]*container{n.s.containers, n.s.former} {
		for _, c := range list {
			if c.node != n || !c.claimed || c.boot != n.boots || c.to != 0 && c.to <= lo {
				continue
			}
			as := n.podAs(c, lo)
			if always && (len(as) > 1 || c.from > lo || c.to != 0 || !n.settled(c, lo)) {
				continue
			}
			for _, w := range as {
				if w.Labels.Key() == key {
					take(w.Ports)
				}
			}
		}
	}
	slices.SortFunc(out, policy.NamedPort.Compare)
	return out
}
