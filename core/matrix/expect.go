package matrix

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// Expectation says what the policies are meant to do. From and To are each namespace/pod, a pattern
// of pods, or an address: in a pattern, * stands for any text in namespace or name ("shop/*", "*/*",
// "shop/web-*"), and labels may take the place of the name ("shop/app=web,tier!=db"). All pairs of
// distinct ends have to meet the expectation.
type Expectation struct {
	From, To string
	Port     uint16 // destination; 0 for ICMP, and only for ICMP
	Proto    uint8  // TCP, UDP, SCTP, or ICMP for echo requests of both families
	Allowed  bool
	// Rule, if not empty, is the text of what has to decide, as policy.Verdict writes it, or its first
	// words: "NetworkPolicy shop/backend-ingress", which is met by the policy's default deny too. For
	// a denied connection it is one of the sides that deny; for an allowed one, one of the sides at
	// which a policy had a say.
	Rule string
}

// FieldError is a complaint about one field of an expectation. Field is the name of the field in
// lower case: from, to, port, protocol or rule.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap gives the complaint without the field.
func (e *FieldError) Unwrap() error { return e.Err }

// Result is what became of an expectation.
type Result struct {
	Pairs  int // that were judged
	Misses []Miss
}

// Miss is a pair that does not meet an expectation.
type Miss struct {
	Row       Row
	WrongRule bool   // the verdict is as expected, but another rule decided
	Hints     []Hint // for a connection that was to be allowed: of each side that denies by default
}

// Check complains about fields that no cluster could make sense of: joined errors of type
// *FieldError. It needs no cluster and does not say whether the ends exist.
func (e Expectation) Check() error {
	_, _, err := e.parse()
	return err
}

func (e Expectation) parse() (from, to ends, err error) {
	var errs []error
	complain := func(field string, err error) {
		if err != nil {
			errs = append(errs, &FieldError{field, err})
		}
	}
	from, err = parseEnds(e.From)
	complain("from", err)
	to, err = parseEnds(e.To)
	complain("to", err)
	switch e.Proto {
	case datapath.ProtoICMP:
		if e.Port != 0 {
			complain("port", errors.New("ICMP has no port"))
		}
	case datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP:
		if e.Port == 0 {
			complain("port", errors.New("0 is not allowed; allowed: 1 to 65535"))
		}
	default:
		complain("protocol", fmt.Errorf("%d is not allowed; allowed: TCP, UDP, SCTP, ICMP", e.Proto))
	}
	if e.Rule != strings.TrimSpace(e.Rule) {
		complain("rule", fmt.Errorf("%q begins or ends with a space", e.Rule))
	}
	return from, to, errors.Join(errs...)
}

// Expect judges every pair that the expectation speaks of. An expectation that speaks of nothing is
// never met: a pattern without a match, a pod that does not exist, a pair with no pod in it. Errors are
// joined and of type *FieldError; they name what exists.
func (w *World) Expect(e Expectation) (Result, error) {
	from, to, err := e.parse()
	if err != nil {
		return Result{}, err
	}
	j := w.prepare()
	var errs []error
	senders, err := j.expand(from)
	if err != nil {
		errs = append(errs, &FieldError{"from", err})
	}
	receivers, err := j.expand(to)
	if err != nil {
		errs = append(errs, &FieldError{"to", err})
	}
	if errs != nil {
		return Result{}, errors.Join(errs...)
	}
	var res Result
	for _, f := range senders {
		for _, t := range receivers {
			if f.name == t.name || f.pod == nil && t.pod == nil {
				continue // no policy is asked
			}
			res.Pairs++
			row := j.row(f, t, e.Proto, e.Port)
			switch {
			case row.Allowed() != e.Allowed:
				m := Miss{Row: row}
				if e.Allowed {
					m.Hints = j.hints(f, t, e.Proto, e.Port)
				}
				res.Misses = append(res.Misses, m)
			case e.Rule != "" && !row.decidedBy(e.Rule):
				res.Misses = append(res.Misses, Miss{Row: row, WrongRule: true})
			}
		}
	}
	if res.Pairs == 0 {
		return Result{}, &FieldError{"to", fmt.Errorf(
			"no policy judges %s to %s: it takes two different ends, one of them a pod with a network of its own", e.From, e.To)}
	}
	return res, nil
}

// Deciders are the texts of what made the verdict: of each side that denies, or for an allowed
// connection of each side at which a policy had a say, or "no policy".
func (r Row) Deciders() []string {
	var out []string
	for _, v := range r.deciding() {
		out = append(out, v.String())
	}
	return out
}

func (r Row) deciding() []policy.Verdict {
	var out []policy.Verdict
	for _, v := range []policy.Verdict{r.Egress, r.Ingress} {
		if v.Allowed == r.Allowed() && (!v.Allowed || v.Rule.Path != "" || v.Note != "") {
			out = append(out, v)
		}
	}
	if out == nil {
		out = []policy.Verdict{r.Egress}
	}
	return out
}

func (r Row) decidedBy(rule string) bool {
	for _, v := range r.deciding() {
		if firstWords(v.String(), rule) {
			return true
		}
		for _, ref := range v.Isolating {
			if firstWords(ref.String(), rule) {
				return true
			}
		}
	}
	return false
}

func firstWords(text, words string) bool {
	rest, ok := strings.CutPrefix(text, words)
	return ok && (rest == "" || rest[0] == ' ')
}
