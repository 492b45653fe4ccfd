package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/weirnet/weir/core/cluster"
)

// parseJSON reads one JSON value into maps, slices, strings, bools and json.Numbers. Unlike
// encoding/json it refuses a key that stands twice in one object: of two ingress sections one would
// silently vanish.
func parseJSON(doc []byte) (any, error) {
	if !json.Valid(doc) { // also bounds the depth
		var v any
		err := json.Unmarshal(doc, &v)
		if err == nil {
			err = errors.New("malformed")
		}
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	v, err := parseValue(d, "")
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func parseValue(d *json.Decoder, path string) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := parseValue(d, fmt.Sprintf("%s[%d]", path, len(list)))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := t.(string) // the decoder gives strings at the place of keys
		p := join(path, key)
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("key %s stands twice", p)
		}
		if m[key], err = parseValue(d, p); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return m, err
}

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
	r    *report
	path string
	raw  any
}

// absent says whether the place is empty; null counts as empty, as in Kubernetes.
func (v value) absent() bool { return v.raw == nil }

func (v value) bad(format string, args ...any)  { v.r.bad(v.path, format, args...) }
func (v value) warn(format string, args ...any) { v.r.warn(v.path, format, args...) }

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
	m map[string]any
}

// object reads the place as a JSON object. ok is false if it is absent or of another type; only the
// latter is a finding.
func (v value) object() (object, bool) {
	if v.absent() {
		return object{value: v}, false
	}
	m, ok := v.raw.(map[string]any)
	if !ok {
		v.wrongType("an object")
		return object{value: v}, false
	}
	return object{value: v, m: m}, true
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
fields:
	for _, k := range sortedKeys(o.m) {
		for _, a := range allowed {
			if a == k {
				continue fields
			}
		}
		o.r.bad(join(o.path, k), "unknown field; allowed: %s", strings.Join(allowed, ", "))
	}
}

func (o object) get(key string) value { return value{o.r, join(o.path, key), o.m[key]} }

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
	items = make([]value, 0, len(raw))
	for i, e := range raw {
		item := value{v.r, fmt.Sprintf("%s[%d]", v.path, i), e}
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
	for _, k := range sortedKeys(o.m) {
		item := value{v.r, fmt.Sprintf("%s[%q]", v.path, k), o.m[k]}
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
		at := fmt.Sprintf("%s[%q]", v.path, k)
		if why := checkLabelKey(k); why != "" {
			v.r.bad(at, "%q is not a label key: %s", clip(k), why)
		}
		if why := checkLabelValue(m[k]); why != "" {
			v.r.bad(at, "%q is not a label value: %s", clip(m[k]), why)
		}
	}
	return m
}
