package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ClusterRange is where the nodes' pod prefixes of one family come from.
type ClusterRange struct {
	CIDRs    []netip.Prefix // of the cluster; they do not overlap
	MaskSize int            // length of a node's prefix in bits
}

// ClusterPool divides the cluster's prefixes among nodes: each gets one of every family for which there
// is a ClusterRange. No two prefixes that nodes have ever overlap.
//
// What nodes have is told with Claim, by whoever reads it from the cluster, so that a new ClusterPool
// continues where the last one ended; claims of all nodes come before the first Allocate. A prefix
// that was given back rests for a while, and comes again only after the others. A ClusterPool is a plain
// value without clock and randomness; it is not safe for use by several goroutines at once.
type ClusterPool struct {
	v4, v6  *family
	rest    time.Duration
	owners  map[string]*poolOwner
	taken   prefixSet[string]    // every prefix that an owner has
	resting prefixSet[time.Time] // given back; until when each rests
}

type poolOwner struct {
	since    time.Time
	prefixes []netip.Prefix // IPv4 first
}

// family walks through the slots of one family, round and round.
type family struct {
	name   string
	ranges ClusterRange
	next   netip.Prefix // slot to look at first
}

// NewClusterPool makes a pool; a ClusterRange without CIDRs means that the family is not given out.
// rest is how long a prefix that was given back is left alone.
func NewClusterPool(v4, v6 ClusterRange, rest time.Duration) (*ClusterPool, error) {
	p := &ClusterPool{rest: rest, owners: map[string]*poolOwner{}}
	for _, f := range []struct {
		name string
		r    ClusterRange
		bits int
		into **family
	}{{"IPv4", v4, 32, &p.v4}, {"IPv6", v6, 128, &p.v6}} {
		if len(f.r.CIDRs) == 0 {
			continue
		}
		if err := checkRange(f.r, f.bits); err != nil {
			return nil, fmt.Errorf("cluster pool: %s: %w", f.name, err)
		}
		r := ClusterRange{CIDRs: slices.Clone(f.r.CIDRs), MaskSize: f.r.MaskSize}
		*f.into = &family{name: f.name, ranges: r, next: netip.PrefixFrom(r.CIDRs[0].Addr(), r.MaskSize)}
	}
	if p.v4 == nil && p.v6 == nil {
		return nil, fmt.Errorf("cluster pool: no CIDRs: want a cluster CIDR of IPv4, of IPv6, or of both")
	}
	return p, nil
}

func checkRange(r ClusterRange, bits int) error {
	for i, c := range r.CIDRs {
		switch {
		case !c.IsValid() || c.Addr().BitLen() != bits || c.Addr().Is4In6():
			return fmt.Errorf("CIDR [%d] %s: not of this family", i, c)
		case c != c.Masked():
			return fmt.Errorf("CIDR [%d] %s: has host bits, must be %s", i, c, c.Masked())
		case r.MaskSize < c.Bits():
			return fmt.Errorf("mask size %d: shorter than CIDR [%d] %s; want %d to %d", r.MaskSize, i, c, c.Bits(), bits-2)
		}
		for _, o := range r.CIDRs[:i] {
			if o.Overlaps(c) {
				return fmt.Errorf("CIDR [%d] %s: overlaps %s", i, c, o)
			}
		}
	}
	if r.MaskSize > bits-2 {
		return fmt.Errorf("mask size %d: too small for a router and a pod; want at most %d", r.MaskSize, bits-2)
	}
	return nil
}

