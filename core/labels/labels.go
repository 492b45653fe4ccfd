// Package labels holds the labels that decide an endpoint's security identity, and the selectors
// that policies use to pick endpoints.
//
// A label has a source (who attached it), a key and a value: `k8s:app=web`, `reserved:host`,
// `cidr:10.0.0.0/8`. A selector may ask for a key from one source or, with source `any`, from every
// source. The package is pure: values in, values out, safe for concurrent use because nothing is
// ever modified after it was made.
package labels

import (
	"fmt"
	"sort"
	"strings"
)

// Sources of labels. SourceAny appears in selectors only.
const (
	SourceK8s      = "k8s"
	SourceAny      = "any"
	SourceReserved = "reserved"
	SourceCIDR     = "cidr"
)

// Keys of labels that weir derives from the cluster.
const (
	KeyNamespace       = "io.kubernetes.pod.namespace"
	KeyNamespacePrefix = "io.cilium.k8s.namespace.labels."
	KeyCluster         = "io.cilium.k8s.policy.cluster"
	KeyServiceAccount  = "io.cilium.k8s.policy.serviceaccount"
)

// Label is one fact about an endpoint.
type Label struct {
	Source, Key, Value string
}

// String gives the canonical form `source:key=value`, or `source:key` when the value is empty.
func (l Label) String() string {
	if l.Value == "" {
		return l.Source + ":" + l.Key
	}
	return l.Source + ":" + l.Key + "=" + l.Value
}

// Parse reads `source:key=value`, `key=value` (source any), `source:key` or `key`. The error names
// the offending part.
func Parse(s string) (Label, error) {
	if strings.TrimSpace(s) == "" {
		return Label{}, fmt.Errorf("label %q: empty; want [source:]key[=value]", s)
	}
	l := Label{Source: SourceAny}
	rest, value, _ := strings.Cut(s, "=")
	l.Value = value
	// A source is a word before the first colon; keys hold no colon.
	if source, key, ok := strings.Cut(rest, ":"); ok {
		if source == "" {
			return Label{}, fmt.Errorf("label %q: empty source before %q", s, ":")
		}
		l.Source, rest = source, key
		if source == SourceCIDR { // prefixes of IPv6 hold colons
			l.Key = key
			return l, nil
		}
	}
	if rest == "" {
		return Label{}, fmt.Errorf("label %q: empty key", s)
	}
	if strings.ContainsAny(rest, ": \t") {
		return Label{}, fmt.Errorf("label %q: key %q holds a colon or a space", s, rest)
	}
	l.Key = rest
	return l, nil
}

// Set is an immutable set of labels, at most one value per (source, key), sorted by source and key.
// The zero value is the empty set.
type Set struct {
	list []Label
	key  string
}

// NewSet builds a set. Of two labels with the same source and key the later one counts.
func NewSet(ls ...Label) Set {
	sorted := append([]Label(nil), ls...)
	sort.SliceStable(sorted, func(i, j int) bool {
		if sorted[i].Source != sorted[j].Source {
			return sorted[i].Source < sorted[j].Source
		}
		return sorted[i].Key < sorted[j].Key
	})
	list := sorted[:0]
	for _, l := range sorted {
		if n := len(list); n > 0 && list[n-1].Source == l.Source && list[n-1].Key == l.Key {
			list[n-1] = l
			continue
		}
		list = append(list, l)
	}
	var b strings.Builder
	for _, l := range list {
		b.WriteString(l.String())
		b.WriteByte(';')
	}
	return Set{list: list, key: b.String()}
}

// ParseSet reads a list of labels as Parse does.
func ParseSet(ss ...string) (Set, error) {
	ls := make([]Label, 0, len(ss))
	for _, s := range ss {
		l, err := Parse(s)
		if err != nil {
			return Set{}, err
		}
		ls = append(ls, l)
	}
	return NewSet(ls...), nil
}

// Key is a canonical text of the set: equal sets have equal keys.
func (s Set) Key() string { return s.key }

// Len is the number of labels.
func (s Set) Len() int { return len(s.list) }

// All returns the labels in order. The caller must not modify the slice.
func (s Set) All() []Label { return s.list }

// Strings returns the labels in their canonical form, in order.
func (s Set) Strings() []string {
	out := make([]string, len(s.list))
	for i, l := range s.list {
		out[i] = l.String()
	}
	return out
}

// Get returns the value of a label; source `any` looks in every source, in order.
func (s Set) Get(source, key string) (string, bool) {
	for _, l := range s.list {
		if l.Key == key && (source == SourceAny || l.Source == source) {
			return l.Value, true
		}
	}
	return "", false
}

// Has says whether a label with this source and key is in the set.
func (s Set) Has(source, key string) bool {
	_, ok := s.Get(source, key)
	return ok
}
