package ipam

import (
	"math"
	"net/netip"
)

// pool is one prefix. Addresses come from the never used part, in ascending order, until that has
// ended, and then from those given back, the longest free first. Nothing is stored per free
// address that was never used, so that an IPv6 /64 costs as little as an IPv4 /24.
type pool struct {
	prefix   netip.Prefix
	router   netip.Addr
	last     netip.Addr // highest address that can be given out
	reserved map[netip.Addr]bool
	used     map[netip.Addr]bool

	cursor netip.Addr // below it every address was used once; zero: the prefix has been walked through
	freed  []freed    // oldest first; entries that do not agree with since are void
	since  map[netip.Addr]uint64
	serial uint64
}

type freed struct {
	addr   netip.Addr
	serial uint64
}

func newPool(p netip.Prefix) *pool {
	router := p.Addr().Next()
	l := lastOf(p)
	if p.Addr().Is4() {
		l = l.Prev() // broadcast
	}
	return &pool{
		prefix:   p,
		router:   router,
		last:     l,
		cursor:   router.Next(),
		reserved: map[netip.Addr]bool{},
		used:     map[netip.Addr]bool{},
		since:    map[netip.Addr]uint64{},
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// special names what an address is that is never given out, "" for the others.
func (p *pool) special(a netip.Addr) string {
	switch {
	case a == p.router:
		return "the router"
	case a == p.prefix.Addr():
		return "the network address"
	case a.Compare(p.last) > 0:
		return "the broadcast address"
	case p.reserved[a]:
		return "a reserved address"
	}
	return ""
}

func (p *pool) reserve(a netip.Addr) {
	if p.special(a) == "" {
		p.reserved[a] = true
	}
}

// capacity counts what can be given out, used or not.
func (p *pool) capacity() uint64 {
	hostBits := p.prefix.Addr().BitLen() - p.prefix.Bits()
	if hostBits >= 64 {
		return math.MaxUint64
	}
	without := uint64(2) // the prefix's own address and the router
	if p.prefix.Addr().Is4() {
		without++
	}
	return uint64(1)<<hostBits - without - uint64(len(p.reserved))
}

// fresh finds the lowest address that was never used, without taking it.
func (p *pool) fresh() (netip.Addr, bool) {
	for p.cursor.IsValid() {
		_, wasFreed := p.since[p.cursor]
		if !wasFreed && !p.used[p.cursor] && !p.reserved[p.cursor] {
			return p.cursor, true
		}
		p.advance()
	}
	return netip.Addr{}, false
}

// stale finds the address that has been free for longest, without taking it.
func (p *pool) stale() (netip.Addr, bool) {
	for len(p.freed) > 0 {
		if f := p.freed[0]; p.since[f.addr] == f.serial {
			return f.addr, true
		}
		p.freed = p.freed[1:]
	}
	return netip.Addr{}, false
}

func (p *pool) advance() {
	if p.cursor == p.last {
		p.cursor = netip.Addr{}
		return
	}
	p.cursor = p.cursor.Next()
}

func (p *pool) take(a netip.Addr) {
	p.used[a] = true
	delete(p.since, a)
	// Addresses taken by name leave void entries; they are swept out when they prevail.
	if len(p.freed) > 2*len(p.since)+16 {
		var keep []freed
		for _, f := range p.freed {
			if p.since[f.addr] == f.serial {
				keep = append(keep, f)
			}
		}
		p.freed = keep
	}
}

func (p *pool) release(a netip.Addr) {
	delete(p.used, a)
	p.serial++
	p.since[a] = p.serial
	p.freed = append(p.freed, freed{a, p.serial})
}
