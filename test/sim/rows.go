package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// expected computes a node's rows from scratch: a fresh engine, told everything at once.
func (s *Sim) expected(n *node) map[engine.Table]map[any]any {
	e := engine.New(n.name, engine.Adopted{}, s.clock.Now(), engine.WithRouting(s.routing), engine.WithNodePorts(), engine.WithHostPorts())
	tables := map[engine.Table]map[any]any{}
	apply := func(ev engine.Event) {
		for _, op := range e.Apply(s.clock.Now(), ev) {
			if tables[op.Table] == nil {
				tables[op.Table] = map[any]any{}
			}
			if op.Row == nil {
				delete(tables[op.Table], op.Key)
			} else {
				tables[op.Table][op.Key] = op.Row
			}
		}
	}
	for _, c := range s.containers {
		if c.node == n && c.inFabric() {
			apply(engine.Attach{Pod: c.pod, ID: c.res.ID, Ifindex: c.link.Ifindex, MAC: c.link.MAC, NodeMAC: c.link.NodeMAC, IPs: c.res.Addresses})
		}
	}
	for _, k := range s.api.keys {
		ev := s.api.objects[k]
		if up, ok := ev.(cluster.NodeUpsert); ok && up.Node.Name == n.name {
			up.Node.Routers = routersOf(up.Node)
			ev = up
		}
		apply(ev)
	}
	apply(n.deviceAddresses())
	apply(cluster.Synced{})
	return tables
}

// checkRows holds a quiet kernel against what it should hold.
func (s *Sim) checkRows(n *node) {
	s.checkDevices(n)
	want := s.expected(n)
	t := n.kernel.Tables()
	compare(s, n, "endpoints", want[engine.Endpoints], must(t.Endpoints.Dump()), plain)
	compare(s, n, "nodes", want[engine.Nodes], must(t.Nodes.Dump()), plain)
	compare(s, n, "ipcache", want[engine.IPCache], must(t.IPCache.Dump()), func(v any) any {
		row := v.(datapath.IPCache)
		if row.Identity.IsLocal() {
			row.Identity = identity.LocalFlag // numbers of prefixes are each agent's own
		}
		return row
	})
	if s.failure == nil {
		s.compareServices(n, want)
	}
	if routes, ok := want[engine.Routes][nil].([]engine.Route); ok {
		var as []ports.NodeRoute
		for _, r := range routes {
			as = append(as, ports.NodeRoute{Prefix: r.Prefix, Source: r.Source, Via: r.Via})
		}
		if !slices.Equal(as, n.network.Routes()) {
			s.failf("rows", "%s: routes are %v, want %v", n.name, n.network.Routes(), as)
		}
	}
	for _, a := range n.store.saved {
		if !slices.ContainsFunc(s.containers, func(c *container) bool { return c.id == a.ContainerID }) {
			s.failf("leak", "%s: attachment of container %s, which is gone, is remembered", n.name, a.ContainerID)
		}
	}
	s.checkPublished(n)
	s.checkPolicyRows(n)
}

func plain(v any) any { return v }

func compare[K comparable, V any](s *Sim, n *node, table string, want map[any]any, have []ports.Row[K, V], as func(any) any) {
	s.counts.rows += len(have)
	var wrong []string
	seen := 0
	for _, r := range have {
		w, ok := want[r.Key]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%v: %+v should not be there", r.Key, r.Value))
		case as(w) != as(r.Value):
			wrong = append(wrong, fmt.Sprintf("%v: is %+v, should be %+v", r.Key, r.Value, w))
		}
		if ok {
			seen++
		}
	}
	if seen < len(want) {
		for k, w := range want {
			if !slices.ContainsFunc(have, func(r ports.Row[K, V]) bool { return any(r.Key) == k }) {
				wrong = append(wrong, fmt.Sprintf("%v: %+v is missing", k, w))
			}
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		s.failf("rows", "%s: table %s:\n%s", n.name, table, strings.Join(wrong, "\n"))
	}
}

