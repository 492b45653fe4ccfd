package policy

import "github.com/weirnet/weir/core/labels"

// pair is a label without its source. Indexes leave the source out, because a selector may ask for
// any; what they find is checked against the whole selector.
type pair struct{ key, value string }

// selectorIndex finds the selectors that match a set of labels without looking at the others. Each
// selector is filed under one positive requirement: every value of an In, or the key of an Exists.
type selectorIndex[T comparable] struct {
	byPair map[pair][]filed[T]
	byKey  map[string][]filed[T]
	rest   []filed[T] // no positive requirement
	where  map[T]labels.Requirement
}

type filed[T comparable] struct {
	sel  labels.Selector
	item T
}

func newSelectorIndex[T comparable]() *selectorIndex[T] {
	return &selectorIndex[T]{
		byPair: map[pair][]filed[T]{}, byKey: map[string][]filed[T]{}, where: map[T]labels.Requirement{},
	}
}

// add files an item. Of several requirements it takes the one under which the fewest others are
// filed: with namespaces and app labels mixed, buckets stay small whichever of them repeats.
func (x *selectorIndex[T]) add(sel labels.Selector, item T) {
	var best labels.Requirement
	cost := -1
	for _, r := range sel.Requirements() {
		n := 0
		switch r.Operator {
		case labels.In:
			for _, v := range r.Values {
				n = max(n, len(x.byPair[pair{r.Key, v}]))
			}
		case labels.Exists: // a key is rarely as telling as a key with a value
			n = 2*len(x.byKey[r.Key]) + 16
		default:
			continue
		}
		if cost < 0 || n < cost {
			best, cost = r, n
		}
	}
	f := filed[T]{sel, item}
	x.where[item] = best
	switch best.Operator {
	case labels.In:
		for _, v := range best.Values {
			p := pair{best.Key, v}
			x.byPair[p] = append(x.byPair[p], f)
		}
	case labels.Exists:
		x.byKey[best.Key] = append(x.byKey[best.Key], f)
	default:
		x.rest = append(x.rest, f)
	}
}

func (x *selectorIndex[T]) remove(item T) {
	r, ok := x.where[item]
	if !ok {
		return
	}
	delete(x.where, item)
	switch r.Operator {
	case labels.In:
		for _, v := range r.Values {
			p := pair{r.Key, v}
			if b := without(x.byPair[p], item); len(b) > 0 {
				x.byPair[p] = b
			} else {
				delete(x.byPair, p)
			}
		}
	case labels.Exists:
		if b := without(x.byKey[r.Key], item); len(b) > 0 {
			x.byKey[r.Key] = b
		} else {
			delete(x.byKey, r.Key)
		}
	default:
		x.rest = without(x.rest, item)
	}
}

func without[T comparable](fs []filed[T], item T) []filed[T] {
	for i := range fs {
		if fs[i].item == item {
			last := len(fs) - 1
			fs[i] = fs[last]
			fs[last] = filed[T]{}
			return fs[:last]
		}
	}
	return fs
}

// match appends the items whose selector matches, in no particular order. An item can come twice if
// the set has one key from two sources.
func (x *selectorIndex[T]) match(set labels.Set, out []T) []T {
	try := func(fs []filed[T]) {
		for i := range fs {
			if fs[i].sel.Matches(set) {
				out = append(out, fs[i].item)
			}
		}
	}
	for _, l := range set.All() {
		try(x.byPair[pair{l.Key, l.Value}])
		try(x.byKey[l.Key])
	}
	try(x.rest)
	return out
}
