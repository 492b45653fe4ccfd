package policy

import (
	"strings"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// peerKind is what the compiler needs to know about one peer of a rule. A new kind of peer is a type
// with this interface, a case in compilePeer and a case in the evaluator.
type peerKind interface {
	// key is equal for peers that match the same identities.
	key() string
	// matches says whether the peer covers an identity.
	matches(id *identity.Identity) bool
	// index and unindex make the peer known to, and remove it from, those that a new identity is
	// matched against.
	index(x *peerIndex, a *atom)
	unindex(x *peerIndex, a *atom)
	// candidates calls visit with every known identity that could match.
	candidates(x *identityIndex, visit func(*member))
}

// compilePeer gives the kind of a peer; everyone is true for a peer that restricts nothing, and the
// kind is nil for one that matches nothing.
func compilePeer(p Peer) (kind peerKind, everyone bool) {
	switch {
	case p.Selector != nil:
		return newSelectorPeer(*p.Selector), false
	case p.Entity == EntityAll:
		return nil, true
	case p.Entity == EntityNone:
		return nil, false
	case p.Entity != "":
		return entityPeer(p.Entity), false
	case p.CIDR.IsValid():
		return newCIDRPeer(p.CIDR, p.Except), false
	}
	return nil, false
}

// peerIndex holds the peers in use so that those which match an identity are found without trying
// all.
type peerIndex struct {
	selectors *selectorIndex[*atom]
	entities  map[Entity]*atom
	cidrs     *prefixIndex
}

func newPeerIndex() *peerIndex {
	return &peerIndex{selectors: newSelectorIndex[*atom](), entities: map[Entity]*atom{}, cidrs: newPrefixIndex()}
}

// match appends the peers that match the identity, in no particular order, perhaps twice.
func (x *peerIndex) match(id *identity.Identity, out []*atom) []*atom {
	n := len(out)
	out = x.selectors.match(id.Labels, out)
	if isWorld(id) { // plain label matching is not all there is to the world
		kept := out[:n]
		for _, a := range out[n:] {
			if a.kind.matches(id) {
				kept = append(kept, a)
			}
		}
		out = kept
	}
	for _, a := range x.entities {
		if a.kind.matches(id) {
			out = append(out, a)
		}
	}
	if id.Prefix.IsValid() {
		out = x.cidrs.match(id, out)
	}
	return out
}

// identityIndex holds the known identities so that those which a new peer matches are found without
// trying all.
type identityIndex struct {
	all      map[identity.ID]*member
	byLabel  map[pair]map[identity.ID]*member
	prefixes map[identity.ID]*member
}

func newIdentityIndex() *identityIndex {
	return &identityIndex{
		all: map[identity.ID]*member{}, byLabel: map[pair]map[identity.ID]*member{}, prefixes: map[identity.ID]*member{},
	}
}

func (x *identityIndex) add(m *member) {
	id := m.ident.ID
	x.all[id] = m
	eachPair(m.ident.Labels, func(p pair) {
		if x.byLabel[p] == nil {
			x.byLabel[p] = map[identity.ID]*member{}
		}
		x.byLabel[p][id] = m
	})
	if m.ident.Prefix.IsValid() {
		x.prefixes[id] = m
	}
}

func (x *identityIndex) remove(m *member) {
	id := m.ident.ID
	delete(x.all, id)
	eachPair(m.ident.Labels, func(p pair) {
		delete(x.byLabel[p], id)
		if len(x.byLabel[p]) == 0 {
			delete(x.byLabel, p)
		}
	})
	delete(x.prefixes, id)
}

// eachPair visits the pairs an identity is filed under. Reserved labels count by key alone.
func eachPair(ls labels.Set, visit func(pair)) {
	for _, l := range ls.All() {
		visit(pair{l.Key, l.Value})
		if l.Source == labels.SourceReserved && l.Value != "" {
			visit(pair{l.Key, ""})
		}
	}
}

// joinKey joins texts so that different lists give different results.
func joinKey(parts ...string) string { return strings.Join(parts, "\x00") }
