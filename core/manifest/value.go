package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/weirnet/weir/core/cluster"
)

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// report collects the findings of one object.
type report struct {
	file, object string
	findings     []cluster.Finding
}

func (r *report) add(warning bool, field, format string, args ...any) {
	r.findings = append(r.findings, cluster.Finding{
		File: r.file, Object: r.object, Field: field, Message: fmt.Sprintf(format, args...), Warning: warning,
	})
}

// bad refuses the object.
func (r *report) bad(field, format string, args ...any) { r.add(false, field, format, args...) }

// warn lets the object take effect.
func (r *report) warn(field, format string, args ...any) { r.add(true, field, format, args...) }

func (r *report) failed() bool {
	for _, f := range r.findings {
		if !f.Warning {
			return true
		}
	}
	return false
}

// value is a place in the document. Reading it as the wrong type is a finding.
type value struct {
	r   *report
	raw any
	// The way here, put into words only for findings.
	up    *value // nil: the document itself
	step  step
	key   string
	index int
}

// step is how a place is reached from the one above.
type step uint8

const (
	stepField step = iota // .key
	stepEntry             // ["key"]
	stepItem              // [index]
)

// path is the place in words.
func (v *value) path() string {
	if v.up == nil {
		return ""
	}
	above := v.up.path()
	switch v.step {
	case stepEntry:
		return fmt.Sprintf("%s[%q]", above, v.key)
	case stepItem:
		return fmt.Sprintf("%s[%d]", above, v.index)
	}
	return join(above, v.key)
}

// entry is a place below v, which is used as a map.
func (v *value) entry(key string, raw any) value {
	return value{r: v.r, raw: raw, up: v, step: stepEntry, key: key}
}

// absent says whether the place is empty; null counts as empty, as in Kubernetes.
func (v value) absent() bool { return v.raw == nil }

func (v value) bad(format string, args ...any)  { v.r.bad(v.path(), format, args...) }
func (v value) warn(format string, args ...any) { v.r.warn(v.path(), format, args...) }

func (v value) wrongType(want string) {
	v.bad("want %s, got %s", want, describe(v.raw))
}

func describe(raw any) string {
	switch x := raw.(type) {
	case nil:
		return "nothing"
	case bool:
		return fmt.Sprintf("%v", x)
	case json.Number:
		return "the number " + x.String()
	case string:
		return fmt.Sprintf("the text %q", clip(x))
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// object is a JSON object at its place.
type object struct {
	value
	at *value // the same place, for those below
	m  fields
}

// object reads the place as a JSON object. ok is false if it is absent or of another type; only the
// latter is a finding.
func (v value) object() (object, bool) {
	at := new(value)
	*at = v
	if v.absent() {
		return object{value: v, at: at}, false
	}
	m, ok := v.raw.(fields)
	if !ok {
		v.wrongType("an object")
		return object{value: v, at: at}, false
	}
	return object{value: v, at: at, m: m}, true
}

// strictObject is object where every field must be one of those allowed.
func (v value) strictObject(allowed ...string) (object, bool) {
	o, ok := v.object()
	if ok {
		o.only(allowed...)
	}
	return o, ok
}

// only complains about every field that is not allowed.
func (o object) only(allowed ...string) {
	var unknown []string
	for _, f := range o.m {
		if !slices.Contains(allowed, f.key) {
			unknown = append(unknown, f.key)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		o.r.bad(join(o.path(), k), "unknown field; allowed: %s", strings.Join(allowed, ", "))
	}
}

func (o object) get(key string) value {
	return value{r: o.r, raw: o.m.get(key), up: o.at, key: key}
}

// list reads the place as a list. present is false if it is absent (or of another type, which is a
// finding). An element that is null is a finding, and left out.
func (v value) list() (items []value, present bool) {
	if v.absent() {
		return nil, false
	}
	raw, ok := v.raw.([]any)
	if !ok {
		v.wrongType("a list")
		return nil, false
	}
	at := new(value)
	*at = v
	items = make([]value, 0, len(raw))
	for i, e := range raw {
		item := value{r: v.r, raw: e, up: at, step: stepItem, index: i}
		if item.absent() {
			item.bad("empty entry; fill it or remove the dash")
			continue
		}
		items = append(items, item)
	}
	return items, true
}

// text reads a string. ok is false if it is absent or of another type.
func (v value) text() (string, bool) {
	s, ok := v.passing()
	return strings.Clone(s), ok // of the document nothing else stays in memory
}

// word is text for what many objects have in common, like the names of nodes: they share one copy.
func (v value) word() (string, bool) {
	s, ok := v.passing()
	if s == "" {
		return "", ok
	}
	return unique.Make(s).Value(), ok
}

// passing is text for a string that is looked at and not kept.
func (v value) passing() (string, bool) {
	if v.absent() {
		return "", false
	}
	s, ok := v.raw.(string)
	if !ok {
		switch v.raw.(type) {
		case json.Number, bool: // what YAML makes of 1, yes, on
			v.bad("want text, got %s; put it in quotes", describe(v.raw))
		default:
			v.wrongType("text")
		}
		return "", false
	}
	return s, true
}

// flag reads a bool. ok is false if it is absent or of another type.
func (v value) flag() (b, ok bool) {
	if v.absent() {
		return false, false
	}
	if b, ok = v.raw.(bool); !ok {
		v.wrongType("true or false")
	}
	return b, ok
}

// integer reads a whole number within the bounds, which belong to it. ok is false if it is absent,
// of another type or out of bounds.
func (v value) integer(low, high int64) (n int64, ok bool) {
	if v.absent() {
		return 0, false
	}
	num, isNumber := v.raw.(json.Number)
	if !isNumber {
		v.wrongType(fmt.Sprintf("a number from %d to %d", low, high))
		return 0, false
	}
	n, err := strconv.ParseInt(num.String(), 10, 64)
	if err != nil {
		f, ferr := num.Float64()
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
			v.bad("%s is not a whole number from %d to %d", num, low, high)
			return 0, false
		}
		n = int64(f)
	}
	if n < low || n > high {
		v.bad("%s is out of range; allowed: %d to %d", num, low, high)
		return 0, false
	}
	return n, true
}

// textMap reads an object whose values are strings.
func (v value) textMap() map[string]string {
	o, ok := v.object()
	if !ok {
		return nil
	}
	out := make(map[string]string, len(o.m))
	for _, k := range o.m.keys() {
		item := o.at.entry(k, o.m.get(k))
		k = unique.Make(k).Value()
		if item.absent() {
			out[k] = ""
			continue
		}
		if s, ok := item.text(); ok {
			out[k] = s
		}
	}
	return out
}

// labelMap is textMap for Kubernetes labels: keys and values have their form.
func (v value) labelMap() map[string]string {
	m := v.textMap()
	for _, k := range sortedKeys(m) {
		at := v.entry(k, m[k])
		if why := checkLabelKey(k); why != "" {
			at.bad("%q is not a label key: %s", clip(k), why)
		}
		if why := checkLabelValue(m[k]); why != "" {
			at.bad("%q is not a label value: %s", clip(m[k]), why)
		}
	}
	return m
}
