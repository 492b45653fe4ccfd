package policy

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// outcome is what a set of applying specs comes to for endpoints with the same relevant named ports:
// one policy id. It does not change while it is in force.
type outcome struct {
	id       datapath.PolicyID
	key      string
	specs    []*spec
	ports    []NamedPort // of the endpoints, those that ingress rules ask for by name
	subjects map[*subject]struct{}
	fresh    bool // made in the flush under way

	dirs    [2]outcomeDir
	atoms   map[atomID]struct{} // of peers it names
	names   map[string]*portName
	cookies []datapath.Cookie
	cache   map[string]*template // by the part of a signature that the outcome can see
	base    *template            // of class 0
	rows    map[datapath.Class]*template
}

// outcomeDir is one direction of an outcome.
type outcomeDir struct {
	isolated  bool
	isolating []Ref
	fallback  datapath.PolicyRow // where no rule matches
	rules     []outcomeRule      // strongest first
	everyone  []int              // rules that no peer restricts
	byAtom    map[atomID][]int   // rules by the peers they name
}

type outcomeRule struct {
	contender
	named []namedSpan // egress: resolved for each class
}

// template is the rows of an outcome for a class, by direction. A direction that is judged as class 0
// is has none.
type template [2][]row

// outcomeKey is equal for endpoints with the same outcome.
func outcomeKey(specs []*spec, ports []NamedPort) (key string, relevant []NamedPort) {
	b := make([]byte, 0, 8*len(specs)+4)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(specs)))
	for _, s := range specs {
		b = binary.LittleEndian.AppendUint64(b, s.serial)
	}
	for _, p := range ports {
		for _, s := range specs {
			if _, ok := slices.BinarySearch(s.names, p.Name); ok {
				relevant = append(relevant, p)
				b = fmt.Appendf(b, "|%q/%d/%d", p.Name, p.Proto, p.Port)
				break
			}
		}
	}
	return string(b), relevant
}

// newOutcome compiles the specs. Peers and port names that come into use are reported to the
// functions.
func (c *Compiler) newOutcome(key string, specs []*spec, ports []NamedPort, freshPeer func(*atom), freshName func(*portName)) *outcome {
	o := &outcome{
		id: c.nextPolicyID(), key: key, specs: specs, ports: ports, fresh: true, subjects: map[*subject]struct{}{},
		atoms: map[atomID]struct{}{}, names: map[string]*portName{},
		cache: map[string]*template{}, rows: map[datapath.Class]*template{},
	}
	use := func(p keyedPeer) atomID {
		a, fresh := c.usePeer(p, o)
		if fresh {
			freshPeer(a)
		}
		o.atoms[a.id] = struct{}{}
		return a.id
	}
	cookie := func(name string, deny bool, v Verdict) datapath.Cookie {
		n := c.cookies.acquire(name, deny, v)
		o.cookies = append(o.cookies, n)
		return n
	}
	for d := range o.dirs {
		dir, od := datapath.Direction(d), &o.dirs[d]
		od.byAtom = map[atomID][]int{}
		for _, s := range specs {
			if [2]bool{s.IsolateIngress, s.IsolateEgress}[d] && !slices.Contains(od.isolating, s.ref) {
				od.isolating = append(od.isolating, s.ref)
			}
		}
		od.isolated = len(od.isolating) > 0
		od.fallback = datapath.PolicyRow{Allow: true}
		if od.isolated {
			v := Verdict{Isolating: od.isolating}
			od.fallback = datapath.PolicyRow{Cookie: cookie(isolationName(dir, od.isolating), false, v)}
		}
		take := func(r *specRule, t Tier) {
			or := outcomeRule{contender: contender{tier: t, pass: r.Pass, anyPort: r.AnyPort, spans: r.spans}}
			if !r.Pass {
				v := Verdict{Allowed: !r.Deny, Rule: r.Ref}
				or.decision = datapath.PolicyRow{Allow: !r.Deny, Cookie: cookie(ruleName(r.Ref, r.Deny), r.Deny, v)}
			}
			if dir == datapath.Egress {
				or.named = r.named
				for _, n := range r.named {
					pn, fresh := c.useName(n.name, o)
					if fresh {
						freshName(pn)
					}
					o.names[n.name] = pn
				}
			} else if len(r.named) > 0 {
				or.spans = resolveNames(slices.Clone(r.spans), r.named, ports)
			}
			od.add(or, r.everyone, r.peers, use)
		}
		tier := func(t Tier, wanted func(*specRule) bool) {
			for _, s := range specs {
				for i := range s.rules[d] {
					if r := &s.rules[d][i]; s.Tier == t && wanted(r) {
						take(r, t)
					}
				}
			}
		}
		all := func(*specRule) bool { return true }
		tier(TierAdmin, all)
		tier(TierOrdinary, func(r *specRule) bool { return r.Deny })
		tier(TierOrdinary, func(r *specRule) bool { return !r.Deny })
		if od.isolated && dir == datapath.Ingress {
			host := outcomeRule{contender: contender{anyPort: true}}
			host.decision = datapath.PolicyRow{Allow: true, Cookie: cookie(localHostName, false, Verdict{Allowed: true, Note: NoteLocalHost})}
			kind := entityPeer(EntityHost)
			od.add(host, false, []keyedPeer{{kind.key(), kind}}, use)
		}
		if !od.isolated {
			tier(TierBaseline, all)
		}
	}
	base := o.compile(nil, nil)
	o.base = &base
	return o
}

