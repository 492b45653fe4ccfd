package policy

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// Compiler turns policies, identities and the endpoints of a node into the rows that its kernel
// looks up, and news of any of them into the writes that bring the rows up to date.
//
// It partitions the identities into classes: two identities are in one class if every peer that a
// policy in force names matches both or neither, and their named ports agree where a policy asks for
// them. Class 0 holds those that nothing matches. Endpoints to which the same specs apply share one
// outcome: a policy id with rows for class 0 and for each class that is judged differently.
//
// The upserts and deletes only take note; Flush returns the writes. The same calls give the same
// writes. A Compiler has one caller at a time. What is handed to it must not be modified afterwards.
type Compiler struct {
	generation uint8
	serial     uint32 // next to try
	classNum   datapath.Class

	policies  map[Ref][]*spec
	specIndex *selectorIndex[*spec] // by subject
	specCount uint64

	subjects      map[datapath.EndpointID]*subject
	dirtySubjects map[datapath.EndpointID]struct{}

	identities      *identityIndex
	dirtyIdentities map[identity.ID]*member

	peers     *peerIndex
	atoms     map[string]*atom // of peers, by key
	atomByID  map[atomID]*atom
	atomCount atomID
	names     map[string]*portName

	classes  map[string]*class // by signature; class 0 is not in it
	classNos map[datapath.Class]*class

	outcomes map[string]*outcome // by key
	inForce  map[datapath.PolicyID]*outcome
	cookies  *cookieBook

	prefixes map[netip.Prefix]*prefixUse
	touched  map[netip.Prefix]struct{}
}

// subject is a local endpoint.
type subject struct {
	ep      datapath.EndpointID
	labels  labels.Set
	ports   []NamedPort
	applied []*spec // those that select it, in order
	stale   bool    // applied is to be found anew
	gone    bool    // deleted since the last flush
	outcome *outcome
}

// member is an identity.
type member struct {
	ident   identity.Identity
	ports   []NamedPort
	class   *class // nil: class 0
	fresh   bool   // came since the last flush
	changed bool   // came or changed since the last flush
	gone    bool   // deleted since the last flush
}

type prefixUse struct {
	refs     int
	reported bool
}

// NewCompiler makes a compiler without policies, identities and endpoints. Its rows refer to the
// class table of the generation (0 to 3), and its policy ids count from firstSerial (1 to
// datapath.MaxPolicySerial; 0 is taken as 1). A restarted agent takes another generation, and serials
// that do not occur in the kernel, and so writes everything beside what is in force.
func NewCompiler(generation uint8, firstSerial uint32) *Compiler {
	return &Compiler{
		generation: generation % datapath.GenerationCount, serial: firstSerial,
		policies: map[Ref][]*spec{}, specIndex: newSelectorIndex[*spec](),
		subjects: map[datapath.EndpointID]*subject{}, dirtySubjects: map[datapath.EndpointID]struct{}{},
		identities: newIdentityIndex(), dirtyIdentities: map[identity.ID]*member{},
		peers: newPeerIndex(), atoms: map[string]*atom{}, atomByID: map[atomID]*atom{}, names: map[string]*portName{},
		classes: map[string]*class{}, classNos: map[datapath.Class]*class{},
		outcomes: map[string]*outcome{}, inForce: map[datapath.PolicyID]*outcome{}, cookies: newCookieBook(),
		prefixes: map[netip.Prefix]*prefixUse{}, touched: map[netip.Prefix]struct{}{},
	}
}

// UpsertPolicy adds a policy or replaces the one with the same Ref. Specs that stay what and where
// they were are not touched.
func (c *Compiler) UpsertPolicy(p Policy) {
	old := c.policies[p.Ref]
	next := make([]*spec, len(p.Specs))
	for i, s := range p.Specs {
		if i < len(old) && reflect.DeepEqual(old[i].Spec, s) {
			next[i] = old[i]
			continue
		}
		c.specCount++
		next[i] = newSpec(c.specCount, p.Ref, i, s)
	}
	c.policies[p.Ref] = next
	for i, s := range old {
		if i >= len(next) || next[i] != s {
			c.dropSpec(s)
		}
	}
	for i, s := range next {
		if i >= len(old) || old[i] != s {
			c.addSpec(s)
		}
	}
}

// DeletePolicy forgets a policy; absent is no error.
func (c *Compiler) DeletePolicy(ref Ref) {
	for _, s := range c.policies[ref] {
		c.dropSpec(s)
	}
	delete(c.policies, ref)
}

func (c *Compiler) addSpec(s *spec) {
	c.specIndex.add(s.Subject, s)
	for _, sub := range c.subjects {
		if !sub.gone && s.Subject.Matches(sub.labels) {
			c.staleSubject(sub)
		}
	}
	s.eachPrefix(func(p netip.Prefix) {
		if c.prefixes[p] == nil {
			c.prefixes[p] = &prefixUse{}
		}
		c.prefixes[p].refs++
		c.touched[p] = struct{}{}
	})
}

