// Package config knows the keys of the ConfigMap cilium-config: what each means, which values it may
// have, what weir does with it, and whether a change needs a restart of the agent. It reads values that
// somebody else read from files or flags; it has no effect of its own.
//
// A key falls into one of three classes. An obeyed key does what it says. An accepted one changes
// nothing, because what it would tune does not exist here or is always on; the table says why, and a key that
// asks for a whole feature which does not exist (encryption, say) is warned of for as long as it is set. A
// fixed one would make a node that no other node understands, or turn around what policies mean: only the
// values that are true anyway are taken, others are refused with what to use instead.
package config

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Kind is the type of a key's value.
type Kind uint8

// The kinds. An empty value means the default, for every kind.
const (
	Bool     Kind = iota // true or false
	Int                  // decimal, between Key.Min and Key.Max
	Float                // decimal with a fraction, between Key.Min and Key.Max
	String               // any text
	Enum                 // one of Key.Allowed
	Duration             // as Go writes them, "1m30s"; not negative
	Prefix               // an IP prefix
	Address              // an IP address
	Path                 // an absolute path
	List                 // words separated by blanks or commas
)

var kindNames = [...]string{"truth value", "whole number", "number", "text", "known value", "duration", "prefix", "address", "path", "list"}

func (k Kind) String() string { return kindNames[k] }

// Effect is what weir does with a key.
type Effect uint8

// The effects.
const (
	Obeyed   Effect = iota // does what it says
	Accepted               // changes nothing, and Key.Means says why
	Fixed                  // only Key.Allowed is true of weir; Key.Means says what to use instead
)

func (e Effect) String() string { return [...]string{"obeyed", "no effect", "fixed"}[e] }

// Key describes one key. Keys are values: nobody changes them.
type Key struct {
	Name     string
	Kind     Kind
	Default  string   // in the form of a value; "" is empty
	Allowed  []string // of an Enum: the values; of a Fixed key: those that are not refused
	Min, Max float64  // of an Int or Float
	Effect   Effect
	Restart  bool   // a change of an obeyed key takes effect when the agent starts again
	Missing  bool   // of an accepted key: asks for a feature that does not exist
	Operator bool   // read by the operator, not by the agent
	Means    string // what it does, why it does nothing, or what to use instead
}

