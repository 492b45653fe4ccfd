package labels

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Operator of a requirement, as in Kubernetes' label selectors.
type Operator string

// The operators of Kubernetes and Cilium selectors.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// Requirement is one condition of a selector. Values must be non-empty for In and NotIn and empty
// for Exists and DoesNotExist. NotIn also holds where the key is absent, as in Kubernetes.
type Requirement struct {
	Source, Key string
	Operator    Operator
	Values      []string
}

func (r Requirement) String() string {
	k := r.Source + ":" + r.Key
	switch r.Operator {
	case In:
		if len(r.Values) == 1 {
			return k + "=" + r.Values[0]
		}
		return k + " in (" + strings.Join(r.Values, ",") + ")"
	case NotIn:
		return k + " notin (" + strings.Join(r.Values, ",") + ")"
	case Exists:
		return k
	default:
		return "!" + k
	}
}

// Selector is a conjunction of requirements. The zero value selects everything.
// Selectors are immutable; two selectors with equal Key select the same sets. Which is not to say
// that two which select the same sets have equal keys.
type Selector struct {
	reqs []Requirement
	key  string
}

// NewSelector checks the requirements and builds a selector. The error names the requirement and
// what is allowed.
func NewSelector(reqs ...Requirement) (Selector, error) {
	out := make([]Requirement, 0, len(reqs))
	for _, r := range reqs {
		if r.Key == "" {
			return Selector{}, fmt.Errorf("requirement without a key")
		}
		if r.Source == "" {
			r.Source = SourceAny
		}
		switch r.Operator {
		case In, NotIn:
			if len(r.Values) == 0 {
				return Selector{}, fmt.Errorf("key %q: operator %s needs at least one value", r.Key, r.Operator)
			}
			v := append([]string(nil), r.Values...)
			sort.Strings(v)
			r.Values = slices.Compact(v)
		case Exists, DoesNotExist:
			if len(r.Values) != 0 {
				return Selector{}, fmt.Errorf("key %q: operator %s takes no values, got %d", r.Key, r.Operator, len(r.Values))
			}
			r.Values = nil
		default:
			return Selector{}, fmt.Errorf("key %q: unknown operator %q; allowed: In, NotIn, Exists, DoesNotExist", r.Key, r.Operator)
		}
		out = append(out, r)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].canonical() < out[j].canonical() })
	parts := make([]string, 0, len(out))
	dedup := out[:0]
	for _, r := range out {
		s := r.canonical()
		if n := len(parts); n > 0 && parts[n-1] == s {
			continue
		}
		parts = append(parts, s)
		dedup = append(dedup, r)
	}
	return Selector{reqs: dedup, key: strings.Join(parts, ",")}, nil
}

// canonical is String with what separates its parts escaped inside them.
func (r Requirement) canonical() string {
	const separators = "\\,()=!: "
	r.Source, r.Key = escape(r.Source, separators), escape(r.Key, separators)
	values := make([]string, len(r.Values))
	for i, v := range r.Values {
		values[i] = escape(v, separators)
	}
	r.Values = values
	return r.String()
}

// Positive says whether the requirement asks for a label to be there (In, Exists), rather than for
// one to be absent.
func (r Requirement) Positive() bool { return r.Operator == In || r.Operator == Exists }

// Everything selects every set of labels.
func Everything() Selector { return Selector{} }

// Key is the canonical text of the selector; it is empty for Everything.
func (s Selector) Key() string { return s.key }

// String is Key, or "<all>" for Everything.
func (s Selector) String() string {
	if s.key == "" {
		return "<all>"
	}
	return s.key
}

// Requirements returns the conditions in canonical order. The caller must not modify the slice.
func (s Selector) Requirements() []Requirement { return s.reqs }

// Matches says whether every requirement holds for the set. It does not allocate.
func (s Selector) Matches(set Set) bool {
	for i := range s.reqs {
		if !s.reqs[i].matches(set) {
			return false
		}
	}
	return true
}

// matches looks at lengths before bytes, and at keys before sources: most labels of a set differ in the length of
// their key from the one asked for.
func (r *Requirement) matches(set Set) bool {
	found, anySource := false, r.Source == SourceAny
	for i := range set.list {
		l := &set.list[i]
		if len(l.Key) != len(r.Key) || l.Key != r.Key || !anySource && l.Source != r.Source {
			continue
		}
		found = true
		for _, v := range r.Values {
			if v == l.Value {
				return r.Operator == In
			}
		}
		if !anySource { // no second label of this source and key
			break
		}
	}
	switch r.Operator {
	case In:
		return false
	case NotIn:
		return true
	case Exists:
		return found
	default:
		return !found
	}
}
