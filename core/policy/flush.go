package policy

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// flush is the work of one Flush.
type flush struct {
	c   *Compiler
	ops []Op

	subjects map[datapath.EndpointID]struct{} // whose outcome may have changed
	created  []*outcome
	switches []policySwitch
	idents   map[identity.ID]*member // whose signature may have changed
	extra    map[*member][]atomID    // what came into use and matches them

	moves   []classMove
	made    []*class            // new classes, in order
	emptied map[*class]struct{} // classes that lost a member
}

type policySwitch struct {
	sub *subject
	to  *outcome // nil: out of force
}

type classMove struct {
	m           *member
	to, through *class // through: nil unless the identity passes through a transit class
}

// Flush returns the writes that bring the tables from where the last Flush left them to what the
// policies, identities and endpoints are now. Executed in order, they leave every endpoint with a
// complete outcome at every step: for an endpoint and a peer that exist before and after, the verdict
// about each packet is the old one or the new one, never a third. An op that fails has to succeed
// before any op after it is executed.
//
// The order is: rows of policies in force for new classes; identities into their classes; rows of new
// policies; endpoints to their policies; rows of policies that no endpoint uses any more; classes
// merged that nothing in force tells apart any more.
func (c *Compiler) Flush() []Op {
	if len(c.dirtySubjects) == 0 && len(c.dirtyIdentities) == 0 {
		return nil
	}
	f := &flush{c: c, idents: c.dirtyIdentities, subjects: c.dirtySubjects, extra: map[*member][]atomID{}, emptied: map[*class]struct{}{}}
	// New maps rather than cleared ones: a map that once was large stays slow to walk.
	c.dirtyIdentities, c.dirtySubjects = map[identity.ID]*member{}, map[datapath.EndpointID]struct{}{}
	f.planSubjects()
	f.planIdentities()
	f.refine()
	f.switchOver()
	dropped, droppedNames := f.retire()
	f.coarsen(dropped, droppedNames)
	f.finish()
	return f.ops
}

// planSubjects finds the outcome of every endpoint that may have a new one, and makes those that do
// not exist yet.
func (f *flush) planSubjects() {
	c := f.c
	for _, ep := range slices.Sorted(maps.Keys(f.subjects)) {
		sub := c.subjects[ep]
		if sub.gone {
			c.apply(sub, nil)
			if sub.outcome != nil {
				f.switches = append(f.switches, policySwitch{sub, nil})
			}
			delete(c.subjects, ep)
			continue
		}
		if sub.stale {
			specs := c.specIndex.match(sub.labels, nil)
			slices.SortFunc(specs, (*spec).compare)
			c.apply(sub, slices.Compact(specs))
		}
		key, ports := outcomeKey(sub.applied, sub.ports)
		to := c.outcomes[key]
		if to == nil {
			to = f.create(key, sub.applied, ports)
		}
		if to != sub.outcome {
			f.switches = append(f.switches, policySwitch{sub, to})
		}
	}
}

func (f *flush) create(key string, specs []*spec, ports []NamedPort) *outcome {
	o := f.c.newOutcome(key, specs, ports,
		func(a *atom) {
			a.kind.candidates(f.c.identities, func(m *member) {
				if a.kind.matches(&m.ident) {
					f.gain(m, a)
				}
			})
		},
		func(n *portName) {
			for _, id := range slices.Sorted(maps.Keys(n.carried)) {
				m := n.carried[id]
				for _, p := range m.ports {
					if p.Name == n.name {
						f.gain(m, f.c.portAtom(p))
					}
				}
			}
		},
	)
	f.c.outcomes[key], f.c.inForce[o.id] = o, o
	f.created = append(f.created, o)
	return o
}

// gain notes that an identity matches what came into use.
func (f *flush) gain(m *member, a *atom) {
	f.idents[m.ident.ID] = m
	f.extra[m] = append(f.extra[m], a.id)
}

// apply records which specs select an endpoint.
func (c *Compiler) apply(sub *subject, specs []*spec) {
	for _, s := range sub.applied {
		delete(s.subjects, sub)
	}
	sub.applied, sub.stale = specs, false
	for _, s := range specs {
		s.subjects[sub] = struct{}{}
	}
}

