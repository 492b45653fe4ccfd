// Package ipam gives out the addresses of a node's pod prefixes. An Allocator is a plain value with
// no clock and no randomness: the same calls give the same addresses.
//
// An address that was given back is given out again as late as possible, so that peers that still
// remember its former owner do not meet a new one.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Errors that callers branch on; they are wrapped with the pool or the address.
var (
	// ErrFull says that a pool has no free address.
	ErrFull = errors.New("no free address")
	// ErrNoPrefix says that the cluster's pool has no free prefix for a node.
	ErrNoPrefix = errors.New("no free pod CIDR")
	// ErrInUse says that a wanted address belongs to another owner or is reserved.
	ErrInUse = errors.New("address in use")
	// ErrOutside says that a wanted address is in none of the pools.
	ErrOutside = errors.New("address outside the pools")
	// ErrMismatch says that an owner wants other addresses than it has.
	ErrMismatch = errors.New("owner has other addresses")
)

// Allocator gives addresses to owners: one of each family for which it has a prefix. It is not safe
// for use by several goroutines at once.
type Allocator struct {
	pools  []*pool // IPv4 first, then in the order given
	owners map[string][]netip.Addr
	users  map[netip.Addr]string
}

// New makes an allocator over prefixes of pods. In each prefix the first address after the prefix's
// own is the router (the pods' gateway); the router, the prefix's own address, for IPv4 the broadcast
// address, and the reserved ones are not given out. A prefix must have room for a router and one pod:
// IPv4 /30 or shorter, IPv6 /126 or shorter. Prefixes must not overlap; reserved addresses
// outside of them are ignored.
func New(prefixes []netip.Prefix, reserved ...netip.Addr) (*Allocator, error) {
	a := &Allocator{owners: map[string][]netip.Addr{}, users: map[netip.Addr]string{}}
	for i, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("ipam: prefix [%d] %s: must be a valid prefix, IPv4 unmapped", i, p)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("ipam: prefix [%d] %s: has host bits, must be %s", i, p, p.Masked())
		}
		if p.Bits() > p.Addr().BitLen()-2 {
			return nil, fmt.Errorf("ipam: prefix [%d] %s: too small, must be /%d or shorter", i, p, p.Addr().BitLen()-2)
		}
		for _, other := range a.pools {
			if other.prefix.Overlaps(p) {
				return nil, fmt.Errorf("ipam: prefix [%d] %s: overlaps %s", i, p, other.prefix)
			}
		}
		a.pools = append(a.pools, newPool(p))
	}
	slices.SortStableFunc(a.pools, func(x, y *pool) int { return x.prefix.Addr().BitLen() - y.prefix.Addr().BitLen() })
	for _, r := range reserved {
		if p := a.poolOf(r.Unmap()); p != nil {
			p.reserve(r.Unmap())
		}
	}
	return a, nil
}

func (a *Allocator) poolOf(addr netip.Addr) *pool {
	for _, p := range a.pools {
		if p.prefix.Contains(addr) {
			return p
		}
	}
	return nil
}

// Routers are the routers of all prefixes, IPv4 first.
func (a *Allocator) Routers() []netip.Addr {
	rs := make([]netip.Addr, len(a.pools))
	for i, p := range a.pools {
		rs[i] = p.router
	}
	return rs
}

// Gateway is the router of the prefix that holds the address; false if none does.
func (a *Allocator) Gateway(addr netip.Addr) (netip.Addr, bool) {
	p := a.poolOf(addr)
	if p == nil {
		return netip.Addr{}, false
	}
	return p.router, true
}

// Acquire gives the owner one address of each family, IPv4 first: those wanted, and free ones for
// families of which none is wanted. An owner that has addresses gets the same again; ErrMismatch if it
// wants others. All or nothing: after an error (ErrFull, ErrInUse, ErrOutside too) nothing has changed.
func (a *Allocator) Acquire(owner string, want []netip.Addr) ([]netip.Addr, error) {
	want, err := normalise(want)
	if err != nil {
		return nil, fmt.Errorf("ipam: addresses for %s: %w", owner, err)
	}
	if have, ok := a.owners[owner]; ok {
		for _, w := range want {
			if !slices.Contains(have, w) {
				return nil, fmt.Errorf("ipam: address %s for %s, which has %s: %w", w, owner, join(have), ErrMismatch)
			}
		}
		return slices.Clone(have), nil
	}
	for _, w := range want {
		if err := a.available(w); err != nil {
			return nil, fmt.Errorf("ipam: address %s for %s: %w", w, owner, err)
		}
	}
	var got []netip.Addr
	for _, v4 := range []bool{true, false} {
		addr, err := a.pick(v4, want)
		if err != nil {
			return nil, fmt.Errorf("ipam: address for %s: %w", owner, err)
		}
		if addr.IsValid() {
			got = append(got, addr)
		}
	}
	if len(got) == 0 {
		return nil, fmt.Errorf("ipam: addresses for %s: there is no pool: %w", owner, ErrFull)
	}
	a.assign(owner, got)
	return slices.Clone(got), nil
}

