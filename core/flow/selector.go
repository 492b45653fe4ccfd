package flow

import (
	"strings"

	"github.com/weirnet/weir/core/labels"
)

// parseSelector reads a selector as Kubernetes writes it: requirements joined by commas, each
// `key`, `!key`, `key=v`, `key==v`, `key!=v`, `key in (a,b)` or `key notin (a,b)`. A key may carry
// its source (`k8s:app`, `reserved:host`); without one every source will do.
func parseSelector(s string) (labels.Selector, error) {
	bad := func() (labels.Selector, error) {
		return labels.Selector{}, &ValueError{Field: "label", Value: s, Allowed: []string{
			"key", "!key", "key=value", "key!=value", "key in (a,b)", "key notin (a,b)", "several of them joined by commas"}}
	}
	var reqs []labels.Requirement
	for _, part := range splitOutsideParentheses(s) {
		r, ok := parseRequirement(strings.TrimSpace(part))
		if !ok {
			return bad()
		}
		reqs = append(reqs, r)
	}
	sel, err := labels.NewSelector(reqs...)
	if err != nil {
		return bad()
	}
	return sel, nil
}

func splitOutsideParentheses(s string) []string {
	var out []string
	depth, start := 0, 0
	for i, c := range s {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	return append(out, s[start:])
}

func parseRequirement(s string) (labels.Requirement, bool) {
	if rest, ok := strings.CutPrefix(s, "!"); ok {
		return requirement(rest, labels.DoesNotExist)
	}
	if key, list, ok := strings.Cut(s, "("); ok {
		list, closed := strings.CutSuffix(list, ")")
		words := strings.Fields(key)
		if !closed || len(words) != 2 || strings.ContainsAny(list, "()") {
			return labels.Requirement{}, false
		}
		var values []string
		for _, v := range strings.Split(list, ",") {
			values = append(values, strings.TrimSpace(v))
		}
		switch words[1] {
		case "in":
			return requirement(words[0], labels.In, values...)
		case "notin":
			return requirement(words[0], labels.NotIn, values...)
		}
		return labels.Requirement{}, false
	}
	for _, op := range []struct {
		text string
		op   labels.Operator
	}{{"!=", labels.NotIn}, {"==", labels.In}, {"=", labels.In}} {
		if key, value, ok := strings.Cut(s, op.text); ok {
			return requirement(strings.TrimSpace(key), op.op, strings.TrimSpace(value))
		}
	}
	return requirement(s, labels.Exists)
}

func requirement(key string, op labels.Operator, values ...string) (labels.Requirement, bool) {
	l, err := labels.Parse(key)
	if err != nil || l.Value != "" || strings.ContainsAny(key, "=!() \t") {
		return labels.Requirement{}, false
	}
	for _, v := range values {
		if strings.ContainsAny(v, "=!() \t") {
			return labels.Requirement{}, false
		}
	}
	return labels.Requirement{Source: l.Source, Key: l.Key, Operator: op, Values: values}, true
}
