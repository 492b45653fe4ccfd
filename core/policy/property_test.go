package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// tables executes ops and judges as docs/datapath.md says, with a linear search for the longest match.
type tables struct {
	rows    map[datapath.PolicyKey]datapath.PolicyRow
	classes map[datapath.ClassKey]datapath.Class
	policy  map[datapath.EndpointID]datapath.PolicyID
	index   map[tableIndex][]datapath.PolicyKey // of rows
}

type tableIndex struct {
	policy datapath.PolicyID
	class  datapath.Class
	dir    datapath.Direction
}

func newTables() *tables {
	return &tables{
		rows: map[datapath.PolicyKey]datapath.PolicyRow{}, classes: map[datapath.ClassKey]datapath.Class{},
		policy: map[datapath.EndpointID]datapath.PolicyID{}, index: map[tableIndex][]datapath.PolicyKey{},
	}
}

// do executes one op and says what is wrong with it, if anything is.
func (t *tables) do(op Op) error {
	switch op := op.(type) {
	case PutRow:
		if _, ok := t.rows[op.Key]; ok {
			return fmt.Errorf("row %s is overwritten", op.Key)
		}
		if op.Key.Port<<op.Key.PortBits != 0 && op.Key.PortBits < 16 || op.Key.AnyProto && (op.Key.Proto != 0 || op.Key.PortBits != 0) {
			return fmt.Errorf("row %s has bits outside its prefix", op.Key)
		}
		t.rows[op.Key] = op.Row
		i := tableIndex{op.Key.Policy, op.Key.Class, op.Key.Direction}
		t.index[i] = append(t.index[i], op.Key)
	case DeleteRow:
		if _, ok := t.rows[op.Key]; !ok {
			return fmt.Errorf("row %s is deleted but absent", op.Key)
		}
		delete(t.rows, op.Key)
		i := tableIndex{op.Key.Policy, op.Key.Class, op.Key.Direction}
		t.index[i] = slices.DeleteFunc(slices.Clone(t.index[i]), func(k datapath.PolicyKey) bool { return k == op.Key })
		if len(t.index[i]) == 0 {
			delete(t.index, i)
		}
	case SetClass:
		if t.classes[op.Key] == op.Class {
			return fmt.Errorf("%v is set to class %d which it has", op.Key, op.Class)
		}
		if op.Class == 0 {
			delete(t.classes, op.Key)
		} else {
			t.classes[op.Key] = op.Class
		}
	case SetPolicy:
		if t.policy[op.Endpoint] == op.Policy {
			return fmt.Errorf("endpoint %d is set to policy %d which it has", op.Endpoint, op.Policy)
		}
		if op.Policy == 0 {
			delete(t.policy, op.Endpoint)
		} else {
			t.policy[op.Endpoint] = op.Policy
		}
	}
	return nil
}

// judged is a kernel's decision.
type judged struct {
	ready, found bool
	row          datapath.PolicyRow
}

func (t *tables) judge(ep datapath.EndpointID, dir datapath.Direction, peer identity.ID, proto uint8, port uint16) judged {
	p := t.policy[ep]
	if p == 0 {
		return judged{}
	}
	class := t.classes[datapath.ClassKey{Generation: p.Generation(), Identity: peer}]
	row, ok := t.longest(tableIndex{p, class, dir}, proto, port)
	if !ok && class != 0 {
		row, ok = t.longest(tableIndex{p, 0, dir}, proto, port)
	}
	return judged{true, ok, row}
}

func (t *tables) longest(i tableIndex, proto uint8, port uint16) (datapath.PolicyRow, bool) {
	best := -1
	var row datapath.PolicyRow
	for _, k := range t.index[i] {
		bits := 72
		if !k.AnyProto {
			bits = 80 + int(k.PortBits)
		}
		if k.Covers(proto, port) && bits > best {
			best, row = bits, t.rows[k]
		}
	}
	return row, best >= 0
}

// world is what a compiler is told, as plain values, and the packets worth asking about.
type world struct {
	policies   map[Ref]Policy
	identities map[identity.ID]knownIdentity
	subjects   map[datapath.EndpointID]Party
}

type knownIdentity struct {
	identity.Identity
	ports []NamedPort
}

func newWorld() *world {
	return &world{policies: map[Ref]Policy{}, identities: map[identity.ID]knownIdentity{}, subjects: map[datapath.EndpointID]Party{}}
}

func (w *world) list() []Policy {
	var out []Policy
	for _, p := range w.policies {
		out = append(out, p)
	}
	return out
}

