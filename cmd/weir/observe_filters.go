package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/flow"
)

// filterFlags collects filters in the order of the command line. Its flags come from flow.Fields.
type filterFlags struct {
	terms      []term
	negateNext bool
}

// end says which end of a flow a flag looks at.
type end string

const (
	eitherEnd end = ""
	fromEnd   end = "from-"
	toEnd     end = "to-"
)

// term is one value of one filter flag.
type term struct {
	field   flow.Field
	end     end
	value   string
	negated bool
}

func (t term) flag() string { return "--" + string(t.end) + t.field.Name }

// register adds a flag for each filter, three if the filter looks at an end of the flow, and --not.
func (ff *filterFlags) register(c *cobra.Command) {
	for _, field := range flow.Fields() {
		ends := []end{eitherEnd}
		help := strings.TrimPrefix(field.Help, "Show ")
		if field.Sided {
			ends = append(ends, fromEnd, toEnd)
		}
		for _, e := range ends {
			v := &filterValue{flags: ff, field: field, end: e}
			text, short := help, field.Short
			switch e {
			case fromEnd:
				text, short = "  like --"+field.Name+", at the source", ""
			case toEnd:
				text, short = "  like --"+field.Name+", at the destination", ""
			default:
				if field.Sided {
					text = "flows " + help
				}
				if n := len(field.Values); n > 0 && n <= 8 {
					text += ": " + strings.Join(field.Values, "|")
				}
			}
			name := string(e) + field.Name
			c.Flags().VarP(v, name, short, text)
			values := field.Values
			complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return values, cobra.ShellCompDirectiveNoFileComp
			}
			if err := c.RegisterFlagCompletionFunc(name, complete); err != nil {
				panic(err) // the flag was added just above
			}
		}
	}
	not := c.Flags().VarPF(&notValue{ff}, "not", "", "leave out flows that match the next filter")
	not.NoOptDefVal = "true"
}

// requestProtocols are those that Hubble knows from looking into requests.
var requestProtocols = []string{"dns", "http", "http2", "kafka"}

// filterValue is a filter flag. Values are checked as they are read, so that the complaint names the
// flag.
type filterValue struct {
	flags *filterFlags
	field flow.Field
	end   end
}

func (v *filterValue) String() string { return "" }
func (v *filterValue) Type() string   { return v.field.Arg }

// Set implements pflag.Value.
func (v *filterValue) Set(s string) error {
	values := []string{s}
	if !v.field.Whole {
		values = strings.Split(s, ",")
	}
	for _, one := range values {
		if v.field.Name == "protocol" && slices.Contains(requestProtocols, strings.ToLower(one)) {
			return unavailablef("flows of %s: requests are not looked into, so only protocols such as tcp and udp are known", strings.ToUpper(one))
		}
		var scratch flow.Filter
		if err := v.field.Add(&scratch, flow.Source, one); err != nil {
			return err
		}
		if _, err := flow.Compile(scratch); err != nil {
			return err
		}
		v.flags.terms = append(v.flags.terms, term{v.field, v.end, one, v.flags.negateNext})
	}
	v.flags.negateNext = false
	return nil
}

// notValue is --not.
type notValue struct{ flags *filterFlags }

func (v *notValue) String() string   { return "" }
func (v *notValue) Type() string     { return "bool" }
func (v *notValue) IsBoolFlag() bool { return true }

// Set implements pflag.Value.
func (v *notValue) Set(s string) error {
	if s != "true" {
		return fmt.Errorf("--not takes no value")
	}
	if v.flags.negateNext {
		return fmt.Errorf("--not must be followed by a filter")
	}
	v.flags.negateNext = true
	return nil
}

// filters turns the flags into the filters of a query.
func (ff *filterFlags) filters() (allow, deny []flow.Filter, err error) {
	if ff.negateNext {
		return nil, nil, usagef("--not must be followed by a filter")
	}
	if err := ff.conflicts(); err != nil {
		return nil, nil, err
	}
	var positive []term
	choice := map[string]int{} // which bit says the end that an either-end filter looks at
	for _, t := range ff.qualified() {
		if t.negated {
			// Each is a reason of its own to leave a flow out.
			fs, err := t.alternatives()
			if err != nil {
				return nil, nil, err
			}
			deny = append(deny, fs...)
			continue
		}
		positive = append(positive, t)
		if _, ok := choice[t.field.Name]; !ok && t.eitherEnd() {
			choice[t.field.Name] = len(choice)
		}
	}
	if len(positive) == 0 {
		return nil, deny, nil
	}
	// "Either end" of several filters: every combination of ends, joined by "or".
	for combination := range 1 << len(choice) {
		var f flow.Filter
		for _, t := range positive {
			side := t.side()
			if bit, ok := choice[t.field.Name]; ok && combination>>bit&1 == 1 {
				side = flow.Dest
			}
			if err := t.addTo(&f, side); err != nil {
				return nil, nil, err
			}
		}
		allow = append(allow, f)
	}
	return allow, deny, nil
}

// conflicts refuses a filter for either end beside the same for one end.
func (ff *filterFlags) conflicts() error {
	seen := map[string]end{}
	for _, t := range ff.terms {
		if t.negated || !t.field.Sided {
			continue
		}
		other, ok := seen[t.field.Name]
		if ok && (other == eitherEnd) != (t.end == eitherEnd) {
			one := t.end
			if one == eitherEnd {
				one = other
			}
			return usagef("--%s and --%s%s exclude each other", t.field.Name, one, t.field.Name)
		}
		seen[t.field.Name] = t.end
	}
	return nil
}

// qualified gives pods without a namespace the one of the namespace filter for the same end, so that
// `-n shop --pod backend` means what it looks like.
func (ff *filterFlags) qualified() []term {
	var out []term
	for _, t := range ff.terms {
		spaces := ff.namespaces(t.end)
		if t.field.Name != "pod" || strings.Contains(t.value, "/") || len(spaces) == 0 {
			out = append(out, t)
			continue
		}
		for _, ns := range spaces {
			q := t
			q.value = ns + "/" + t.value
			out = append(out, q)
		}
	}
	return out
}

func (ff *filterFlags) namespaces(e end) []string {
	var out []string
	for _, t := range ff.terms {
		if t.field.Name == "namespace" && !t.negated && (t.end == e || t.end == eitherEnd) {
			out = append(out, t.value)
		}
	}
	return out
}

func (t term) eitherEnd() bool { return t.field.Sided && t.end == eitherEnd }

func (t term) side() flow.Side {
	if t.end == toEnd {
		return flow.Dest
	}
	return flow.Source
}

func (t term) addTo(f *flow.Filter, side flow.Side) error {
	if err := t.field.Add(f, side, t.value); err != nil {
		return usagef("%s: %w", t.flag(), err)
	}
	return nil
}

// alternatives are the filters of one term alone: two if it looks at either end.
func (t term) alternatives() ([]flow.Filter, error) {
	var out []flow.Filter
	sides := []flow.Side{t.side()}
	if t.eitherEnd() {
		sides = []flow.Side{flow.Source, flow.Dest}
	}
	for _, s := range sides {
		var f flow.Filter
		if err := t.addTo(&f, s); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}
