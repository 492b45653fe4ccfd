package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// atomID numbers atoms; never reused.
type atomID uint64

// atom is one thing that tells identities apart: a peer that a policy in force names, or a named port
// with its number under a name that an egress rule in force asks for.
type atom struct {
	id      atomID
	key     string
	kind    peerKind  // nil for a named port
	port    NamedPort // of a named port
	users   map[*outcome]struct{}
	classes map[*class]struct{} // whose signature holds the atom
	fresh   bool                // what it stands for came into use in the flush under way
}

// portName is a name that egress rules in force ask for.
type portName struct {
	name    string
	users   map[*outcome]struct{}
	atoms   map[NamedPort]*atom
	carried map[identity.ID]*member // identities with a port of this name
	fresh   bool
}

// class is a set of identities with one signature.
type class struct {
	num     datapath.Class
	sig     []atomID // ascending; never empty
	members map[identity.ID]*member
	holders map[*outcome]struct{} // outcomes that have rows for the class

	// A class that identities pass through while they and policies change in one flush: outcomes
	// that were in force before see was, new ones see sig.
	transit bool
	was     []atomID
}

func (cl *class) number() datapath.Class {
	if cl == nil {
		return 0
	}
	return cl.num
}

func (cl *class) signature() []atomID {
	if cl == nil {
		return nil
	}
	return cl.sig
}

func sigKey(sig []atomID) string {
	b := make([]byte, 0, 8*len(sig))
	for _, a := range sig {
		b = binary.LittleEndian.AppendUint64(b, uint64(a))
	}
	return string(b)
}

// usePeer gives the atom of a peer to an outcome; the second result says that it came into use.
func (c *Compiler) usePeer(p keyedPeer, o *outcome) (*atom, bool) {
	a := c.atoms[p.key]
	fresh := a == nil
	if fresh {
		c.atomCount++
		a = &atom{
			id: c.atomCount, key: p.key, kind: p.kind, fresh: true,
			users: map[*outcome]struct{}{}, classes: map[*class]struct{}{},
		}
		c.atoms[p.key], c.atomByID[a.id] = a, a
		p.kind.index(c.peers, a)
	}
	a.users[o] = struct{}{}
	return a, fresh
}

// useName notes that an outcome's egress rules ask for a port name.
func (c *Compiler) useName(name string, o *outcome) (n *portName, fresh bool) {
	n = c.names[name]
	if n == nil {
		n = c.newName(name)
	}
	fresh = len(n.users) == 0
	if fresh {
		n.fresh = true
	}
	n.users[o] = struct{}{}
	return n, fresh
}

func (c *Compiler) newName(name string) *portName {
	n := &portName{
		name: name, users: map[*outcome]struct{}{}, atoms: map[NamedPort]*atom{},
		carried: map[identity.ID]*member{},
	}
	c.names[name] = n
	return n
}

// carry notes that an identity has a port of this name, uncarry that it has not any more.
func (c *Compiler) carry(name string, m *member) {
	n := c.names[name]
	if n == nil {
		n = c.newName(name)
	}
	n.carried[m.ident.ID] = m
}

func (c *Compiler) uncarry(name string, m *member) {
	if n := c.names[name]; n != nil {
		delete(n.carried, m.ident.ID)
		c.pruneName(n)
	}
}

func (c *Compiler) pruneName(n *portName) {
	if len(n.users) == 0 && len(n.carried) == 0 && len(n.atoms) == 0 {
		delete(c.names, n.name)
	}
}

// portAtom gives the atom of a named port if its name is in use.
func (c *Compiler) portAtom(p NamedPort) *atom {
	n := c.names[p.Name]
	if n == nil || len(n.users) == 0 {
		return nil
	}
	a := n.atoms[p]
	if a == nil {
		c.atomCount++
		a = &atom{
			id: c.atomCount, key: fmt.Sprintf("%s/%d/%d", p.Name, p.Proto, p.Port), port: p,
			users: n.users, classes: map[*class]struct{}{},
		}
		n.atoms[p], c.atomByID[a.id] = a, a
	}
	a.fresh = n.fresh
	return a
}

// sign gives an identity's signature from all peers and port names in use.
func (c *Compiler) sign(m *member) []atomID {
	var room [32]*atom
	found := c.peers.match(&m.ident, room[:0])
	for _, p := range m.ports {
		if a := c.portAtom(p); a != nil {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil
	}
	sig := make([]atomID, len(found))
	for i, a := range found {
		sig[i] = a.id
	}
	slices.Sort(sig)
	return slices.Compact(sig)
}

// extend gives a signature with more atoms.
func extend(sig, more []atomID) []atomID {
	out := append(slices.Clone(sig), more...)
	slices.Sort(out)
	return slices.Compact(out)
}

// classFor gives the class of a signature; nil is class 0. The second result says that it is new.
func (c *Compiler) classFor(sig []atomID) (*class, bool) {
	if len(sig) == 0 {
		return nil, false
	}
	key := sigKey(sig)
	if cl := c.classes[key]; cl != nil {
		return cl, false
	}
	cl := c.newClass(sig)
	c.classes[key] = cl
	return cl, true
}

func (c *Compiler) newClass(sig []atomID) *class {
	for {
		c.classNum++
		if _, taken := c.classNos[c.classNum]; !taken && c.classNum != 0 {
			break
		}
	}
	cl := &class{num: c.classNum, sig: slices.Clone(sig), members: map[identity.ID]*member{}, holders: map[*outcome]struct{}{}}
	c.classNos[cl.num] = cl
	for _, a := range sig {
		c.atomByID[a].classes[cl] = struct{}{}
	}
	return cl
}

// dropClass forgets a class without members and rows.
func (c *Compiler) dropClass(cl *class) {
	delete(c.classNos, cl.num)
	if key := sigKey(cl.sig); c.classes[key] == cl {
		delete(c.classes, key)
	}
	for _, id := range cl.sig {
		a := c.atomByID[id]
		if a == nil {
			continue // dropped before its classes
		}
		delete(a.classes, cl)
		if a.kind == nil && len(a.classes) == 0 {
			c.dropPortAtom(a)
		}
	}
}

func (c *Compiler) dropPortAtom(a *atom) {
	delete(c.atomByID, a.id)
	if n := c.names[a.port.Name]; n != nil {
		delete(n.atoms, a.port)
		c.pruneName(n)
	}
}

// move puts an identity into a class.
func (m *member) move(to *class) {
	if m.class != nil {
		delete(m.class.members, m.ident.ID)
	}
	m.class = to
	if to != nil {
		to.members[m.ident.ID] = m
	}
}

func sortedByNum(set map[*class]struct{}) []*class {
	out := make([]*class, 0, len(set))
	for cl := range set {
		out = append(out, cl)
	}
	slices.SortFunc(out, func(a, b *class) int { return cmp.Compare(a.num, b.num) })
	return out
}

func sortedByPolicy(set map[*outcome]struct{}) []*outcome {
	out := make([]*outcome, 0, len(set))
	for o := range set {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *outcome) int { return cmp.Compare(a.id, b.id) })
	return out
}