// clusterParty draws labels and named ports of a pod.
func drawPod(t *rapid.T) (labels.Set, []NamedPort) {
	ns := rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace")
	ls := []labels.Label{
		{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: ns},
		{Source: labels.SourceK8s, Key: labels.KeyCluster, Value: "default"},
	}
	for _, k := range []string{"app", "tier"} {
		if v := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, k); v != "" {
			ls = append(ls, labels.Label{Source: labels.SourceK8s, Key: k, Value: v})
		}
	}
	return labels.NewSet(ls...), drawNamedPorts(t)
}

func drawNamedPorts(t *rapid.T) []NamedPort {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) NamedPort {
		return NamedPort{
			Name:  rapid.SampledFrom([]string{"http", "dns"}).Draw(t, "name"),
			Proto: rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoICMP}).Draw(t, "proto"),
			Port:  rapid.SampledFrom([]uint16{53, 80, 8080}).Draw(t, "port"),
		}
	}), 0, 2).Draw(t, "namedPorts")
}

var testPrefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/25",
	"::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::5/128",
}

func drawPrefix(t *rapid.T, in netip.Prefix) netip.Prefix {
	var fit []netip.Prefix
	for _, s := range testPrefixes {
		if p := netip.MustParsePrefix(s); !in.IsValid() || contains(in, p) {
			fit = append(fit, p)
		}
	}
	return rapid.SampledFrom(fit).Draw(t, "prefix")
}

func drawSelector(t *rapid.T) labels.Selector {
	reqs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) labels.Requirement {
		r := labels.Requirement{
			Source:   rapid.SampledFrom([]string{labels.SourceAny, labels.SourceK8s}).Draw(t, "source"),
			Key:      rapid.SampledFrom([]string{"app", "tier", labels.KeyNamespace}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]labels.Operator{labels.In, labels.In, labels.NotIn, labels.Exists, labels.DoesNotExist}).Draw(t, "operator"),
		}
		values := []string{"a", "b", "c"}
		if r.Key == labels.KeyNamespace {
			values = []string{"shop", "bank"}
		}
		if r.Operator == labels.In || r.Operator == labels.NotIn {
			r.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 2).Draw(t, "values")
		}
		if rapid.IntRange(0, 19).Draw(t, "reserved") == 0 {
			r = labels.Requirement{Source: labels.SourceReserved, Key: rapid.SampledFrom([]string{"world", "host", "world-ipv4"}).Draw(t, "reservedKey"), Operator: r.Operator, Values: r.Values}
		}
		return r
	}), 0, 2).Draw(t, "requirements")
	sel, err := labels.NewSelector(reqs...)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func drawPeer(t *rapid.T) Peer {
	switch rapid.IntRange(0, 3).Draw(t, "peerKind") {
	case 0:
		return Peer{Entity: rapid.SampledFrom([]Entity{
			EntityAll, EntityWorld, EntityWorldIPv4, EntityWorldIPv6, EntityCluster, EntityHost,
			EntityRemoteNode, EntityKubeAPIServer, EntityInit, EntityNone,
		}).Draw(t, "entity")}
	case 1:
		p := Peer{CIDR: drawPrefix(t, netip.Prefix{})}
		for range rapid.IntRange(0, 2).Draw(t, "excepts") {
			p.Except = append(p.Except, drawPrefix(t, p.CIDR))
		}
		return p
	}
	sel := drawSelector(t)
	return Peer{Selector: &sel}
}

var borderPorts = []uint16{0, 1, 52, 53, 79, 80, 81, 443, 1023, 1024, 8079, 8080, 8081, 32767, 32768, 65534, 65535}

func drawPort(t *rapid.T) Port {
	p := Port{Proto: rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP, 47}).Draw(t, "proto")}
	if p.Proto == 47 {
		p.Last = 65535
		return p
	}
	p.AnyProto = rapid.IntRange(0, 3).Draw(t, "anyProto") == 0
	if p.AnyProto {
		p.Proto = 0
	}
	switch rapid.IntRange(0, 4).Draw(t, "portKind") {
	case 0:
		p.Name = rapid.SampledFrom([]string{"http", "dns", "none"}).Draw(t, "name")
	case 1:
		p.Last = 65535
	case 2:
		p.First = rapid.SampledFrom(borderPorts).Draw(t, "port")
		p.Last = p.First
	default:
		p.First = rapid.OneOf(rapid.SampledFrom(borderPorts), rapid.Uint16()).Draw(t, "first")
		p.Last = rapid.OneOf(rapid.SampledFrom(borderPorts), rapid.Uint16()).Draw(t, "last")
		if p.First > p.Last {
			p.First, p.Last = p.Last, p.First
		}
	}
	return p
}

