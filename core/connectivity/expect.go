package connectivity

import (
	"fmt"
	"slices"
)

// Verdict is what shall become of an action.
type Verdict int

// The verdicts.
const (
	Allowed     Verdict = iota
	DropEgress          // by the policies of who sends
	DropIngress         // by the policies of who is sent to
)

func (v Verdict) String() string {
	switch v {
	case DropEgress:
		return "dropped at egress"
	case DropIngress:
		return "dropped at ingress"
	}
	return "allowed"
}

// Clause says what a test's policies do to the actions that fit it. Fields that are empty fit everything.
type Clause struct {
	From, To []string // roles; one that ends in * is a prefix
	Kinds    []Kind
	Ports    []uint16 // of the destination, behind a service
	// APIServer fits only actions towards an API server outside.
	APIServer bool
	Verdict   Verdict
}

func (c Clause) fits(a Action) bool {
	anyOf := func(patterns []string, role string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return fits(p, role) })
	}
	return (!c.APIServer || a.APIServer) && anyOf(c.From, a.FromRole) && anyOf(c.To, a.ToRole) &&
		(len(c.Kinds) == 0 || slices.Contains(c.Kinds, a.Probe.Kind)) &&
		(len(c.Ports) == 0 || slices.Contains(c.Ports, a.Port))
}

// expect gives the verdict of the first clause that fits; without one the action is allowed.
func expect(clauses []Clause, a Action) Verdict {
	for _, c := range clauses {
		if c.fits(a) {
			return c.Verdict
		}
	}
	return Allowed
}

// Judge says whether an outcome is what was expected, and if not, how it differs. A drop is silence:
// whoever is refused was let through, and is told so.
func Judge(a Action, o Outcome) (problem string) {
	if a.Expect != Allowed {
		switch o.Result {
		case Silent:
			return ""
		case Answered:
			return "expected to be " + a.Expect.String() + ", but " + answered(o)
		}
		return fmt.Sprintf("expected to be %s, which is silence, but was %s", a.Expect, withDetail(o))
	}
	if o.Result != Answered {
		return "expected to be allowed, but was: " + withDetail(o)
	}
	if len(a.Answerers) > 0 && !slices.Contains(a.Answerers, o.By) {
		return fmt.Sprintf("answered by %q; expected: %v", o.By, a.Answerers)
	}
	if len(a.Sources) > 0 && o.Source.IsValid() && !slices.Contains(a.Sources, o.Source) {
		return fmt.Sprintf("arrived from %s; expected: %v", o.Source, a.Sources)
	}
	if len(a.Addrs) > 0 && !sameAddrs(a.Addrs, o.Addrs) {
		return fmt.Sprintf("%s leads to %v; expected: %v", a.Probe.Name, o.Addrs, a.Addrs)
	}
	return ""
}

func answered(o Outcome) string {
	if o.By != "" {
		return o.By + " answered"
	}
	return "an answer came"
}

func withDetail(o Outcome) string {
	if o.Detail == "" {
		return string(o.Result)
	}
	return fmt.Sprintf("%s (%s)", o.Result, o.Detail)
}

// sameAddrs compares sets.
func sameAddrs[T comparable](a, b []T) bool {
	in := func(list []T) func(T) bool { return func(x T) bool { return !slices.Contains(list, x) } }
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}
