package policy

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/identity"
)

// cidrPeer matches the identities that stand for prefixes inside cidr and outside every exception.
// Every prefix that a rule names has an identity of its own (see Compiler.TakePrefixes), so no
// identity lies across a border.
type cidrPeer struct {
	cidr   netip.Prefix
	except []netip.Prefix // sorted
}

func newCIDRPeer(cidr netip.Prefix, except []netip.Prefix) cidrPeer {
	p := cidrPeer{cidr: cidr.Masked()}
	for _, e := range except {
		p.except = append(p.except, e.Masked())
	}
	slices.SortFunc(p.except, netip.Prefix.Compare)
	p.except = slices.Compact(p.except)
	return p
}

func (p cidrPeer) key() string {
	parts := []string{"cidr", p.cidr.String()}
	for _, e := range p.except {
		parts = append(parts, e.String())
	}
	return joinKey(parts...)
}

func (p cidrPeer) matches(id *identity.Identity) bool {
	if !contains(p.cidr, id.Prefix) {
		return false
	}
	for _, e := range p.except {
		if contains(e, id.Prefix) {
			return false
		}
	}
	return true
}

// contains says whether every address of inner is in outer.
func contains(outer, inner netip.Prefix) bool {
	return inner.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func (p cidrPeer) index(x *peerIndex, a *atom)   { x.cidrs.add(p.cidr, a) }
func (p cidrPeer) unindex(x *peerIndex, a *atom) { x.cidrs.remove(p.cidr, a) }

func (p cidrPeer) candidates(x *identityIndex, visit func(*member)) {
	for _, m := range x.prefixes {
		visit(m)
	}
}

// prefixIndex files CIDR peers by prefix and remembers which lengths occur.
type prefixIndex struct {
	peers   map[netip.Prefix][]*atom
	lengths [2][129]int // by family (IPv4, IPv6) and bits: prefixes of that length
}

func newPrefixIndex() *prefixIndex { return &prefixIndex{peers: map[netip.Prefix][]*atom{}} }

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (x *prefixIndex) add(p netip.Prefix, a *atom) {
	if len(x.peers[p]) == 0 {
		x.lengths[family(p.Addr())][p.Bits()]++
	}
	x.peers[p] = append(x.peers[p], a)
}

func (x *prefixIndex) remove(p netip.Prefix, a *atom) {
	at := slices.Index(x.peers[p], a)
	if at < 0 {
		return
	}
	x.peers[p] = slices.Delete(x.peers[p], at, at+1)
	if len(x.peers[p]) == 0 {
		delete(x.peers, p)
		x.lengths[family(p.Addr())][p.Bits()]--
	}
}

func (x *prefixIndex) match(id *identity.Identity, out []*atom) []*atom {
	lengths := &x.lengths[family(id.Prefix.Addr())]
	for bits := id.Prefix.Bits(); bits >= 0; bits-- {
		if lengths[bits] == 0 {
			continue
		}
		for _, a := range x.peers[netip.PrefixFrom(id.Prefix.Addr(), bits).Masked()] {
			if a.kind.matches(id) {
				out = append(out, a)
			}
		}
	}
	return out
}
