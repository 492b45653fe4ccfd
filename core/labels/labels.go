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
	"unicode"
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

// Parse reads `source:key=value`, `key=value` (source any), `source:key` or `key`. The value is
// everything after the first equals sign. Source and key must be non-empty, without spaces and
// control characters, and only keys of source cidr may hold colons. The error names the offending
// part.
func Parse(s string) (Label, error) {
	if strings.TrimSpace(s) == "" {
		return Label{}, fmt.Errorf("label %q: empty; want [source:]key[=value]", s)
	}
	l := Label{Source: SourceAny}
	name, value, _ := strings.Cut(s, "=")
	l.Key, l.Value = name, value
	if source, key, ok := strings.Cut(name, ":"); ok {
		l.Source, l.Key = source, key
		if source == "" {
			return Label{}, fmt.Errorf("label %q: empty source before %q", s, ":")
		}
	}
	switch {
	case l.Key == "":
		return Label{}, fmt.Errorf("label %q: empty key", s)
	case strings.ContainsFunc(l.Source, blank):
		return Label{}, fmt.Errorf("label %q: source %q holds a space or a control character", s, l.Source)
	case strings.ContainsFunc(l.Key, blank):
		return Label{}, fmt.Errorf("label %q: key %q holds a space or a control character", s, l.Key)
	case l.Source != SourceCIDR && strings.Contains(l.Key, ":"): // prefixes of IPv6 hold colons
		return Label{}, fmt.Errorf("label %q: key %q holds a colon", s, l.Key)
	}
	return l, nil
}

func blank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// escape marks the bytes of a text that separate parts in canonical keys, so that no label or
// selector can be written to look like another.
func escape(s, separators string) string {
	if !strings.ContainsAny(s, separators) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(separators, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
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
		l.Source, l.Key, l.Value = escape(l.Source, `\;:=`), escape(l.Key, `\;=`), escape(l.Value, `\;`)
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

// Key is a canonical text of the set: two sets are equal if and only if their keys are.
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
