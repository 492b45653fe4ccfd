// Package prefix does sums with sets of IP prefixes.
package prefix

import (
	"net/netip"
	"slices"
)

// Range is all addresses from First to Last, both included and of one family.
type Range struct{ First, Last netip.Addr }

// RangeOf is the range of a prefix; its host bits don't count.
func RangeOf(p netip.Prefix) Range {
	p = p.Masked()
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return Range{p.Addr(), last}
}

// Ranges is the union of prefixes as the fewest ranges, sorted, IPv4 first. Invalid prefixes are left out.
func Ranges(ps []netip.Prefix) []Range {
	var rs []Range
	for _, p := range ps {
		if p.IsValid() {
			rs = append(rs, RangeOf(p))
		}
	}
	slices.SortFunc(rs, func(a, b Range) int { return a.First.Compare(b.First) })
	var out []Range
	for _, r := range rs {
		if n := len(out) - 1; n >= 0 && out[n].Last.BitLen() == r.First.BitLen() &&
			(r.First.Compare(out[n].Last) <= 0 || out[n].Last.Next() == r.First) {
			if out[n].Last.Less(r.Last) {
				out[n].Last = r.Last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// Prefixes is a range as the fewest prefixes, sorted. A range that ends before it begins has none.
func (r Range) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for first := r.First; first.IsValid() && first.Compare(r.Last) <= 0; {
		bits := first.BitLen()
		// The widest prefix that begins at first and ends within the range.
		for bits > 0 {
			wider := netip.PrefixFrom(first, bits-1)
			if wider.Masked().Addr() != first || r.Last.Less(RangeOf(wider).Last) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(first, bits)
		out = append(out, p)
		first = RangeOf(p).Last.Next()
	}
	return out
}

// Aggregate is the union of prefixes as the fewest prefixes, sorted, IPv4 first: two sets of prefixes hold
// the same addresses exactly if this is the same for both.
func Aggregate(ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range Ranges(ps) {
		out = append(out, r.Prefixes()...)
	}
	return out
}
