package operator

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
)

// slicePlan says which slice an endpoint belongs to. An endpoint stays in its slice as long as it lives, so
// that what one pod does changes one object; a new one goes where there is least room left, so that slices fill
// up and empty ones can go. It has one user.
type slicePlan struct {
	size    int
	members map[string]map[cluster.Name]bool // by slice
	spaces  map[string][]string              // namespaces' slices, sorted
	of      map[cluster.Name]string
}

func newSlicePlan(size int) *slicePlan {
	return &slicePlan{size: size, members: map[string]map[cluster.Name]bool{}, spaces: map[string][]string{}, of: map[cluster.Name]string{}}
}

// adopt puts an endpoint where an existing slice has it, and returns false if it can't be: it has its place in
// another slice, or the slice is full.
func (p *slicePlan) adopt(slice string, e cluster.Name) bool {
	if at, placed := p.of[e]; placed {
		return at == slice
	}
	if len(p.members[slice]) >= p.size {
		return false
	}
	p.place(slice, e)
	return true
}

// put gives an endpoint a place, if it has none, and returns it.
func (p *slicePlan) put(e cluster.Name) (slice string) {
	if at, ok := p.of[e]; ok {
		return at
	}
	best := ""
	for _, s := range p.spaces[e.Namespace] {
		if n := len(p.members[s]); n < p.size && (best == "" || n > len(p.members[best])) {
			best = s
		}
	}
	for best == "" {
		if name := newSliceName(); p.members[name] == nil {
			best = name
		}
	}
	p.place(best, e)
	return best
}

func (p *slicePlan) place(slice string, e cluster.Name) {
	if p.members[slice] == nil {
		p.members[slice] = map[cluster.Name]bool{}
		list := p.spaces[e.Namespace]
		at, _ := slices.BinarySearch(list, slice)
		p.spaces[e.Namespace] = slices.Insert(list, at, slice)
	}
	p.members[slice][e] = true
	p.of[e] = slice
}

// remove takes an endpoint out and returns the slice that had it.
func (p *slicePlan) remove(e cluster.Name) (slice string, had bool) {
	slice, had = p.of[e]
	if !had {
		return "", false
	}
	delete(p.of, e)
	delete(p.members[slice], e)
	if len(p.members[slice]) == 0 {
		delete(p.members, slice)
		left := slices.DeleteFunc(p.spaces[e.Namespace], func(s string) bool { return s == slice })
		if p.spaces[e.Namespace] = left; len(left) == 0 {
			delete(p.spaces, e.Namespace)
		}
	}
	return slice, true
}

// list returns the endpoints of a slice, sorted.
func (p *slicePlan) list(slice string) []cluster.Name {
	out := make([]cluster.Name, 0, len(p.members[slice]))
	for e := range p.members[slice] {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b cluster.Name) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// newSliceName makes a name as Cilium's slices have it.
func newSliceName() string {
	const letters = "bcdfghjkmnpqrstvwxz2456789"
	b := []byte("ces-xxxxxxxxx-xxxxx")
	for i, c := range b {
		if c == 'x' {
			b[i] = letters[rand.IntN(len(letters))]
		}
	}
	return string(b)
}