// compareServices compares frontends by where they lead: ids may differ where their hashes collide.
func (s *Sim) compareServices(n *node, want map[engine.Table]map[any]any) {
	t := n.kernel.Tables()
	lead := func(id, count uint32, slot func(datapath.SlotKey) (uint32, bool), backend func(uint32) (datapath.Backend, bool)) string {
		out := ""
		for i := uint32(1); i <= count; i++ {
			b, ok := slot(datapath.SlotKey{Service: id, Slot: i})
			row, ok2 := backend(b)
			out += fmt.Sprintf(" %v/%v/%v", row, ok, ok2)
		}
		return out
	}
	have := map[any]any{}
	for _, r := range must(t.Services.Dump()) {
		have[r.Key] = fmt.Sprint(r.Value.Count, r.Value.AffinityTimeout) + lead(r.Value.ID, r.Value.Count,
			func(k datapath.SlotKey) (uint32, bool) { v, err := t.Slots.Get(k); return v, err == nil },
			func(id uint32) (datapath.Backend, bool) { v, err := t.Backends.Get(id); return v, err == nil })
	}
	should := map[any]any{}
	for k, v := range want[engine.Services] {
		row := v.(datapath.Service)
		should[k] = fmt.Sprint(row.Count, row.AffinityTimeout) + lead(row.ID, row.Count,
			func(k datapath.SlotKey) (uint32, bool) { v, ok := want[engine.Slots][k].(uint32); return v, ok },
			func(id uint32) (datapath.Backend, bool) {
				v, ok := want[engine.Backends][id].(datapath.Backend)
				return v, ok
			})
	}
	if !maps.Equal(have, should) {
		s.failf("rows", "%s: services lead to\n%v\nshould lead to\n%v", n.name, have, should)
	}
	for _, c := range []struct {
		table      string
		have, want int
	}{
		{"slots", len(must(t.Slots.Dump())), len(want[engine.Slots])},
		{"backends", len(must(t.Backends.Dump())), len(want[engine.Backends])},
	} {
		if c.have != c.want {
			s.failf("rows", "%s: table %s has %d rows, should have %d", n.name, c.table, c.have, c.want)
		}
	}
}

// checkPublished looks whether the cluster knows the node's pods, and nothing else of it.
func (s *Sim) checkPublished(n *node) {
	each(s.api, func(e cluster.EndpointUpsert) {
		if e.Endpoint.Node == n.name && !slices.ContainsFunc(s.containers, func(c *container) bool { return c.node == n && c.pod == e.Endpoint.Name }) {
			s.failf("published", "%s: endpoint %s is published, its pod is not there", n.name, e.Endpoint.Name)
		}
	})
	for _, c := range s.containers {
		if c.node != n {
			continue
		}
		e, ok := s.api.objects["endpoint "+c.pod.String()].(cluster.EndpointUpsert)
		as := n.podAs(c, n.view.now)
		pod, _ := s.api.objects["pod "+c.pod.String()].(cluster.PodUpsert)
		switch {
		case !ok:
			s.failf("published", "%s: endpoint of pod %s is not published", n.name, c.pod)
		case e.Endpoint.Node != n.name || e.Endpoint.ID != uint16(c.res.ID) || !slices.Equal(e.Endpoint.IPs, c.res.Addresses) || !slices.Equal(e.Endpoint.Ports, pod.Pod.Ports):
			s.failf("published", "%s: endpoint of pod %s is published as %+v", n.name, c.pod, e.Endpoint)
		case len(as) != 1 || s.api.identities[e.Endpoint.Identity].Key() != as[0].Labels.Key():
			s.failf("published", "%s: endpoint of pod %s is published with identity %s, which is %v", n.name, c.pod, e.Endpoint.Identity, s.api.identities[e.Endpoint.Identity].Strings())
		default:
			if in, out := s.isolated(as[0].Labels); e.Endpoint.EnforceIngress != in || e.Endpoint.EnforceEgress != out {
				s.failf("published", "%s: endpoint of pod %s is published as isolated in ingress: %t, egress: %t; it is %t, %t", n.name, c.pod,
					e.Endpoint.EnforceIngress, e.Endpoint.EnforceEgress, in, out)
			}
		}
	}
}

