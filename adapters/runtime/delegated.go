package runtime

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/ipam"
)

// addressPool gives addresses to endpoints. See ipam.Allocator, which is one, for what the methods promise.
type addressPool interface {
	Routers() []netip.Addr
	Acquire(owner string, want []netip.Addr) ([]netip.Addr, error)
	Restore(owner string, addrs []netip.Addr) error
	Release(owner string) []netip.Addr
}

// delegatedPool takes the addresses that another plugin gave, and sees to it that no two endpoints have the
// same.
type delegatedPool struct {
	routers []netip.Addr
	owners  map[string][]netip.Addr
}

func newDelegatedPool(routers []netip.Addr) *delegatedPool {
	return &delegatedPool{routers: routers, owners: map[string][]netip.Addr{}}
}

func (p *delegatedPool) Routers() []netip.Addr { return p.routers }

func (p *delegatedPool) Acquire(owner string, want []netip.Addr) ([]netip.Addr, error) {
	if have, ok := p.owners[owner]; ok && len(want) == 0 {
		return slices.Clone(have), nil
	}
	if len(want) == 0 {
		return nil, errors.New("ipam: addresses are delegated, and none were given: the CNI configuration needs an ipam section")
	}
	if err := p.Restore(owner, want); err != nil {
		return nil, err
	}
	return slices.Clone(p.owners[owner]), nil
}

func (p *delegatedPool) Restore(owner string, addrs []netip.Addr) error {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	if have, ok := p.owners[owner]; ok && !slices.Equal(have, addrs) {
		return fmt.Errorf("ipam: addresses %v for %s, which has %v: %w", addrs, owner, have, ipam.ErrMismatch)
	}
	for _, a := range addrs {
		if !slices.ContainsFunc(p.routers, func(r netip.Addr) bool { return r.Is4() == a.Is4() }) {
			return fmt.Errorf("ipam: address %s for %s: there is no local router of its family", a, owner)
		}
		if slices.Contains(p.routers, a) {
			return fmt.Errorf("ipam: address %s for %s is the node's router: %w", a, owner, ipam.ErrInUse)
		}
		for other, have := range p.owners {
			if other != owner && slices.Contains(have, a) {
				return fmt.Errorf("ipam: address %s for %s belongs to %s: %w", a, owner, other, ipam.ErrInUse)
			}
		}
	}
	p.owners[owner] = addrs
	return nil
}

func (p *delegatedPool) Release(owner string) []netip.Addr {
	have := p.owners[owner]
	delete(p.owners, owner)
	return have
}
