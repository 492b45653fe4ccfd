package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// machine drives a compiler and a world side by side.
type machine struct {
	c      *Compiler
	w      *world
	t      *tables
	nextID identity.ID
	local  map[netip.Prefix]identity.ID
	calls  []func(*Compiler) []Op // all that was asked of the compiler
}

// call asks the compiler and remembers it.
func (m *machine) call(f func(*Compiler)) { m.flush(func(c *Compiler) []Op { f(c); return nil }) }

func (m *machine) flush(f func(*Compiler) []Op) []Op {
	m.calls = append(m.calls, f)
	return f(m.c)
}

func (m *machine) upsertPolicy(p Policy) {
	m.call(func(c *Compiler) { c.UpsertPolicy(p) })
	m.w.policies[p.Ref] = p
}

func (m *machine) deletePolicy(ref Ref) {
	m.call(func(c *Compiler) { c.DeletePolicy(ref) })
	delete(m.w.policies, ref)
}

func (m *machine) upsertSubject(ep datapath.EndpointID, ls labels.Set, ports []NamedPort) {
	m.call(func(c *Compiler) { c.UpsertSubject(ep, ls, ports) })
	m.w.subjects[ep] = Party{Labels: ls, Ports: ports}
}

func (m *machine) deleteSubject(ep datapath.EndpointID) {
	m.call(func(c *Compiler) { c.DeleteSubject(ep) })
	delete(m.w.subjects, ep)
}

func newMachine() *machine {
	return &machine{c: NewCompiler(2, 100), w: newWorld(), t: newTables(), nextID: identity.MinLocal, local: map[netip.Prefix]identity.ID{}}
}

func (m *machine) upsertIdentity(id identity.Identity, ports []NamedPort) {
	m.call(func(c *Compiler) { c.UpsertIdentity(id, ports) })
	m.w.identities[id.ID] = knownIdentity{id, ports}
}

func (m *machine) deleteIdentity(id identity.ID) {
	m.call(func(c *Compiler) { c.DeleteIdentity(id) })
	delete(m.w.identities, id)
}

// takePrefixes gives prefixes identities, as the engine does.
func (m *machine) takePrefixes(t require.TestingT) {
	var added, removed []netip.Prefix
	m.call(func(c *Compiler) { added, removed = c.TakePrefixes() })
	for _, p := range added {
		_, known := m.local[p]
		require.False(t, known, "prefix %s was reported before", p)
		m.local[p] = m.nextID
		m.upsertIdentity(identity.ForPrefix(m.nextID, p), nil)
		m.nextID++
	}
	for _, p := range removed {
		id, known := m.local[p]
		require.True(t, known, "prefix %s was never reported", p)
		m.deleteIdentity(id)
		delete(m.local, p)
	}
}

func (m *machine) step(t *rapid.T) {
	refs := []Ref{
		{"NetworkPolicy", "shop", "a"}, {"NetworkPolicy", "bank", "a"},
		{"CiliumNetworkPolicy", "shop", "b"}, {"CiliumClusterwideNetworkPolicy", "", "c"},
	}
	switch rapid.IntRange(0, 10).Draw(t, "event") {
	case 0, 1, 2:
		ref := rapid.SampledFrom(refs).Draw(t, "ref")
		m.upsertPolicy(drawPolicy(t, ref))
		m.takePrefixes(t)
	case 3:
		ref := rapid.SampledFrom(refs).Draw(t, "ref")
		m.deletePolicy(ref)
		m.takePrefixes(t)
	case 4, 5:
		ep := datapath.EndpointID(rapid.IntRange(1, 3).Draw(t, "endpoint"))
		ls, ports := drawPod(t)
		m.upsertSubject(ep, ls, ports)
	case 6:
		ep := datapath.EndpointID(rapid.IntRange(1, 3).Draw(t, "endpoint"))
		m.deleteSubject(ep)
	case 7, 8:
		id := identity.ID(rapid.IntRange(256, 259).Draw(t, "identity"))
		ls, ports := drawPod(t)
		m.upsertIdentity(identity.Identity{ID: id, Labels: ls}, ports)
	case 9:
		m.deleteIdentity(identity.ID(rapid.IntRange(256, 259).Draw(t, "identity")))
	case 10: // an API server comes to this node or to addresses that have an identity, or goes
		id := identity.ReservedIdentity(identity.Host)
		if known := slices.SortedFunc(maps.Keys(m.local), netip.Prefix.Compare); len(known) > 0 && rapid.Bool().Draw(t, "outside") {
			p := rapid.SampledFrom(known).Draw(t, "prefix")
			id = identity.ForPrefix(m.local[p], p)
		}
		if rapid.Bool().Draw(t, "serves") {
			id = id.ServingAPI()
		}
		m.upsertIdentity(id, nil)
	}
}