// Claim says that an owner, which exists since a time, has these prefixes. Where one overlaps another
// owner's, the older owner keeps it (of two that are equally old, the one whose name comes first).
// Prefixes outside of the cluster's CIDRs or of another size stay as they are. Per family, what the owner
// is granted takes the place of what it had; a family of which it is granted none stays as it was.
//
// denied are the prefixes that others keep; evicted are the owners that lost one and need an Allocate.
// Repeating a Claim changes nothing.
func (p *ClusterPool) Claim(owner string, since time.Time, prefixes []netip.Prefix, now time.Time) (denied []netip.Prefix, evicted []string) {
	o := p.owner(owner)
	o.since = since
	var granted []netip.Prefix
	for _, c := range prefixes {
		c = c.Masked()
		if !c.IsValid() || slices.ContainsFunc(granted, c.Overlaps) {
			continue
		}
		older := false
		for _, other := range p.taken.overlapping(c) {
			if other.value != owner && p.outranks(other.value, owner) {
				older = true
			}
		}
		if older {
			denied = append(denied, c)
			continue
		}
		granted = append(granted, c)
	}
	for _, c := range granted {
		for _, other := range p.taken.overlapping(c) {
			if other.value == owner {
				continue
			}
			p.drop(other.value, other.prefix)
			if !slices.Contains(evicted, other.value) {
				evicted = append(evicted, other.value)
			}
		}
	}
	has := func(v4 bool) bool {
		return slices.ContainsFunc(granted, func(c netip.Prefix) bool { return c.Addr().Is4() == v4 })
	}
	for _, old := range slices.Clone(o.prefixes) {
		if has(old.Addr().Is4()) && !slices.Contains(granted, old) {
			p.drop(owner, old)
			p.putToRest(old, now)
		}
	}
	for _, c := range granted {
		if !slices.Contains(o.prefixes, c) {
			p.give(owner, c)
		}
	}
	return denied, evicted
}

// outranks says whether one owner keeps what another claims too.
func (p *ClusterPool) outranks(a, b string) bool {
	sa, sb := p.owners[a].since, p.owners[b].since
	if !sa.Equal(sb) {
		return sa.Before(sb)
	}
	return a < b
}

// Allocate gives the owner a prefix of each family of which it has none and returns all it has, IPv4
// first. It is all or nothing: after ErrFull the owner has what it had. Since is remembered for an
// owner that is new.
func (p *ClusterPool) Allocate(owner string, since, now time.Time) ([]netip.Prefix, error) {
	o, known := p.owners[owner]
	if !known {
		o = &poolOwner{since: since}
	}
	var fresh []netip.Prefix
	for _, f := range []*family{p.v4, p.v6} {
		if f == nil || slices.ContainsFunc(o.prefixes, func(c netip.Prefix) bool { return c.Addr().BitLen() == f.next.Addr().BitLen() }) {
			continue
		}
		c, err := p.find(f, now)
		if err != nil {
			return slices.Clone(o.prefixes), fmt.Errorf("cluster pool: pod CIDR for %s: %w", owner, err)
		}
		fresh = append(fresh, c)
	}
	p.owners[owner] = o
	for _, c := range fresh {
		p.resting.removeOverlapping(c)
		p.give(owner, c)
		f := p.v4
		if c.Addr().Is6() {
			f = p.v6
		}
		f.next = f.after(c, c)
	}
	return slices.Clone(o.prefixes), nil
}

// find looks for a free slot without taking it. A slot that is in use or rests is stepped over, together
// with all that the prefix in its way covers: each step leaves one such prefix behind or changes to the
// next CIDR, so that one round is bounded by their number however many slots there are.
func (p *ClusterPool) find(f *family, now time.Time) (netip.Prefix, error) {
	slot, resting := f.next, false
	for range len(p.taken.entries) + len(p.resting.entries) + len(f.ranges.CIDRs) + 1 {
		var inTheWay netip.Prefix
		if users := p.taken.overlapping(slot); len(users) > 0 {
			inTheWay = users[0].prefix
		}
		for _, r := range p.resting.overlapping(slot) {
			if now.Before(r.value) && !inTheWay.IsValid() {
				inTheWay = r.prefix
				resting = true
			}
		}
		if !inTheWay.IsValid() {
			return slot, nil
		}
		slot = f.after(slot, inTheWay)
	}
	return netip.Prefix{}, f.full(resting)
}

