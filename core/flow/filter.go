package flow

import (
	"fmt"
	"strings"
)

// Side says which end of a flow a filter's value concerns.
type Side uint8

// The two ends.
const (
	Source Side = iota
	Dest
)

// Field is one thing that flows can be filtered by. The command line's flags, their help and the
// compiled filter all come from the table in Fields.
type Field struct {
	Name   string   // of the flag and in errors: "pod"
	Short  string   // one-letter flag, if any
	Sided  bool     // looks at one end: there are from-NAME and to-NAME, and NAME means either end
	Arg    string   // what a value is, for help: "NUMBER"
	Help   string   // "Show flows …", "Show all flows related to …"
	Values []string // the allowed values where they are a short list
	Whole  bool     // a value may hold commas; else commas separate alternatives

	// Add puts one value into the filter. Side is ignored for fields that are not sided. It returns
	// a *ValueError only for values that Filter cannot hold; Compile checks the rest.
	Add func(f *Filter, side Side, value string) error

	compile func(f *Filter) ([]predicate, error)
}

// predicate decides about one flow. It must not keep it.
type predicate func(*Flow) bool

// fields is the table of all filters. A new filter is a file filter_<name>.go and a line here.
var fields = []Field{
	podField,
	namespaceField,
	serviceField,
	labelField,
	ipField,
	portField,
	identityField,
	protocolField,
	verdictField,
	dropReasonField,
	directionField,
	ipVersionField,
	nodeField,
	replyField,
}

// Fields lists everything that flows can be filtered by.
func Fields() []Field { return append([]Field(nil), fields...) }

// Compile checks a filter's values and turns it into a function. The error is a *ValueError that
// names the field, the value and what is allowed. The function may be used by several goroutines.
func Compile(f Filter) (func(*Flow) bool, error) {
	var all []predicate
	for _, field := range fields {
		ps, err := field.compile(&f)
		if err != nil {
			return nil, err
		}
		all = append(all, ps...)
	}
	return func(fl *Flow) bool {
		for _, p := range all {
			if !p(fl) {
				return false
			}
		}
		return true
	}, nil
}

// CompileQuery checks a query as a whole (see Validate) and returns what decides whether it selects
// a flow: its time window, then one of Allow, then none of Deny.
func CompileQuery(q Query) (func(*Flow) bool, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	allow, err := compileAll(q.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := compileAll(q.Deny)
	if err != nil {
		return nil, err
	}
	return func(f *Flow) bool {
		if !q.Since.IsZero() && f.Time.Before(q.Since) || !q.Until.IsZero() && f.Time.After(q.Until) {
			return false
		}
		return (len(allow) == 0 || anyOf(allow, f)) && !anyOf(deny, f)
	}, nil
}

// Validate refuses combinations that contradict each other. The error names both.
func (q Query) Validate() error {
	for _, c := range []struct {
		bad  bool
		a, b string
	}{
		{q.First > 0 && q.Last > 0, "first", "last"},
		{q.First > 0 && q.Follow, "first", "follow"},
		{q.All && q.First > 0, "all", "first"},
		{q.All && q.Last > 0, "all", "last"},
		{q.All && !q.Since.IsZero(), "all", "since"},
	} {
		if c.bad {
			return fmt.Errorf("%s and %s exclude each other", c.a, c.b)
		}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		return fmt.Errorf("until (%s) is before since (%s)", timestamp(q.Until), timestamp(q.Since))
	}
	return nil
}

func compileAll(fs []Filter) ([]func(*Flow) bool, error) {
	out := make([]func(*Flow) bool, 0, len(fs))
	for _, f := range fs {
		m, err := Compile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func anyOf(ms []func(*Flow) bool, f *Flow) bool {
	for _, m := range ms {
		if m(f) {
			return true
		}
	}
	return false
}

// alternatives compiles a field's values: one of them must match. No values: no restriction.
func alternatives[V any](values []V, one func(V) (predicate, error)) ([]predicate, error) {
	if len(values) == 0 {
		return nil, nil
	}
	ps := make([]predicate, 0, len(values))
	for _, v := range values {
		p, err := one(v)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	if len(ps) == 1 {
		return ps, nil
	}
	return []predicate{func(f *Flow) bool {
		for _, p := range ps {
			if p(f) {
				return true
			}
		}
		return false
	}}, nil
}

// bothSides compiles the values of a sided field.
func bothSides[V any](source, dest []V, one func(V, Side) (predicate, error)) ([]predicate, error) {
	s, err := alternatives(source, func(v V) (predicate, error) { return one(v, Source) })
	if err != nil {
		return nil, err
	}
	d, err := alternatives(dest, func(v V) (predicate, error) { return one(v, Dest) })
	if err != nil {
		return nil, err
	}
	return append(s, d...), nil
}

// pick appends a value to the list of its side.
func pick[V any](source, dest *[]V, side Side, v V) {
	if side == Dest {
		source = dest
	}
	*source = append(*source, v)
}

// end returns the flow's endpoint on a side.
func (f *Flow) end(side Side) *Endpoint {
	if side == Dest {
		return &f.Dest
	}
	return &f.Source
}

// namePattern is "namespace/prefix", "namespace/" or, in the given namespace, "prefix".
type namePattern struct{ namespace, prefix string }

func parseNamePattern(field, s string) (namePattern, error) {
	ns, prefix, qualified := strings.Cut(s, "/")
	if !qualified {
		ns, prefix = "default", s
	}
	if ns == "" || strings.Contains(prefix, "/") || !qualified && prefix == "" {
		return namePattern{}, &ValueError{Field: field, Value: s,
			Allowed: []string{"NAMESPACE/PREFIX", "NAMESPACE/", "PREFIX (namespace default)"}}
	}
	return namePattern{ns, prefix}, nil
}

func (p namePattern) matches(namespace, name string) bool {
	return namespace == p.namespace && name != "" && strings.HasPrefix(name, p.prefix)
}
