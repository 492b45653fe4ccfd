package matrix

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ends is what an expectation says about one side: an address, or a pattern of pods.
type ends struct {
	text      string
	addr      netip.Addr // valid: only this
	namespace string     // may hold *
	name      string     // may hold *; empty if labels are given
	labels    []labelTerm
}

// labelTerm asks for a label of the pod itself to have a value, or not to have it.
type labelTerm struct {
	key, value string
	not        bool
}

const allowedEnds = "allowed: namespace/pod, a wildcard such as shop/*, */* or shop/web-*, labels such as shop/app=web, or an address"

func parseEnds(s string) (ends, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return ends{text: s, addr: a.Unmap()}, nil
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return ends{}, fmt.Errorf("%q is a prefix; name an address of it", s)
	}
	bad := fmt.Errorf("%q is not allowed; %s", s, allowedEnds)
	ns, rest, ok := strings.Cut(s, "/")
	if !ok || !isPattern(ns) {
		return ends{}, bad
	}
	if !strings.Contains(rest, "=") {
		if !isPattern(rest) {
			return ends{}, bad
		}
		return ends{text: s, namespace: ns, name: rest}, nil
	}
	e := ends{text: s, namespace: ns}
	for _, part := range strings.Split(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		key, not := strings.CutSuffix(key, "!")
		if key == "" || strings.ContainsAny(key, "!* ") || strings.ContainsAny(value, "=!* ") || !strings.Contains(part, "=") {
			return ends{}, fmt.Errorf("%q: %q is not allowed; allowed: key=value or key!=value, several of them joined by commas", s, part)
		}
		e.labels = append(e.labels, labelTerm{key, value, not})
	}
	return e, nil
}

// isPattern says whether s can name objects: the characters of Kubernetes' names, and *.
func isPattern(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.*") == ""
}

// glob says whether s fits the pattern, in which * stands for any text.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = after
	}
	return true
}

func (e ends) matches(p *pod) bool {
	if !glob(e.namespace, p.Name.Namespace) {
		return false
	}
	for _, t := range e.labels {
		if v, ok := p.Labels[t.key]; (ok && v == t.value) == t.not {
			return false
		}
	}
	return e.labels != nil || glob(e.name, p.Name.Name)
}

// expand lists what the pattern stands for; at least one. The error says what there is instead.
func (j *judge) expand(e ends) ([]end, error) {
	if e.addr.IsValid() {
		return []end{j.address(e.addr)}, nil
	}
	var out []end
	var near, namespaces []string
	for _, p := range j.pods {
		if !slices.Contains(namespaces, p.Name.Namespace) {
			namespaces = append(namespaces, p.Name.Namespace)
		}
		if e.matches(p) {
			out = append(out, podEnd(p))
		} else if glob(e.namespace, p.Name.Namespace) {
			near = append(near, e.describe(p))
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(j.pods) == 0:
		return nil, fmt.Errorf("no pod matches %s: the manifests have no pods", e.text)
	case len(near) == 0:
		return nil, fmt.Errorf("no pod matches %s; the namespaces with pods are %s", e.text, some(namespaces))
	}
	return nil, fmt.Errorf("no pod matches %s; there are %s", e.text, some(near))
}

// describe shows a pod by what the pattern looks at.
func (e ends) describe(p *pod) string {
	if e.labels == nil {
		return p.name
	}
	var own []string
	for k, v := range p.Labels {
		own = append(own, k+"="+v)
	}
	slices.Sort(own)
	if own == nil {
		own = []string{"no labels"}
	}
	return p.name + " (" + strings.Join(own, ",") + ")"
}

// some joins the first names of a list.
func some(names []string) string {
	const most = 10
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}