// planIdentities finds the class of every identity that may have a new one.
func (f *flush) planIdentities() {
	c := f.c
	ids := slices.Sorted(maps.Keys(f.idents))
	sigs := make([][]atomID, len(ids))
	relabelled := make([]bool, len(ids))
	transit := false
	for i, id := range ids {
		m := f.idents[id]
		if m.gone {
			continue
		}
		if !m.changed {
			sigs[i] = extend(m.class.signature(), f.extra[m])
			continue
		}
		sigs[i] = c.sign(m)
		relabelled[i] = !m.fresh && f.relabelled(m.class.signature(), sigs[i])
		transit = transit || relabelled[i]
	}
	transit = transit && slices.ContainsFunc(f.switches, func(s policySwitch) bool { return s.to != nil && s.sub.outcome != nil })
	if transit {
		f.renew()
	}
	passages := map[[2]*class]*class{}
	for i, id := range ids {
		m := f.idents[id]
		to, made := c.classFor(sigs[i])
		if made {
			f.made = append(f.made, to)
		}
		if to == m.class {
			continue
		}
		mv := classMove{m: m, to: to}
		if transit && relabelled[i] {
			way := [2]*class{m.class, to}
			if passages[way] == nil {
				cl := c.newClass(sigs[i])
				cl.transit, cl.was = true, m.class.signature()
				passages[way] = cl
				f.made = append(f.made, cl)
			}
			mv.through = passages[way]
		}
		f.moves = append(f.moves, mv)
	}
}

// relabelled says whether a signature changed in what outcomes in force before this flush can see.
// Atoms that came into use with this flush do not count.
func (f *flush) relabelled(was, now []atomID) bool {
	old := make([]atomID, 0, len(now))
	for _, a := range now {
		if !f.c.atomByID[a].fresh {
			old = append(old, a)
		}
	}
	return !slices.Equal(was, old)
}

// renew makes copies of the outcomes in force that endpoints are about to switch to, and switches
// their other endpoints to the copies too. An identity in transit is judged in the old way by
// outcomes that were in force and in the new way by new ones, so that an endpoint whose policy and
// whose peer both change sees both changes at once.
func (f *flush) renew() {
	copies := map[*outcome]*outcome{}
	for i, s := range f.switches {
		if s.to == nil || s.to.fresh {
			continue
		}
		if copies[s.to] == nil {
			copies[s.to] = f.create(s.to.key, s.to.specs, s.to.ports)
		}
		f.switches[i].to = copies[s.to]
	}
	switching := map[*subject]bool{}
	for _, s := range f.switches {
		switching[s.sub] = true
	}
	for old, fresh := range copies {
		for sub := range old.subjects {
			if !switching[sub] {
				f.switches = append(f.switches, policySwitch{sub, fresh})
			}
		}
	}
	slices.SortFunc(f.switches, func(a, b policySwitch) int { return cmp.Compare(a.sub.ep, b.sub.ep) })
}

// refine writes the rows of the policies in force for the new classes, then moves the identities.
func (f *flush) refine() {
	for _, cl := range f.made {
		sig := cl.sig
		if cl.transit {
			sig = cl.was
		}
		for _, o := range f.c.watchers(sig) {
			if !o.fresh {
				f.ops = o.write(f.ops, cl.num, cl, o.template(f.c, sig))
			}
		}
	}
	for _, mv := range f.moves {
		if mv.through != nil {
			f.move(mv.m, mv.through)
		} else {
			f.move(mv.m, mv.to)
		}
	}
}

func (f *flush) move(m *member, to *class) {
	if m.class != nil {
		f.emptied[m.class] = struct{}{}
	}
	m.move(to)
	f.setClass(m.ident.ID, to.number())
}

func (f *flush) setClass(id identity.ID, to datapath.Class) {
	f.ops = append(f.ops, SetClass{datapath.ClassKey{Generation: f.c.generation, Identity: id}, to})
}

// watchers are the outcomes that can see an atom of the signature, in order.
func (c *Compiler) watchers(sig []atomID) []*outcome {
	set := map[*outcome]struct{}{}
	for _, a := range sig {
		maps.Copy(set, c.atomByID[a].users)
	}
	return sortedByPolicy(set)
}