func (od *outcomeDir) add(r outcomeRule, everyone bool, peers []keyedPeer, use func(keyedPeer) atomID) {
	at := len(od.rules)
	od.rules = append(od.rules, r)
	if everyone {
		od.everyone = append(od.everyone, at)
		return
	}
	for _, p := range peers {
		id := use(p)
		od.byAtom[id] = append(od.byAtom[id], at)
	}
}

func resolveNames(spans []span, named []namedSpan, ports []NamedPort) []span {
	for _, n := range named {
		for _, p := range ports {
			if n.resolves(p) {
				spans = append(spans, span{p.Proto, p.Port, p.Port})
			}
		}
	}
	return spans
}

func (c *Compiler) nextPolicyID() datapath.PolicyID {
	for {
		serial := c.serial & datapath.MaxPolicySerial
		c.serial = (serial + 1) & datapath.MaxPolicySerial
		id := datapath.NewPolicyID(c.generation, serial)
		if _, taken := c.inForce[id]; serial != 0 && !taken {
			return id
		}
	}
}

// sees reduces a signature to what the outcome's rules can tell apart.
func (o *outcome) sees(c *Compiler, sig []atomID) (atoms []atomID, ports []NamedPort) {
	for _, id := range sig {
		if _, ok := o.atoms[id]; ok {
			atoms = append(atoms, id)
			continue
		}
		a := c.atomByID[id]
		if a != nil && a.kind == nil && o.names[a.port.Name] != nil {
			atoms = append(atoms, id)
			ports = append(ports, a.port)
		}
	}
	return atoms, ports
}

// template gives the rows for a class with this signature.
func (o *outcome) template(c *Compiler, sig []atomID) *template {
	atoms, ports := o.sees(c, sig)
	if len(atoms) == 0 {
		return &template{}
	}
	key := sigKey(atoms)
	if t := o.cache[key]; t != nil {
		return t
	}
	t := o.compile(atoms, ports)
	for d := range t {
		if slices.Equal(t[d], o.base[d]) {
			t[d] = nil
		}
	}
	if len(o.cache) > 2*len(o.rows)+64 { // most were for classes that are no more
		clear(o.cache)
	}
	o.cache[key] = &t
	return &t
}

func (o *outcome) compile(atoms []atomID, ports []NamedPort) template {
	var t template
	for d := range o.dirs {
		od := &o.dirs[d]
		matching := slices.Clone(od.everyone)
		for _, a := range atoms {
			matching = append(matching, od.byAtom[a]...)
		}
		slices.Sort(matching)
		matching = slices.Compact(matching)
		contenders := make([]contender, 0, len(matching))
		for _, i := range matching {
			r := od.rules[i].contender
			if len(od.rules[i].named) > 0 {
				r.spans = resolveNames(slices.Clone(r.spans), od.rules[i].named, ports)
			}
			contenders = append(contenders, r)
		}
		t[d] = resolve(contenders, od.fallback)
	}
	return t
}

// write puts the rows of a class into force, and appends the ops for it.
func (o *outcome) write(ops []Op, num datapath.Class, cl *class, t *template) []Op {
	if len(t[0])+len(t[1]) == 0 {
		return ops
	}
	o.rows[num] = t
	if cl != nil {
		cl.holders[o] = struct{}{}
	}
	for d, rows := range t {
		for _, r := range rows {
			ops = append(ops, PutRow{r.key(o.id, num, datapath.Direction(d)), r.PolicyRow})
		}
	}
	return ops
}

// erase is the reverse of write.
func (o *outcome) erase(ops []Op, num datapath.Class) []Op {
	t := o.rows[num]
	delete(o.rows, num)
	for d := range t {
		for _, r := range t[d] {
			ops = append(ops, DeleteRow{r.key(o.id, num, datapath.Direction(d))})
		}
	}
	return ops
}
