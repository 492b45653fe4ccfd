package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json (see go doc test2json), build events included.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	Test        string
	Output      string
	Elapsed     float64 // seconds
	FailedBuild string
}

// report collects events and writes the text.
type report struct {
	w        io.Writer
	module   string
	packages map[string]*packageRun
	builds   map[string]*strings.Builder // output of compilers, by import path
	total    counts
	failed   []string // names of what failed, for the list at the end
	skipped  map[string][]string
}

type counts struct{ passed, failed, skipped int }

// packageRun is one package under test.
type packageRun struct {
	tests  map[string]*testRun
	order  []string // names of tests as they started
	output strings.Builder
}

type testRun struct {
	outcome string // "pass", "fail", "skip"; "" while it runs
	output  strings.Builder
}

func newReport(w io.Writer, module string) *report {
	return &report{
		w: w, module: module,
		packages: map[string]*packageRun{}, builds: map[string]*strings.Builder{}, skipped: map[string][]string{},
	}
}

// read takes in events until the stream ends. Lines that are no events are passed on.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprintf(r.w, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (r *report) take(e event) {
	switch e.Action {
	case "build-output":
		b, ok := r.builds[e.ImportPath]
		if !ok {
			b = &strings.Builder{}
			r.builds[e.ImportPath] = b
		}
		b.WriteString(e.Output)
		return
	case "build-fail":
		return // the packages that need it fail
	}
	p, ok := r.packages[e.Package]
	if !ok {
		p = &packageRun{tests: map[string]*testRun{}}
		r.packages[e.Package] = p
	}
	if e.Test == "" {
		switch e.Action {
		case "output":
			p.output.WriteString(e.Output)
		case "pass", "fail", "skip":
			r.finishPackage(p, e)
			delete(r.packages, e.Package)
		}
		return
	}
	t, ok := p.tests[e.Test]
	if !ok {
		t = &testRun{}
		p.tests[e.Test] = t
		p.order = append(p.order, e.Test)
	}
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.outcome = e.Action
	}
}

// finishPackage counts and prints a package that has ended.
func (r *report) finishPackage(p *packageRun, e event) {
	name := strings.TrimPrefix(strings.TrimPrefix(e.Package, r.module), "/")
	if name == "" {
		name = "."
	}
	parents := map[string]bool{}        // has subtests
	failingParents := map[string]bool{} // has failing subtests
	for test, t := range p.tests {
		if t.outcome == "" && e.Action == "fail" {
			t.outcome = "fail" // it was running when the process ended
		}
		for i := strings.LastIndexByte(test, '/'); i > 0; i = strings.LastIndexByte(test[:i], '/') {
			parents[test[:i]] = true
			if t.outcome == "fail" {
				failingParents[test[:i]] = true
			}
		}
	}
	var c counts
	var failures []string
	for _, test := range p.order {
		t := p.tests[test]
		switch {
		case t.outcome == "fail":
			failures = append(failures, test)
			if !failingParents[test] {
				c.failed++
				r.failed = append(r.failed, name+" "+test)
			}
		case parents[test]:
		case t.outcome == "skip":
			c.skipped++
			reason := skipReason(t.output.String())
			r.skipped[reason] = append(r.skipped[reason], name+" "+test)
		case t.outcome == "pass":
			c.passed++
		}
	}
	if e.Action == "fail" && c.failed == 0 {
		c.failed++
		what := "failed outside its tests"
		if e.FailedBuild != "" {
			what = "does not build"
		}
		r.failed = append(r.failed, name+" ("+what+")")
	}
	r.total.passed += c.passed
	r.total.failed += c.failed
	r.total.skipped += c.skipped

	switch {
	case e.Action == "fail":
		fmt.Fprintf(r.w, "FAIL  %-40s %s\n", name, summary(c, e.Elapsed))
		r.printFailures(p, failures, e.FailedBuild)
	case len(p.order) == 0:
		fmt.Fprintf(r.w, "-     %-40s no tests\n", name)
	default:
		fmt.Fprintf(r.w, "ok    %-40s %s\n", name, summary(c, e.Elapsed))
	}
}

func summary(c counts, seconds float64) string {
	s := fmt.Sprintf("%d passed", c.passed)
	if c.failed > 0 {
		s += fmt.Sprintf(", %d failed", c.failed)
	}
	if c.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return fmt.Sprintf("%s (%.1fs)", s, seconds)
}

func (r *report) printFailures(p *packageRun, failures []string, build string) {
	if b, ok := r.builds[build]; ok {
		indent(r.w, b.String())
	}
	for _, test := range failures {
		indent(r.w, p.tests[test].output.String())
	}
	indent(r.w, p.output.String())
}

func indent(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		if noise.MatchString(line) {
			continue
		}
		fmt.Fprintf(w, "      %s", line)
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(w)
		}
	}
}

var (
	// noise are the lines by which go test frames tests; the report has its own.
	noise = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME)\b.*|PASS|FAIL|FAIL\t.*)\s*$`)
	// location is where a message was logged.
	location = regexp.MustCompile(`^\s+\S+\.go:\d+: `)
	// verdict is the line that ends a test.
	verdict = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): `)
)

// skipReason finds the message of t.Skip, the last that the test logged.
func skipReason(output string) string {
	reason := ""
	for line := range strings.Lines(output) {
		switch {
		case noise.MatchString(line) || verdict.MatchString(line):
		case location.MatchString(line):
			reason = strings.TrimSpace(location.ReplaceAllString(line, ""))
		case reason != "" && strings.HasPrefix(line, "        "): // continues the message
			reason += " " + strings.TrimSpace(line)
		}
	}
	if reason == "" {
		return "no reason given"
	}
	return reason
}

// finish prints the lists of what was skipped and what failed, and the last line. It returns whether
// all is well; broken says that go test itself failed.
func (r *report) finish(broken bool) bool {
	for name := range r.packages { // go test was cut short
		r.total.failed++
		r.failed = append(r.failed, name+" (did not finish)")
	}
	if broken && r.total.failed == 0 {
		r.total.failed++
		r.failed = append(r.failed, "go test (see its message)")
	}
	if len(r.skipped) > 0 {
		fmt.Fprintln(r.w, "\nSkipped:")
		for _, reason := range sortedKeys(r.skipped) {
			fmt.Fprintf(r.w, "  %s\n", reason)
			for _, test := range r.skipped[reason] {
				fmt.Fprintf(r.w, "    %s\n", test)
			}
		}
	}
	if len(r.failed) > 0 {
		fmt.Fprintln(r.w, "\nFailed:")
		slices.Sort(r.failed)
		for _, name := range r.failed {
			fmt.Fprintf(r.w, "  %s\n", name)
		}
	}
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped\n", r.total.passed, r.total.failed, r.total.skipped)
	return r.total.failed == 0
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