// switchOver writes the rows of the new policies, then puts them in force.
func (f *flush) switchOver() {
	for _, o := range f.created {
		f.ops = o.write(f.ops, 0, nil, o.base)
		seen := map[*class]struct{}{}
		for a := range o.atoms {
			maps.Copy(seen, f.c.atomByID[a].classes)
		}
		for _, n := range o.names {
			for _, a := range n.atoms {
				maps.Copy(seen, a.classes)
			}
		}
		for _, cl := range sortedByNum(seen) {
			f.ops = o.write(f.ops, cl.num, cl, o.template(f.c, cl.sig))
		}
	}
	for _, s := range f.switches {
		if s.sub.outcome != nil {
			delete(s.sub.outcome.subjects, s.sub)
		}
		var id datapath.PolicyID
		if s.to != nil {
			id = s.to.id
			s.to.subjects[s.sub] = struct{}{}
		}
		f.ops = append(f.ops, SetPolicy{s.sub.ep, id})
	}
	for _, mv := range f.moves {
		if mv.through != nil {
			f.move(mv.m, mv.to)
		}
	}
}

// retire removes the outcomes that no endpoint uses any more, and returns what went out of use with
// them.
func (f *flush) retire() (atoms []*atom, names []*portName) {
	c := f.c
	left := map[*outcome]struct{}{}
	for _, s := range f.switches {
		if s.sub.outcome != nil {
			left[s.sub.outcome] = struct{}{}
		}
		s.sub.outcome = s.to
	}
	for _, o := range sortedByPolicy(left) {
		if len(o.subjects) > 0 {
			continue
		}
		for _, num := range slices.Sorted(maps.Keys(o.rows)) {
			f.ops = o.erase(f.ops, num)
			if cl := c.classNos[num]; cl != nil {
				delete(cl.holders, o)
			}
		}
		delete(c.inForce, o.id)
		if c.outcomes[o.key] == o {
			delete(c.outcomes, o.key)
		}
		for _, n := range o.cookies {
			c.cookies.release(n)
		}
		for _, id := range slices.Sorted(maps.Keys(o.atoms)) {
			a := c.atomByID[id]
			if delete(a.users, o); len(a.users) == 0 {
				atoms = append(atoms, a)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(o.names)) {
			n := o.names[name]
			if delete(n.users, o); len(n.users) == 0 {
				names = append(names, n)
			}
		}
	}
	return atoms, names
}

// coarsen takes the atoms that went out of use out of the signatures, merges the classes that have
// become one, and removes the classes that have no identity.
func (f *flush) coarsen(dropped []*atom, names []*portName) {
	c := f.c
	for _, n := range names {
		for _, a := range n.atoms {
			dropped = append(dropped, a)
		}
		clear(n.atoms)
	}
	affected := map[*class]struct{}{}
	for _, a := range dropped {
		maps.Copy(affected, a.classes)
		delete(c.atomByID, a.id)
		if a.kind != nil {
			a.kind.unindex(c.peers, a)
			delete(c.atoms, a.key)
		}
	}
	for _, n := range names {
		c.pruneName(n)
	}
	for cl := range f.emptied {
		if len(cl.members) == 0 {
			affected[cl] = struct{}{}
		}
	}
	order := sortedByNum(affected)
	for _, cl := range order {
		if key := sigKey(cl.sig); c.classes[key] == cl {
			delete(c.classes, key)
		}
	}
	var dead []*class
	var moved []*member
	for _, cl := range order {
		if len(cl.members) == 0 {
			dead = append(dead, cl)
			continue
		}
		cl.sig = slices.DeleteFunc(cl.sig, func(id atomID) bool { return c.atomByID[id] == nil })
		key := sigKey(cl.sig)
		into := c.classes[key]
		if into == nil && len(cl.sig) > 0 { // the class lives on under the smaller signature
			c.classes[key] = cl
			continue
		}
		for _, m := range cl.members {
			m.move(into)
			moved = append(moved, m)
		}
		dead = append(dead, cl)
	}
	slices.SortFunc(moved, func(a, b *member) int { return cmp.Compare(a.ident.ID, b.ident.ID) })
	for _, m := range moved {
		f.setClass(m.ident.ID, m.class.number())
	}
	for _, cl := range dead {
		for _, o := range sortedByPolicy(cl.holders) {
			f.ops = o.erase(f.ops, cl.num)
		}
		c.dropClass(cl)
	}
}

// finish forgets what was new in this flush.
func (f *flush) finish() {
	for _, o := range f.created {
		o.fresh = false
		for a := range o.atoms {
			if a := f.c.atomByID[a]; a != nil {
				a.fresh = false
			}
		}
		for _, n := range o.names {
			n.fresh = false
			for _, a := range n.atoms {
				a.fresh = false
			}
		}
	}
	for _, m := range f.idents {
		m.fresh, m.changed = false, false
	}
}