// Values says in a few words which values the key may have.
func (k Key) Values() string {
	switch {
	case len(k.Allowed) == 1 && k.Allowed[0] == "":
		return "empty"
	case len(k.Allowed) > 0:
		return strings.Join(k.Allowed, ", ")
	case k.Kind == Bool:
		return "true, false"
	case k.Kind == Int, k.Kind == Float:
		return fmt.Sprintf("%s to %s", number(k.Min), number(k.Max))
	case k.Kind == Duration:
		return "a duration such as 30s or 5m"
	case k.Kind == Prefix:
		return "an IP prefix such as 10.0.0.0/8, or empty"
	case k.Kind == Address:
		return "an IP address, or empty"
	case k.Kind == Path:
		return "an absolute path, or empty"
	case k.Kind == List:
		return "words separated by blanks or commas"
	}
	return "any text"
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Keys is the whole table, sorted by name.
func Keys() []Key { return slices.Clone(keys) }

// Lookup finds a key.
func Lookup(name string) (Key, bool) {
	i, ok := slices.BinarySearchFunc(keys, name, func(k Key, n string) int { return strings.Compare(k.Name, n) })
	if !ok {
		return Key{}, false
	}
	return keys[i], true
}

// Check says what is wrong with a value of this key; nil if nothing is.
func (k Key) Check(value string) error {
	v := strings.TrimSpace(value)
	if v == "" {
		return nil
	}
	bad := func() error {
		if k.Effect == Fixed {
			return fmt.Errorf("%s: %q is refused: %s; allowed: %s", k.Name, value, k.Means, k.Values())
		}
		return fmt.Errorf("%s: %q is not a %s; allowed: %s", k.Name, value, k.Kind, k.Values())
	}
	if !k.wellFormed(v) {
		return fmt.Errorf("%s: %q is not a %s; allowed: %s", k.Name, value, k.Kind, k.Values())
	}
	if len(k.Allowed) > 0 && !slices.Contains(k.Allowed, canonical(k.Kind, v)) {
		return bad()
	}
	return nil
}

func (k Key) wellFormed(v string) bool {
	switch k.Kind {
	case Bool:
		_, err := strconv.ParseBool(v)
		return err == nil
	case Int:
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && float64(n) >= k.Min && float64(n) <= k.Max
	case Float:
		n, err := strconv.ParseFloat(v, 64)
		return err == nil && n >= k.Min && n <= k.Max
	case Duration:
		d, err := time.ParseDuration(v)
		return (err == nil && d >= 0) || v == "0"
	case Prefix:
		_, err := netip.ParsePrefix(v)
		return err == nil
	case Address:
		a, err := netip.ParseAddr(v)
		return err == nil && a.Zone() == "" && !a.Is4In6()
	case Path:
		return strings.HasPrefix(v, "/") && !strings.ContainsRune(v, 0)
	}
	return true
}

// canonical is the one way to write a value among several that mean the same.
func canonical(k Kind, v string) string {
	if k == Bool {
		if b, err := strconv.ParseBool(v); err == nil {
			return strconv.FormatBool(b)
		}
	}
	return v
}

// Severity of a Finding.
type Severity uint8

// The severities.
const (
	Note    Severity = iota // a known key without effect has another value than its default
	Warning                 // a key that nobody knows, or one for a feature that does not exist
	Refusal                 // a value that cannot be: the agent does not start with it
)

// Finding is something to say about one key of a configuration.
type Finding struct {
	Key      string
	Severity Severity
	Message  string // names key, value and what is allowed
}

// Check goes through a configuration and returns what is to be said about it, sorted by key.
func Check(values map[string]string) []Finding {
	var out []Finding
	for name, value := range values {
		k, ok := Lookup(name)
		switch err := k.Check(value); {
		case !ok:
			out = append(out, Finding{name, Warning, fmt.Sprintf("%s: unknown key (value %q) has no effect%s", name, value, similar(name))})
		case err != nil:
			out = append(out, Finding{name, Refusal, err.Error()})
		case k.Effect == Accepted && !k.Operator && !sameValue(k, value, k.Default):
			severity := Note
			if k.Missing {
				severity = Warning
			}
			out = append(out, Finding{name, severity, fmt.Sprintf("%s: %q has no effect: %s", name, value, k.Means)})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

func sameValue(k Key, a, b string) bool {
	effective := func(v string) string {
		if v = strings.TrimSpace(v); v == "" {
			v = k.Default
		}
		return canonical(k.Kind, v)
	}
	return effective(a) == effective(b)
}

// similar proposes the known key that differs least, if it is close.
func similar(name string) string {
	best, at := "", 3
	for _, k := range keys {
		if d := distance(name, k.Name, at); d < at {
			best, at = k.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; is %s meant?", best)
}

// distance counts the letters to insert, remove or change, and stops at limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
			least = min(least, row[j+1])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}

// Change is one key whose value is another than before.
type Change struct {
	Key     string
	Was, Is string // effective values, the default if the key is absent
	Restart bool   // takes effect when the agent starts again
	Applies bool   // has any effect in the agent at all
}

// Compare lists what differs in effect between two configurations, sorted by key. Keys that nobody
// knows are left out.
func Compare(was, is map[string]string) []Change {
	var out []Change
	for _, k := range keys {
		a, b := k.effective(was), k.effective(is)
		if a == b {
			continue
		}
		applies := k.Effect == Obeyed && !k.Operator
		out = append(out, Change{Key: k.Name, Was: a, Is: b, Restart: applies && k.Restart, Applies: applies})
	}
	return out
}

func (k Key) effective(values map[string]string) string {
	v := strings.TrimSpace(values[k.Name])
	if v == "" {
		v = k.Default
	}
	return canonical(k.Kind, v)
}
