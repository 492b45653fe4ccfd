package connectivity

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Report collects what became of a run. It has one caller.
type Report struct {
	Namespace string
	Started   time.Time
	Tests     []TestResult
}

// TestResult is what became of one test.
type TestResult struct {
	Name    string
	Skip    string // why it was not run; empty if it was
	Took    time.Duration
	Actions int
	// Problems are what a test found that has no actions, one each.
	Problems []string
	// Failures are the actions that did not come out as expected.
	Failures []Failure
	// Error is why the test could not be carried out; its actions are missing then.
	Error    string
	Skipped  []SkippedScenario
	Evidence []string // of failures, one a node
}

// Failed says whether the test failed.
func (t TestResult) Failed() bool { return t.Error != "" || len(t.Failures) > 0 || len(t.Problems) > 0 }

// Failure is an action that did not come out as expected.
type Failure struct {
	Action  Action
	Problem string
}

// Path is scenario/name.
func (f Failure) Path() string { return f.Action.Scenario + "/" + f.Action.Name }

// Failed counts the failed tests.
func (r *Report) Failed() int {
	n := 0
	for _, t := range r.Tests {
		if t.Failed() {
			n++
		}
	}
	return n
}

type totals struct{ tests, actions, failedTests, failedActions, skippedTests, skippedScenarios int }

func (r *Report) totals() (n totals) {
	for _, t := range r.Tests {
		n.skippedScenarios += len(t.Skipped)
		if t.Skip != "" {
			n.skippedTests++
			continue
		}
		n.tests++
		n.actions += t.Actions
		n.failedActions += len(t.Failures) + len(t.Problems)
		if t.Failed() {
			n.failedTests++
		}
	}
	return n
}

// Lines is the report for people: one line if all went well, otherwise what failed.
func (r *Report) Lines() []string {
	n := r.totals()
	if n.failedTests == 0 {
		return []string{fmt.Sprintf("✅ [%s] All %d tests (%d actions) successful, %d tests skipped, %d scenarios skipped.",
			r.Namespace, n.tests, n.actions, n.skippedTests, n.skippedScenarios)}
	}
	out := []string{fmt.Sprintf("❌ [%s] %d/%d tests failed (%d/%d actions), %d tests skipped, %d scenarios skipped:",
		r.Namespace, n.failedTests, n.tests, n.failedActions, n.actions, n.skippedTests, n.skippedScenarios)}
	for _, t := range r.Tests {
		if !t.Failed() {
			continue
		}
		out = append(out, fmt.Sprintf("Test [%s]:", t.Name))
		if t.Error != "" {
			out = append(out, "  🟥 "+t.Error)
		}
		for _, f := range t.Failures {
			out = append(out, fmt.Sprintf("  🟥 %s/%s: %s: %s", t.Name, f.Path(), f.Action, f.Problem))
		}
		for _, p := range t.Problems {
			out = append(out, fmt.Sprintf("  🟥 %s: %s", t.Name, p))
		}
	}
	return out
}

// JUnit's elements, as far as its readers agree on them.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property,omitempty"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name      string     `xml:"name,attr"`
		Class     string     `xml:"classname,attr"`
		Time      string     `xml:"time,attr"`
		Failure   *junitText `xml:"failure"`
		Skipped   *junitText `xml:"skipped"`
		SystemOut string     `xml:"system-out,omitempty"`
	}
	junitText struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// Property is a name and a value that go into the JUnit report.
type Property struct{ Name, Value string }

// WriteJUnit writes the report as a JUnit document with one case a test.
func (r *Report) WriteJUnit(w io.Writer, properties []Property) error {
	n := r.totals()
	s := junitSuite{
		Name: "connectivity test", Tests: n.tests + n.skippedTests, Failures: n.failedTests, Skipped: n.skippedTests,
		Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
	}
	var total time.Duration
	for _, p := range properties {
		s.Properties = append(s.Properties, junitProperty(p))
	}
	for _, t := range r.Tests {
		total += t.Took
		c := junitCase{Name: t.Name, Class: "connectivity test", Time: seconds(t.Took), SystemOut: printable(strings.Join(t.Evidence, "\n"))}
		switch {
		case t.Skip != "":
			c.Skipped = &junitText{Message: printable(t.Skip)}
		case t.Failed():
			var lines []string
			for _, f := range t.Failures {
				lines = append(lines, fmt.Sprintf("%s: %s: %s", f.Path(), f.Action, f.Problem))
			}
			lines = append(lines, t.Problems...)
			message := cmp.Or(t.Error, fmt.Sprintf("%d of %d actions failed", len(lines), t.Actions))
			c.Failure = &junitText{Message: printable(message), Type: "failure", Text: printable(strings.Join(lines, "\n"))}
		}
		s.Cases = append(s.Cases, c)
	}
	s.Time = seconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(junitSuites{Suites: []junitSuite{s}}); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// printable leaves out what XML cannot hold, the colours of terminals among it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}