// Restore gives an owner the addresses that it is known to have, after a restart. Repeating it is no
// error. ErrInUse, ErrOutside or ErrMismatch, and no change, if that cannot be.
func (a *Allocator) Restore(owner string, addrs []netip.Addr) error {
	addrs, err := normalise(addrs)
	if err == nil && len(addrs) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return fmt.Errorf("ipam: restore addresses of %s: %w", owner, err)
	}
	if have, ok := a.owners[owner]; ok {
		if slices.Equal(have, addrs) {
			return nil
		}
		return fmt.Errorf("ipam: restore addresses %s of %s, which has %s: %w", join(addrs), owner, join(have), ErrMismatch)
	}
	for _, addr := range addrs {
		if err := a.available(addr); err != nil {
			return fmt.Errorf("ipam: restore address %s of %s: %w", addr, owner, err)
		}
	}
	a.assign(owner, addrs)
	return nil
}

// Release frees the owner's addresses and returns them; an owner that has none is no error.
func (a *Allocator) Release(owner string) []netip.Addr {
	addrs := a.owners[owner]
	delete(a.owners, owner)
	for _, addr := range addrs {
		delete(a.users, addr)
		a.poolOf(addr).release(addr)
	}
	return addrs
}

// Addresses returns what an owner has, nil if nothing.
func (a *Allocator) Addresses(owner string) []netip.Addr { return slices.Clone(a.owners[owner]) }

// Owner of an address; false if it is free.
func (a *Allocator) Owner(addr netip.Addr) (string, bool) {
	o, ok := a.users[addr]
	return o, ok
}

// Allocated lists the addresses in use, in ascending order.
func (a *Allocator) Allocated() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(a.users))
	for addr := range a.users {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// PoolStatus counts the addresses of one prefix.
type PoolStatus struct {
	Prefix   netip.Prefix
	Router   netip.Addr
	Used     uint64 // given to owners
	Capacity uint64 // that can be given out; the highest uint64 if there are more
}

// Pools tells the state of each prefix, IPv4 first.
func (a *Allocator) Pools() []PoolStatus {
	ps := make([]PoolStatus, len(a.pools))
	for i, p := range a.pools {
		ps[i] = PoolStatus{Prefix: p.prefix, Router: p.router, Used: uint64(len(p.used)), Capacity: p.capacity()}
	}
	return ps
}

func (a *Allocator) available(addr netip.Addr) error {
	p := a.poolOf(addr)
	if p == nil {
		var names []string
		for _, p := range a.pools {
			names = append(names, p.prefix.String())
		}
		return fmt.Errorf("%w (%s)", ErrOutside, strings.Join(names, ", "))
	}
	if owner, ok := a.users[addr]; ok {
		return fmt.Errorf("%w by %s", ErrInUse, owner)
	}
	if what := p.special(addr); what != "" {
		return fmt.Errorf("%w: it is %s of %s", ErrInUse, what, p.prefix)
	}
	return nil
}

// pick chooses an address of the family without taking it; the zero address if there is no pool.
func (a *Allocator) pick(v4 bool, want []netip.Addr) (netip.Addr, error) {
	for _, w := range want {
		if w.Is4() == v4 {
			return w, nil
		}
	}
	var full []string
	for _, from := range []func(*pool) (netip.Addr, bool){(*pool).fresh, (*pool).stale} {
		full = nil
		for _, p := range a.pools {
			if p.prefix.Addr().Is4() != v4 {
				continue
			}
			if addr, ok := from(p); ok {
				return addr, nil
			}
			full = append(full, fmt.Sprintf("%s has %d of %d in use", p.prefix, len(p.used), p.capacity()))
		}
	}
	if full != nil {
		return netip.Addr{}, fmt.Errorf("%w: %s", ErrFull, strings.Join(full, ", "))
	}
	return netip.Addr{}, nil
}

func (a *Allocator) assign(owner string, addrs []netip.Addr) {
	a.owners[owner] = slices.Clone(addrs)
	for _, addr := range addrs {
		a.users[addr] = owner
		a.poolOf(addr).take(addr)
	}
}

// normalise sorts IPv4 before IPv6 and refuses two of one family.
func normalise(addrs []netip.Addr) ([]netip.Addr, error) {
	out := slices.Clone(addrs)
	for i, a := range out {
		if !a.IsValid() || a.Zone() != "" {
			return nil, fmt.Errorf("[%d] %s: must be an address without zone", i, a)
		}
		out[i] = a.Unmap()
	}
	slices.SortStableFunc(out, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	for i := 1; i < len(out); i++ {
		if out[i].BitLen() == out[i-1].BitLen() {
			return nil, fmt.Errorf("%s and %s: at most one address a family", out[i-1], out[i])
		}
	}
	return out, nil
}

func join(addrs []netip.Addr) string {
	ss := make([]string, len(addrs))
	for i, a := range addrs {
		ss[i] = a.String()
	}
	return strings.Join(ss, ", ")
}