// check flushes, executes op by op and holds the tables against the evaluator and every step against
// the safety property.
func (m *machine) check(t require.TestingT, old *world) {
	pk := packets(old.list(), m.w.list())
	want := map[question]Verdict{}
	for _, q := range m.w.questions(pk) {
		want[q] = m.w.answer(q)
	}
	before := map[question]judged{}
	for ep := range old.subjects { // those that exist before and after
		for id := range old.identities {
			for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
				for _, p := range pk {
					q := question{ep, dir, id, uint8(p[0]), p[1]}
					if _, ok := want[q]; ok {
						before[q] = m.t.judge(q.ep, q.dir, q.peer, q.proto, q.port)
					}
				}
			}
		}
	}
	ops := m.flush((*Compiler).Flush)
	after := newTables()
	for k, v := range m.t.rows {
		require.NoError(t, after.do(PutRow{k, v}))
	}
	for k, v := range m.t.classes {
		after.classes[k] = v
	}
	for k, v := range m.t.policy {
		after.policy[k] = v
	}
	for _, op := range ops {
		require.NoError(t, after.do(op))
	}
	for q, w := range want {
		j := after.judge(q.ep, q.dir, q.peer, q.proto, q.port)
		if !j.ready || !j.found {
			t.Errorf("%+v: no row", q)
			t.FailNow()
		}
		v, ok := m.c.Rule(j.row.Cookie)
		v.Allowed = j.row.Allow
		if !ok || !sameVerdict(v, w) {
			t.Errorf("%+v: tables say %v %q, rules say %v %q", q, v.Allowed, v, w.Allowed, w)
			t.FailNow()
		}
		if d := m.c.Decide(q.ep, q.dir, q.peer, q.proto, q.port); !sameVerdict(d, w) {
			t.Errorf("%+v: Decide says %v %q, rules say %v %q", q, d.Allowed, d, w.Allowed, w)
			t.FailNow()
		}
	}
	for n, op := range ops {
		require.NoError(t, m.t.do(op))
		if _, ok := op.(SetPolicy); !ok {
			if _, ok := op.(SetClass); !ok && n+1 < len(ops) && sameType(op, ops[n+1]) && n%7 != 0 {
				continue // rows in a row: look at the last and some others
			}
		}
		for q, b := range before {
			j := m.t.judge(q.ep, q.dir, q.peer, q.proto, q.port)
			if j != b && j != after.judge(q.ep, q.dir, q.peer, q.proto, q.port) {
				t.Errorf("after op %d of %d (%T %+v) %+v is judged %+v: before %+v", n+1, len(ops), op, op, q, j, b)
				t.FailNow()
			}
		}
	}
}

func sameType(a, b Op) bool { return fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b) }

func sameVerdict(a, b Verdict) bool {
	return a.Allowed == b.Allowed && a.Rule == b.Rule && a.Note == b.Note && slices.Equal(a.Isolating, b.Isolating)
}

func (w *world) clone() *world {
	c := newWorld()
	for k, v := range w.policies {
		c.policies[k] = v
	}
	for k, v := range w.identities {
		c.identities[k] = v
	}
	for k, v := range w.subjects {
		c.subjects[k] = v
	}
	return c
}

func (m *machine) seed() {
	for _, id := range identity.Reserved() {
		switch id.ID {
		case identity.Host, identity.World, identity.WorldIPv4, identity.WorldIPv6, identity.RemoteNode, identity.KubeAPIServer:
			m.upsertIdentity(id, nil)
		}
	}
}

// rowCount is the number of rows that are believed to be in the table.
func (c *Compiler) rowCount() int {
	n := 0
	for _, o := range c.outcomes {
		for _, t := range o.rows {
			n += len(t[0]) + len(t[1])
		}
	}
	return n
}

// empty takes everything away and looks for leaks, in the tables and in the compiler.
func (m *machine) empty(t require.TestingT) {
	old := m.w.clone()
	for ref := range old.policies {
		m.c.DeletePolicy(ref)
	}
	for ep := range old.subjects {
		m.c.DeleteSubject(ep)
	}
	for id := range old.identities {
		m.c.DeleteIdentity(id)
	}
	for _, op := range m.c.Flush() {
		require.NoError(t, m.t.do(op))
	}
	m.c.TakePrefixes()
	require.Empty(t, m.t.rows)
	require.Empty(t, m.t.classes)
	require.Empty(t, m.t.policy)
	c := m.c
	left := []string{}
	for name, n := range map[string]int{
		"policies": len(c.policies), "spec index": c.specIndex.size(), "subjects": len(c.subjects), "identities": len(c.identities.all),
		"labels": len(c.identities.byLabel), "prefix identities": len(c.identities.prefixes), "dirty": len(c.dirtyIdentities) + len(c.dirtySubjects),
		"peers": c.peers.selectors.size() + len(c.peers.entities) + len(c.peers.cidrs.peers), "atoms": len(c.atoms) + len(c.atomByID),
		"names": len(c.names), "classes": len(c.classes) + len(c.classNos), "outcomes": len(c.outcomes) + len(c.inForce), "prefixes": len(c.prefixes) + len(c.touched),
	} {
		if n != 0 {
			left = append(left, fmt.Sprintf("%s: %d", name, n))
		}
	}
	slices.Sort(left)
	require.Empty(t, strings.Join(left, ", "))
	for _, e := range c.cookies.byName {
		require.Zero(t, e.refs, "uses of %q", e.name)
	}
}

func (x *selectorIndex[T]) size() int {
	return len(x.byPair) + len(x.byKey) + len(x.rest) + len(x.where)
}
