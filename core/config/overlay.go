package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Overlay is what one CiliumNodeConfig says: keys that count before those of the ConfigMap on the nodes that
// it selects.
type Overlay struct {
	Name   string            `json:"name"` // namespace/name
	Values map[string]string `json:"values,omitempty"`
}

// Resolved is a ConfigMap under its overlays.
type Resolved struct {
	Values   map[string]string
	From     map[string]string // by key: the overlay that a value comes from; absent for the ConfigMap's
	Findings []Finding         // what was not taken, and what stays in force instead
}

// ConfigMapOnly are keys that no overlay may change: they say whether and how overlays count.
var configMapOnly = []string{"config-sources", "config-sources-overrides", "enable-cilium-node-config"}

// Resolve puts overlays over a ConfigMap; of several that say a key the last counts. A value that is refused, or
// that may not be overridden, leaves in force what was there before, and is told. What is right by itself
// and does not go together with the rest is refused with all that its overlay says: check (Parse, if it is nil)
// says so of a whole configuration.
func Resolve(base map[string]string, overlays []Overlay, check func(map[string]string) error) Resolved {
	if check == nil {
		check = func(values map[string]string) error { _, err := Parse(values); return err }
	}
	out := Resolved{Values: base}
	limits, err := overridesOf(base)
	if err != nil {
		out.Findings = append(out.Findings, Finding{overridesKey, Warning, err.Error() + "; no CiliumNodeConfig counts"})
		return out
	}
	good := make([]Overlay, len(overlays))
	for i, o := range overlays {
		good[i] = Overlay{o.Name, map[string]string{}}
		for _, key := range slices.Sorted(maps.Keys(o.Values)) {
			value := o.Values[key]
			why := limits.refuse(key, value)
			if why == "" {
				good[i].Values[key] = value
				continue
			}
			stays := compose(base, good[:i])
			out.Findings = append(out.Findings, Finding{key, Warning,
				fmt.Sprintf("CiliumNodeConfig %s: %s; %s stays in force", o.Name, why, stays.Describe(key))})
		}
	}
	all := compose(base, good)
	if all.check(check) == nil {
		all.Findings = out.Findings
		return all
	}
	taken := agreeing(base, good, check)
	all = compose(base, taken)
	for _, o := range good {
		if len(o.Values) > 0 && !slices.ContainsFunc(taken, func(t Overlay) bool { return t.Name == o.Name }) {
			err := compose(base, inOrder(good, append(slices.Clone(taken), o))).check(check)
			out.Findings = append(out.Findings, Finding{slices.Sorted(maps.Keys(o.Values))[0], Warning,
				fmt.Sprintf("CiliumNodeConfig %s: does not go together with the rest and is left out as a whole: %v", o.Name, err)})
		}
	}
	all.Findings = out.Findings
	return all
}

// agreeing picks the overlays that go together with the ConfigMap, the earlier ones first, in their order.
func agreeing(base map[string]string, all []Overlay, check func(map[string]string) error) (taken []Overlay) {
	left := slices.Clone(all)
	for more := true; more; {
		more = false
		for i := 0; i < len(left); i++ {
			next := inOrder(all, append(slices.Clone(taken), left[i]))
			if compose(base, next).check(check) == nil {
				taken, left, more = next, slices.Delete(left, i, i+1), true
				i--
			}
		}
	}
	return taken
}

// inOrder sorts some overlays as they are among all.
func inOrder(all, some []Overlay) (out []Overlay) {
	for _, o := range all {
		if slices.ContainsFunc(some, func(s Overlay) bool { return s.Name == o.Name }) {
			out = append(out, o)
		}
	}
	return out
}

func compose(base map[string]string, overlays []Overlay) Resolved {
	r := Resolved{Values: map[string]string{}, From: map[string]string{}}
	maps.Copy(r.Values, base)
	for _, o := range overlays {
		for k, v := range o.Values {
			r.Values[k], r.From[k] = v, o.Name
		}
	}
	return r
}

func (r Resolved) check(check func(map[string]string) error) error { return check(r.Values) }

// Source says in words where a key's value comes from.
func (r Resolved) Source(key string) string {
	if o, ok := r.From[key]; ok {
		return "CiliumNodeConfig " + o
	}
	if strings.TrimSpace(r.Values[key]) != "" {
		return "ConfigMap cilium-config"
	}
	return "default"
}

// Describe says a key's value and where it comes from.
func (r Resolved) Describe(key string) string {
	v := strings.TrimSpace(r.Values[key])
	if v == "" {
		k, _ := Lookup(key)
		v = k.Default
	}
	return fmt.Sprintf("%q (%s)", v, r.Source(key))
}

// overridesKey limits which keys overlays may have.
const overridesKey = "config-sources-overrides"

// overrides is the value of overridesKey.
type overrides struct {
	Allow []string `json:"allowConfigKeys"` // no others, if there are any; counts before Deny
	Deny  []string `json:"denyConfigKeys"`
}

func overridesOf(base map[string]string) (o overrides, err error) {
	text := strings.TrimSpace(base[overridesKey])
	if text == "" {
		return o, nil
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return o, fmt.Errorf(`%s: %q is not understood (%w); allowed: {"allowConfigKeys":[…],"denyConfigKeys":[…]}`, overridesKey, text, err)
	}
	return o, nil
}

// refuse says why an overlay may not have a key with such a value; empty if it may.
func (o overrides) refuse(key, value string) string {
	k, known := Lookup(key)
	switch {
	case slices.Contains(configMapOnly, key):
		return key + ": is for the ConfigMap alone"
	case len(o.Allow) > 0 && !slices.Contains(o.Allow, key):
		return fmt.Sprintf("%s: may not be overridden; allowed by %s: %s", key, overridesKey, strings.Join(o.Allow, ", "))
	case len(o.Allow) == 0 && slices.Contains(o.Deny, key):
		return fmt.Sprintf("%s: may not be overridden, says %s", key, overridesKey)
	case known && k.Operator:
		return key + ": is read by the operator, which is on no node and obeys the ConfigMap alone"
	}
	if known {
		if err := k.Check(value); err != nil {
			return err.Error()
		}
	}
	return ""
}

// NodeConfigs says whether CiliumNodeConfigs count, by what the ConfigMap says, and those of which namespace:
// empty is the agent's own.
func NodeConfigs(base map[string]string) (namespace string, count bool) {
	v := reader{base}
	if !v.yes("enable-cilium-node-config") {
		return "", false
	}
	sources := v.list("config-sources")
	for _, s := range sources {
		if kind, ns, _ := strings.Cut(s, ":"); kind == "cilium-node-config" {
			return ns, true
		}
	}
	return "", len(sources) == 0
}