func (f *family) full(resting bool) error {
	cidrs := make([]string, len(f.ranges.CIDRs))
	for i, c := range f.ranges.CIDRs {
		cidrs[i] = c.String()
	}
	if resting {
		return fmt.Errorf("%w: %s %s: every /%d is in use or rests after use", ErrNoPrefix, f.name, strings.Join(cidrs, ", "), f.ranges.MaskSize)
	}
	return fmt.Errorf("%w: %s %s: every /%d is in use; add a CIDR to the cluster's", ErrNoPrefix, f.name, strings.Join(cidrs, ", "), f.ranges.MaskSize)
}

// after is the first slot beyond another one and beyond a prefix that overlaps it. After the last slot of
// the last CIDR comes the first of the first.
func (f *family) after(slot, c netip.Prefix) netip.Prefix {
	if c.Bits() > slot.Bits() {
		c = slot
	}
	cidrs := f.ranges.CIDRs
	i := slices.IndexFunc(cidrs, func(x netip.Prefix) bool { return x.Contains(slot.Addr()) })
	if end := lastOf(c).Next(); end.IsValid() && cidrs[i].Contains(end) {
		return netip.PrefixFrom(end, f.ranges.MaskSize)
	}
	return netip.PrefixFrom(cidrs[(i+1)%len(cidrs)].Addr(), f.ranges.MaskSize)
}

// Release takes everything from an owner; its prefixes rest from now on. An owner that has nothing is no
// error.
func (p *ClusterPool) Release(owner string, now time.Time) []netip.Prefix {
	o := p.owners[owner]
	if o == nil {
		return nil
	}
	had := slices.Clone(o.prefixes)
	for _, c := range had {
		p.drop(owner, c)
		p.putToRest(c, now)
	}
	delete(p.owners, owner)
	return had
}

// putToRest notes since when a prefix is free, and forgets those that have rested.
func (p *ClusterPool) putToRest(c netip.Prefix, now time.Time) {
	p.resting.removeIf(func(until time.Time) bool { return !now.Before(until) })
	p.resting.removeOverlapping(c)
	p.resting.add(c, now.Add(p.rest))
}

// Prefixes returns what an owner has, IPv4 first; nil if nothing.
func (p *ClusterPool) Prefixes(owner string) []netip.Prefix {
	if o := p.owners[owner]; o != nil {
		return slices.Clone(o.prefixes)
	}
	return nil
}

// Owners counts those that have a prefix.
func (p *ClusterPool) Owners() int {
	n := 0
	for _, o := range p.owners {
		if len(o.prefixes) > 0 {
			n++
		}
	}
	return n
}

func (p *ClusterPool) owner(name string) *poolOwner {
	if p.owners[name] == nil {
		p.owners[name] = &poolOwner{}
	}
	return p.owners[name]
}

func (p *ClusterPool) give(owner string, c netip.Prefix) {
	o := p.owner(owner)
	o.prefixes = append(o.prefixes, c)
	slices.SortStableFunc(o.prefixes, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	p.taken.add(c, owner)
}

func (p *ClusterPool) drop(owner string, c netip.Prefix) {
	o := p.owners[owner]
	o.prefixes = slices.DeleteFunc(o.prefixes, func(x netip.Prefix) bool { return x == c })
	p.taken.removeOverlapping(c)
}

// FamilyUse is how much of a family's range the owners have.
type FamilyUse struct {
	Family string // IPv4 or IPv6
	Taken  int    // prefixes of the pool's size, inside of its CIDRs
	Total  float64
}

// Use says how much owners have of each family that is given out, IPv4 first. Prefixes outside of the
// cluster's CIDRs, or of another size, do not count.
func (p *ClusterPool) Use() (out []FamilyUse) {
	for _, f := range []*family{p.v4, p.v6} {
		if f == nil {
			continue
		}
		u := FamilyUse{Family: f.name}
		for _, c := range f.ranges.CIDRs {
			u.Total += math.Ldexp(1, f.ranges.MaskSize-c.Bits())
		}
		for _, o := range p.owners {
			for _, c := range o.prefixes {
				inside := func(r netip.Prefix) bool { return r.Contains(c.Addr()) }
				if c.Bits() == f.ranges.MaskSize && slices.ContainsFunc(f.ranges.CIDRs, inside) {
					u.Taken++
				}
			}
		}
		out = append(out, u)
	}
	return out
}