func drawPolicy(t *rapid.T, ref Ref) Policy {
	p := Policy{Ref: ref}
	for s := range rapid.IntRange(1, 2).Draw(t, "specs") {
		spec := Spec{
			Subject:        drawSelector(t),
			IsolateIngress: rapid.Bool().Draw(t, "isolateIngress"),
			IsolateEgress:  rapid.Bool().Draw(t, "isolateEgress"),
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
			dir := rapid.SampledFrom([]datapath.Direction{datapath.Ingress, datapath.Egress}).Draw(t, "direction")
			r := Rule{Deny: rapid.IntRange(0, 3).Draw(t, "deny") == 0}
			word := dir.String()
			if r.Deny {
				word += "Deny"
			}
			r.Ref = RuleRef{Policy: ref, Direction: dir, Path: fmt.Sprintf("specs[%d].%s[%d]", s, word, i)}
			r.AnyPeer = rapid.IntRange(0, 4).Draw(t, "anyPeer") == 0
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				r.Peers = append(r.Peers, drawPeer(t))
			}
			r.AnyPort = rapid.IntRange(0, 3).Draw(t, "anyPort") == 0
			for range rapid.IntRange(0, 2).Draw(t, "ports") {
				r.Ports = append(r.Ports, drawPort(t))
			}
			if rapid.IntRange(0, 3).Draw(t, "icmp") == 0 {
				r.ICMP = append(r.ICMP, ICMP{IPv6: rapid.Bool().Draw(t, "icmp6"), Type: rapid.SampledFrom([]uint8{0, 8, 128, 255}).Draw(t, "type")})
			}
			spec.Rules = append(spec.Rules, r)
		}
		p.Specs = append(p.Specs, spec)
	}
	return p
}

// packets are protocols and ports on and beside every border of the rules.
func packets(policies ...[]Policy) [][2]uint16 {
	set := map[[2]uint16]bool{{uint16(datapath.ProtoTCP), 4711}: true, {uint16(datapath.ProtoUDP), 4711}: true, {47, 0}: true, {50, 0}: true}
	add := func(proto uint8, port uint16) {
		for _, p := range []uint16{port - 1, port, port + 1} {
			set[[2]uint16{uint16(proto), p}] = true
		}
	}
	for _, port := range []uint16{53, 80, 8080} {
		set[[2]uint16{uint16(datapath.ProtoTCP), port}] = true
		set[[2]uint16{uint16(datapath.ProtoUDP), port}] = true
		set[[2]uint16{uint16(datapath.ProtoICMP), port}] = true
	}
	for _, ps := range policies {
		for _, p := range ps {
			for _, s := range p.Specs {
				for _, r := range s.Rules {
					for _, port := range r.Ports {
						protos := []uint8{port.Proto}
						if port.AnyProto {
							protos = []uint8{datapath.ProtoTCP, datapath.ProtoSCTP}
						}
						for _, proto := range protos {
							add(proto, port.First)
							add(proto, port.Last)
						}
					}
					for _, m := range r.ICMP {
						add(datapath.ProtoICMP, uint16(m.Type))
						add(datapath.ProtoICMPv6, uint16(m.Type))
					}
				}
			}
		}
	}
	out := make([][2]uint16, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b [2]uint16) int { return slices.Compare(a[:], b[:]) })
	return out
}

// party is how the evaluator sees an identity. Identities of prefixes stand for an address inside
// that no longer prefix holds.
func (w *world) party(id knownIdentity) (Party, bool) {
	p := Party{Labels: id.Labels, Ports: id.ports}
	if !id.Prefix.IsValid() {
		return p, true
	}
	for a, n := id.Prefix.Addr(), 0; id.Prefix.Contains(a) && n < 3; n++ {
		var longer netip.Prefix
		for _, o := range w.identities {
			if o.Prefix.IsValid() && o.Prefix.Bits() > id.Prefix.Bits() && o.Prefix.Contains(a) && (!longer.IsValid() || o.Prefix.Bits() < longer.Bits()) {
				longer = o.Prefix
			}
		}
		if !longer.IsValid() {
			p.Addr = a
			return p, true
		}
		a = lastAddr(longer).Next()
	}
	return p, false // all of it belongs to longer prefixes
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// question is one packet at one endpoint.
type question struct {
	ep    datapath.EndpointID
	dir   datapath.Direction
	peer  identity.ID
	proto uint8
	port  uint16
}

func (w *world) questions(pk [][2]uint16) []question {
	var out []question
	for ep := range w.subjects {
		for id, k := range w.identities {
			if _, ok := w.party(k); !ok {
				continue
			}
			for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
				for _, p := range pk {
					out = append(out, question{ep, dir, id, uint8(p[0]), p[1]})
				}
			}
		}
	}
	return out
}

