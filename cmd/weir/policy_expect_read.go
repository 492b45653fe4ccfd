package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/matrix"
)

// fieldsOfExpectation are the fields of an entry, in the order in which people write them.
var fieldsOfExpectation = []string{"name", "from", "to", "port", "protocol", "expect", "rule"}

// parseExpectations reads a file of expectations; several documents follow one another. All
// complaints come joined; each names the file, and the entry by its number and, if it has one, name.
func parseExpectations(file string, data []byte) ([]expectation, error) {
	var entries []any
	for _, doc := range manifest.SplitYAML(data) {
		more, err := readEntries(doc)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		entries = append(entries, more...)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: there are no expectations in it", file)
	}
	var out []expectation
	var errs []error
	for i, raw := range entries {
		e, complaints := readExpectation(raw)
		for _, c := range complaints {
			where := fmt.Sprintf("entry %d", i+1)
			if e.name != "" {
				where += " (" + e.name + ")"
			}
			errs = append(errs, fmt.Errorf("%s: %s: %w", file, where, c))
		}
		if e.name == "" {
			row := matrix.Row{Port: e.Port, Proto: e.Proto}
			e.name = fmt.Sprintf("%s -> %s %s %s", e.From, e.To, portName(row), expectText(e.Allowed))
		}
		out = append(out, e)
	}
	return out, errors.Join(errs...)
}

func readEntries(doc []byte) ([]any, error) {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		if bytes.Contains(doc, []byte(": *")) {
			return nil, fmt.Errorf("%w (a value that begins with * needs quotes)", err)
		}
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // so that a port that is no whole number is shown as it was written
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if m, ok := v.(map[string]any); ok {
		for key := range m {
			if key != "expectations" {
				return nil, fmt.Errorf("unknown field %q; allowed: expectations, or a list without it", key)
			}
		}
		v = m["expectations"]
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	}
	return nil, errors.New("a list of expectations is needed")
}

// readExpectation makes an entry of what stands in the file. The name is set as far as it is known,
// whatever the complaints.
func readExpectation(raw any) (e expectation, complaints []error) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Errorf(format, args...)) }
	m, ok := raw.(map[string]any)
	if !ok {
		complain("fields are needed: %s", strings.Join(fieldsOfExpectation, ", "))
		return e, complaints
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !slices.Contains(fieldsOfExpectation, k) {
			complain("unknown field %q; allowed: %s", k, strings.Join(fieldsOfExpectation, ", "))
		}
	}
	text := func(field string, needed bool) string {
		switch v := m[field].(type) {
		case nil:
			if needed {
				complain("%s is missing", field)
			}
			return ""
		case string:
			if v == "" && needed {
				complain("%s is empty", field)
			}
			return v
		default:
			complain("%s: %v is not text; put it in quotes", field, v)
			return ""
		}
	}
	e.name = text("name", false)
	e.From, e.To, e.Rule = text("from", true), text("to", true), text("rule", false)
	e.Proto = datapath.ProtoTCP
	badProto := false
	if s := text("protocol", false); s != "" {
		p, err := matrix.ParseProto(s)
		if err != nil {
			complaints = append(complaints, err)
			badProto = true
		} else {
			e.Proto = p
		}
	}
	badPort := false
	if v, ok := m["port"]; ok && v != nil {
		n, err := strconv.ParseUint(fmt.Sprint(v), 10, 16)
		if _, isNumber := v.(json.Number); err != nil || !isNumber || n == 0 {
			shown, _ := json.Marshal(v)
			complain("port: %s is not allowed; allowed: 1 to 65535", shown)
			badPort = true
		}
		e.Port = uint16(n)
	} else if e.Proto != datapath.ProtoICMP && !badProto {
		complain("port is missing")
		badPort = true
	}
	switch s := text("expect", true); s {
	case "allowed":
		e.Allowed = true
	case "denied", "":
	default:
		complain("expect: %q is not allowed; allowed: allowed, denied", s)
	}
	for _, err := range unjoin(e.Check()) {
		var f *matrix.FieldError
		if errors.As(err, &f) && (f.Field == "port" && (badPort || badProto) || f.Field == "from" && e.From == "" || f.Field == "to" && e.To == "") {
			continue // said above
		}
		complaints = append(complaints, err)
	}
	return e, complaints
}

// unjoin takes apart what errors.Join has put together.
func unjoin(err error) []error {
	var list interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &list):
		return list.Unwrap()
	}
	return []error{err}
}