func (c *Compiler) dropSpec(s *spec) {
	c.specIndex.remove(s)
	for sub := range s.subjects {
		c.staleSubject(sub)
	}
	s.eachPrefix(func(p netip.Prefix) {
		c.prefixes[p].refs--
		c.touched[p] = struct{}{}
	})
}

func (c *Compiler) staleSubject(sub *subject) {
	sub.stale = true
	c.dirtySubjects[sub.ep] = struct{}{}
}

// UpsertIdentity adds or changes an identity. The ports are the named ports of all endpoints that
// have it, in any order. The reserved identities are told like all others (identity.Reserved):
// rules about the host or the world hold from then on. An address may be mapped to the identity once
// the ops of the next Flush are executed. Unknown, and numbers for which the class table
// has no place, stay in class 0 whatever their labels.
func (c *Compiler) UpsertIdentity(id identity.Identity, ports []NamedPort) {
	if datapath.ClassIndex(id.ID) == 0 {
		return
	}
	ports = sortedPorts(ports)
	m := c.identities.all[id.ID]
	if m == nil {
		if m = c.dirtyIdentities[id.ID]; m != nil { // deleted since the last flush, and back again
			m.gone, m.changed = false, true
		} else {
			m = &member{fresh: true, changed: true}
		}
	} else {
		if m.ident.Labels.Key() == id.Labels.Key() && m.ident.Prefix == id.Prefix && slices.Equal(m.ports, ports) {
			return
		}
		c.forgetMember(m)
		m.changed = true
	}
	m.ident, m.ports = id, ports
	c.identities.add(m)
	for _, p := range ports {
		c.carry(p.Name, m)
	}
	c.dirtyIdentities[id.ID] = m
}

// DeleteIdentity forgets an identity, of which no endpoint must be left; absent is no error.
func (c *Compiler) DeleteIdentity(id identity.ID) {
	m := c.identities.all[id]
	if m == nil {
		return
	}
	c.forgetMember(m)
	if m.fresh {
		delete(c.dirtyIdentities, id)
		return
	}
	m.gone, m.changed = true, false
	c.dirtyIdentities[id] = m
}

func (c *Compiler) forgetMember(m *member) {
	c.identities.remove(m)
	for _, p := range m.ports {
		c.uncarry(p.Name, m)
	}
}

// UpsertSubject adds or changes a local endpoint. The ports are its own named ports.
func (c *Compiler) UpsertSubject(ep datapath.EndpointID, ls labels.Set, ports []NamedPort) {
	ports = sortedPorts(ports)
	sub := c.subjects[ep]
	if sub == nil {
		sub = &subject{ep: ep}
		c.subjects[ep] = sub
	} else if !sub.gone && sub.labels.Key() == ls.Key() && slices.Equal(sub.ports, ports) {
		return
	}
	sub.labels, sub.ports, sub.gone = ls, ports, false
	c.staleSubject(sub)
}

// DeleteSubject forgets a local endpoint and takes it out of force; absent is no error.
func (c *Compiler) DeleteSubject(ep datapath.EndpointID) {
	sub := c.subjects[ep]
	if sub == nil {
		return
	}
	sub.gone = true
	c.staleSubject(sub)
}

// TakePrefixes returns the prefixes that loaded policies name as CIDR or exception now and did not
// when it was last called, and the reverse, both sorted. The caller gives each its own identity
// (identity.ForPrefix, UpsertIdentity); the rules about them hold from then on. The prefixes of
// all addresses, 0.0.0.0/0 and ::/0, are not among them: they are world-ipv4 and world-ipv6.
//
// Rows of table "ipcache" for added prefixes are written after the ops of the Flush that knows their
// identities, longer prefixes first (an exception before what it is an exception to); rows of
// removed prefixes go before DeleteIdentity, because an identity that is gone is judged like one that
// no rule names.
func (c *Compiler) TakePrefixes() (added, removed []netip.Prefix) {
	for p := range c.touched {
		use := c.prefixes[p]
		switch {
		case use.refs > 0 && !use.reported:
			use.reported = true
			added = append(added, p)
		case use.refs == 0 && use.reported:
			delete(c.prefixes, p)
			removed = append(removed, p)
		case use.refs == 0:
			delete(c.prefixes, p)
		}
	}
	c.touched = map[netip.Prefix]struct{}{}
	slices.SortFunc(added, netip.Prefix.Compare)
	slices.SortFunc(removed, netip.Prefix.Compare)
	return added, removed
}

func sortedPorts(ports []NamedPort) []NamedPort {
	out := make([]NamedPort, 0, len(ports))
	for _, p := range ports {
		if p.Name != "" {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, NamedPort.Compare)
	return slices.Compact(out)
}