// isolated reads from the policies in which directions they isolate who has such labels.
func (s *Sim) isolated(ls labels.Set) (ingress, egress bool) {
	for _, p := range s.policies() {
		for _, spec := range p.Specs {
			if spec.Tier == policy.TierOrdinary && spec.Subject.Matches(ls) {
				ingress, egress = ingress || spec.IsolateIngress, egress || spec.IsolateEgress
			}
		}
	}
	return ingress, egress
}

// ruleSet is the policy table, ready to be asked.
type ruleSet struct {
	words   map[datapath.EndpointID]datapath.EndpointPolicy
	classes map[datapath.ClassKey]datapath.Class
	rows    map[datapath.PolicyID][]ports.Row[datapath.PolicyKey, datapath.PolicyRow]
}

// decide reads the tables as their contract says, row by row.
func (r ruleSet) decide(ep datapath.EndpointID, dir datapath.Direction, peer identity.ID, proto uint8, port uint16) (row datapath.PolicyRow, found bool) {
	w := r.words[ep]
	class := r.classes[datapath.ClassKey{Generation: w.Policy.Generation(), Identity: peer}]
	for _, class := range []datapath.Class{class, 0} {
		best := -1
		for _, x := range r.rows[w.Policy] {
			k := x.Key
			bits := int(k.PortBits)
			if k.AnyProto {
				bits = -1
			}
			if k.Class == class && k.Direction == dir && k.Covers(proto, port) && (!found || bits > best) {
				row, found, best = x.Value, true, bits
			}
		}
		if found {
			return row, true
		}
	}
	return row, false
}

// samples are protocols and ports at which rules may change their minds.
var samples = []struct {
	proto uint8
	port  uint16
}{
	{6, 80}, {6, 8080}, {6, 53}, {6, 54}, {6, 443}, {6, 1}, {6, 0}, {6, 65535}, {6, 8079},
	{17, 53}, {17, 80}, {17, 54}, {132, 80}, {132, 8080}, {1, 8}, {1, 0}, {1, 3}, {58, 128}, {58, 129}, {58, 1}, {47, 0},
}

// checkPolicyRows holds the verdicts of a quiet kernel against the rules, for every endpoint and
// identity, and looks for rows that nothing leads to.
func (s *Sim) checkPolicyRows(n *node) {
	t := n.kernel.Tables()
	rs := ruleSet{words: map[datapath.EndpointID]datapath.EndpointPolicy{}, classes: map[datapath.ClassKey]datapath.Class{},
		rows: map[datapath.PolicyID][]ports.Row[datapath.PolicyKey, datapath.PolicyRow]{}}
	used, generations := map[datapath.PolicyID]bool{}, map[uint8]bool{}
	for _, r := range must(t.EndpointPolicy.Dump()) {
		rs.words[r.Key] = r.Value
		if r.Value.Policy != 0 {
			used[r.Value.Policy], generations[r.Value.Policy.Generation()] = true, true
		}
	}
	for _, r := range must(t.Policy.Dump()) {
		if !used[r.Key.Policy] {
			s.failf("leak", "%s: row %v of a policy that is in force nowhere", n.name, r.Key)
			return
		}
		rs.rows[r.Key.Policy] = append(rs.rows[r.Key.Policy], r)
	}
	for _, r := range must(t.Classes.Dump()) {
		rs.classes[r.Key] = r.Value
		if len(rs.words) > 0 && !generations[r.Key.Generation] {
			s.failf("leak", "%s: class of %v in a generation that no policy uses", n.name, r.Key)
			return
		}
	}
	peers := s.peersAt(n)
	ids := sortedKeys(peers)
	for _, c := range s.containers {
		if c.node != n || s.failure != nil {
			continue
		}
		as := n.podAs(c, n.view.now)
		if len(as) != 1 {
			s.failf("rows", "%s: pod %s has %d sets of labels", n.name, c.pod, len(as))
			return
		}
		if rs.words[c.res.ID].Policy == 0 {
			s.failf("rows", "%s: pod %s has no policy in force", n.name, c.pod)
			return
		}
		for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
			for _, id := range ids {
				for _, x := range samples {
					v := policy.Evaluate(s.policies(), as[0].Party, dir, peers[id], x.proto, x.port)
					row, found := rs.decide(c.res.ID, dir, id, x.proto, x.port)
					s.counts.pairs++
					if found && row.Allow == v.Allowed {
						if named, ok := n.agent.Rule(row.Cookie); !ok || named.String() != v.String() {
							s.failf("cause", "%s: pod %s %s peer %s %v proto %d port %d: the row names %q (known %v), the rules say %q",
								n.name, c.pod, dir, id, peers[id].Labels.Strings(), x.proto, x.port, named, ok, v)
							return
						}
						continue
					}
					s.failf("rows", "%s: pod %s %s peer %s %v proto %d port %d: the rows say %+v (found %v), the rules say %v by %s",
						n.name, c.pod, dir, id, peers[id].Labels.Strings(), x.proto, x.port, row, found, v.Allowed, v)
					return
				}
			}
		}
	}
}