func (w *world) answer(q question) Verdict {
	peer, _ := w.party(w.identities[q.peer])
	return Evaluate(w.list(), w.subjects[q.ep], q.dir, peer, q.proto, q.port)
}

// machine drives a compiler and a world side by side.
type machine struct {
	c      *Compiler
	w      *world
	t      *tables
	before map[question]judged
	nextID identity.ID
	local  map[netip.Prefix]identity.ID
}

func newMachine() *machine {
	return &machine{c: NewCompiler(2, 100), w: newWorld(), t: newTables(), nextID: identity.MinLocal, local: map[netip.Prefix]identity.ID{}}
}

func (m *machine) upsertIdentity(id identity.Identity, ports []NamedPort) {
	m.c.UpsertIdentity(id, ports)
	m.w.identities[id.ID] = knownIdentity{id, ports}
}

func (m *machine) deleteIdentity(id identity.ID) {
	m.c.DeleteIdentity(id)
	delete(m.w.identities, id)
}

// takePrefixes gives prefixes identities, as the engine does.
func (m *machine) takePrefixes(t require.TestingT) {
	added, removed := m.c.TakePrefixes()
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
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1, 2:
		ref := rapid.SampledFrom(refs).Draw(t, "ref")
		p := drawPolicy(t, ref)
		m.c.UpsertPolicy(p)
		m.w.policies[ref] = p
		m.takePrefixes(t)
	case 3:
		ref := rapid.SampledFrom(refs).Draw(t, "ref")
		m.c.DeletePolicy(ref)
		delete(m.w.policies, ref)
		m.takePrefixes(t)
	case 4, 5:
		ep := datapath.EndpointID(rapid.IntRange(1, 3).Draw(t, "endpoint"))
		ls, ports := drawPod(t)
		m.c.UpsertSubject(ep, ls, ports)
		m.w.subjects[ep] = Party{Labels: ls, Ports: ports}
	case 6:
		ep := datapath.EndpointID(rapid.IntRange(1, 3).Draw(t, "endpoint"))
		m.c.DeleteSubject(ep)
		delete(m.w.subjects, ep)
	case 7, 8:
		id := identity.ID(rapid.IntRange(256, 259).Draw(t, "identity"))
		ls, ports := drawPod(t)
		m.upsertIdentity(identity.Identity{ID: id, Labels: ls}, ports)
	case 9:
		m.deleteIdentity(identity.ID(rapid.IntRange(256, 259).Draw(t, "identity")))
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
	ops := m.c.Flush()
	type step struct {
		q question
		j judged
	}
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

func TestTablesEqualRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		m.seed()
		ls, ports := drawPod(t)
		m.c.UpsertSubject(1, ls, ports)
		m.w.subjects[1] = Party{Labels: ls, Ports: ports}
		m.check(t, newWorld())
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			old := m.w.clone()
			for range rapid.IntRange(1, 4).Draw(t, "events") {
				m.step(t)
			}
			m.check(t, old)
		}

		scratch := NewCompiler(0, 1)
		for _, p := range m.w.policies {
			scratch.UpsertPolicy(p)
		}
		for _, id := range m.w.identities {
			scratch.UpsertIdentity(id.Identity, id.ports)
		}
		for ep, s := range m.w.subjects {
			scratch.UpsertSubject(ep, s.Labels, s.Ports)
		}
		scratch.Flush()
		for _, q := range m.w.questions(packets(m.w.list())) {
			require.Equal(t, m.c.Decide(q.ep, q.dir, q.peer, q.proto, q.port), scratch.Decide(q.ep, q.dir, q.peer, q.proto, q.port), "%+v", q)
		}
		require.Equal(t, scratch.rowCount(), m.c.rowCount(), "incremental and fresh tables have the same number of rows")
		require.Equal(t, len(scratch.classes), len(m.c.classes), "and of classes")
		require.Equal(t, len(m.t.rows), m.c.rowCount(), "what the compiler believes is what the ops made")

		m.empty(t)
	})
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
