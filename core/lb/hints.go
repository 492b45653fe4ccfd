package lb

import (
	"slices"
	"strings"
)

// Hints name the zones or the nodes whose clients a backend is meant for. The zero value names none.
type Hints struct{ names string } // sorted, each between commas: comparable, and a look-up needs no memory

// NewHints returns the hints of these names, in any order; empty ones do not count.
func NewHints(names ...string) Hints {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" })
	if len(names) == 0 {
		return Hints{}
	}
	slices.Sort(names)
	return Hints{"," + strings.Join(slices.Compact(names), ",") + ","}
}

// Has says whether a zone or node is named. The name is without commas, as those of Kubernetes are.
func (h Hints) Has(name string) bool { return name != "" && strings.Contains(h.names, ","+name+",") }

func (h Hints) String() string { return strings.Trim(h.names, ",") }

// nearest says which of the backends that could take new connections should, by their hints: those meant for
// this node, if all have hints for nodes and one of them is for this; else the same with zones; else all. Hints that
// only some backends have are those of a source that has not come round to the others.
func nearest(backends []*Backend, node, zone string) func(*Backend) bool {
	forNode := func(b *Backend) Hints { return b.ForNodes }
	forZone := func(b *Backend) Hints { return b.ForZones }
	for _, by := range []struct {
		hints func(*Backend) Hints
		here  string
	}{{forNode, node}, {forZone, zone}} {
		all, some := true, false
		for _, b := range backends {
			if b.State == Active && b.Weight > 0 {
				h := by.hints(b)
				all, some = all && h != Hints{}, some || h.Has(by.here)
			}
		}
		if all && some {
			return func(b *Backend) bool { return by.hints(b).Has(by.here) }
		}
	}
	return func(*Backend) bool { return true }
}