func (s *Sim) policies() []policy.Policy {
	if s.policyCacheAt != s.changes {
		s.policyCache, s.policyCacheAt = nil, s.changes
		each(s.api, func(e cluster.PolicyUpsert) { s.policyCache = append(s.policyCache, e.Policy) })
		slices.SortFunc(s.policyCache, func(a, b policy.Policy) int { return a.Ref.Compare(b.Ref) })
	}
	return s.policyCache
}

// peersAt lists whoever the node may meet, by identity.
func (s *Sim) peersAt(n *node) map[identity.ID]policy.Party {
	out := map[identity.ID]policy.Party{}
	for _, id := range []identity.ID{identity.Host, identity.RemoteNode, identity.WorldIPv4, identity.WorldIPv6} {
		out[id] = policy.Party{Labels: identity.ReservedIdentity(id).Labels}
	}
	out[identity.WorldIPv4] = policy.Outside(netip.MustParseAddr("8.8.8.8"))
	out[identity.WorldIPv6] = policy.Outside(netip.MustParseAddr("2a00::1"))
	for _, r := range must(n.kernel.Tables().IPCache.Dump()) {
		id := r.Value.Identity
		switch {
		case id.IsLocal():
			out[id] = policy.Outside(s.addressOnlyIn(n, r.Key))
		case id.IsCluster():
			ls := s.api.identities[id]
			out[id] = policy.Party{Labels: ls, Ports: n.portsOf(ls.Key(), n.view.now, true)}
		}
	}
	return out
}

// addressOnlyIn finds an address of a prefix that no longer prefix of the ipcache holds.
func (s *Sim) addressOnlyIn(n *node, p netip.Prefix) netip.Addr {
	rows := must(n.kernel.Tables().IPCache.Dump())
	longest := func(a netip.Addr) netip.Prefix {
		best := netip.PrefixFrom(a, 0)
		for _, r := range rows {
			if r.Key.Contains(a) && r.Key.Bits() >= best.Bits() {
				best = r.Key
			}
		}
		return best
	}
	b := p.Addr().AsSlice()
	for i := range 256 { // try addresses that differ from the first one in the last, then the middle bytes
		for _, at := range []int{len(b) - 1, p.Bits() / 8} {
			c := slices.Clone(b)
			if at < len(c) {
				c[at] = b[at] ^ byte(i)
			}
			a, _ := netip.AddrFromSlice(c)
			if p.Contains(a) && longest(a) == p {
				return a
			}
		}
	}
	return p.Addr()
}
