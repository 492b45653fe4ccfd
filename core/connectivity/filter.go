package connectivity

import (
	"fmt"
	"regexp"
	"strings"
)

// Filter chooses tests and scenarios by name. The zero value chooses all.
type Filter struct {
	run, skip []pattern
}

type pattern struct{ test, scenario *regexp.Regexp }

// NewFilter reads patterns: TEST or TEST/SCENARIO, each a regular expression that may match anywhere in
// the name; a "!" in front leaves out what matches. With several, one that matches is enough, and what is left out stays out.
func NewFilter(patterns []string) (Filter, error) {
	var f Filter
	for _, text := range patterns {
		if text == "" {
			continue
		}
		rest, not := strings.CutPrefix(text, "!")
		test, sc, hasScenario := strings.Cut(rest, "/")
		var p pattern
		var err error
		if p.test, err = regexp.Compile(test); err == nil && hasScenario {
			p.scenario, err = regexp.Compile(sc)
		}
		if err != nil {
			return Filter{}, fmt.Errorf("%q: %w; allowed: TEST or TEST/SCENARIO, regular expressions, with ! in front to leave out", text, err)
		}
		if not {
			f.skip = append(f.skip, p)
		} else {
			f.run = append(f.run, p)
		}
	}
	return f, nil
}

// Everything says whether nothing is asked for by name.
func (f Filter) Everything() bool { return len(f.run) == 0 }

// Test says whether any scenario of a test can be chosen.
func (f Filter) Test(name string) bool {
	for _, p := range f.skip {
		if p.scenario == nil && p.test.MatchString(name) {
			return false
		}
	}
	if len(f.run) == 0 {
		return true
	}
	for _, p := range f.run {
		if p.test.MatchString(name) {
			return true
		}
	}
	return false
}

// Scenario says whether a scenario of a test is chosen.
func (f Filter) Scenario(test, scenario string) bool {
	covers := func(p pattern) bool {
		return p.test.MatchString(test) && (p.scenario == nil || p.scenario.MatchString(scenario))
	}
	for _, p := range f.skip {
		if covers(p) {
			return false
		}
	}
	if len(f.run) == 0 {
		return true
	}
	for _, p := range f.run {
		if covers(p) {
			return true
		}
	}
	return false
}
