package ipam

import (
	"net/netip"
	"slices"
)

// prefixSet holds prefixes that do not overlap, in the order of their addresses, each with a value. The
// zero value is empty.
type prefixSet[V any] struct {
	entries []prefixEntry[V]
}

type prefixEntry[V any] struct {
	prefix netip.Prefix
	value  V
}

// span is where the entries that overlap a prefix lie: they are neighbours.
func (s *prefixSet[V]) span(c netip.Prefix) (from, to int) {
	from, _ = slices.BinarySearchFunc(s.entries, c.Addr(), func(e prefixEntry[V], a netip.Addr) int { return e.prefix.Addr().Compare(a) })
	if from > 0 && s.entries[from-1].prefix.Overlaps(c) {
		from--
	}
	for to = from; to < len(s.entries) && s.entries[to].prefix.Overlaps(c); to++ {
	}
	return from, to
}

// overlapping returns the entries that overlap a prefix; the caller does not change them.
func (s *prefixSet[V]) overlapping(c netip.Prefix) []prefixEntry[V] {
	from, to := s.span(c)
	return s.entries[from:to]
}

// add takes in a prefix that overlaps none that is there.
func (s *prefixSet[V]) add(c netip.Prefix, v V) {
	at, _ := s.span(c)
	s.entries = slices.Insert(s.entries, at, prefixEntry[V]{c, v})
}

func (s *prefixSet[V]) removeOverlapping(c netip.Prefix) {
	from, to := s.span(c)
	s.entries = slices.Delete(s.entries, from, to)
}

func (s *prefixSet[V]) removeIf(gone func(V) bool) {
	s.entries = slices.DeleteFunc(s.entries, func(e prefixEntry[V]) bool { return gone(e.value) })
}
