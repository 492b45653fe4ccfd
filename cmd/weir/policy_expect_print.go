package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// mostPairs is how many pairs of an entry are shown to people; -o json has all.
const mostPairs = 10

// write prints a line for each expectation, what is wrong below it, and a summary.
func (r *testReport) write(w io.Writer) error {
	var b strings.Builder
	for _, e := range r.Expectations {
		switch e.Result {
		case resultOK:
			fmt.Fprintf(&b, "ok     %d. %s\n", e.Entry, e.Name)
		case resultError:
			fmt.Fprintf(&b, "ERROR  %d. %s\n         %s\n", e.Entry, e.Name, e.Error)
		default:
			fmt.Fprintf(&b, "MISS   %d. %s (%s)\n", e.Entry, e.Name, e.share())
			e.diff(&b, "       ")
		}
	}
	b.WriteString(r.summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *testReport) summary() string {
	s := fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
	if r.Errors > 0 {
		s += fmt.Sprintf(", %d in error", r.Errors)
	}
	if r.Broken {
		s += "; a manifest is not valid"
	}
	return s
}

func (r *testResult) share() string {
	if r.Pairs == 1 {
		return "1 pair"
	}
	return fmt.Sprintf("%d of %d pairs", len(r.Misses), r.Pairs)
}

// diff shows for each pair what was expected and what is, and why.
func (r *testResult) diff(b *strings.Builder, indent string) {
	for i, m := range r.Misses {
		if i == mostPairs {
			fmt.Fprintf(b, "%s… and %d more pairs\n", indent, len(r.Misses)-i)
			return
		}
		want, got := r.Expect, m.Verdict
		if r.Rule != "" {
			want += " by " + r.Rule
			got += " by " + strings.Join(m.Row.Deciders(), " and ")
		}
		fmt.Fprintf(b, "%s%s -> %s %s\n", indent, m.From, m.To, portName(m.Row))
		fmt.Fprintf(b, "%s- %s\n%s+ %s\n", indent, want, indent, got)
		fmt.Fprintf(b, "%s    egress    %-9s %s\n", indent, sideVerdict(m.Row.Egress), m.EgressRule)
		fmt.Fprintf(b, "%s    ingress   %-9s %s\n", indent, sideVerdict(m.Row.Ingress), m.IngressRule)
		for _, h := range m.Hints {
			fmt.Fprintf(b, "%s    nearest   %-9s %s\n", indent, h.Direction, h)
		}
	}
}

type junitReport struct {
	XMLName xml.Name `xml:"testsuites"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
}

type junitSuite struct {
	Name string `xml:"name,attr"`
	junitCounts
	Cases []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",cdata"`
}

// writeJUnit writes the report as JUnit's XML: a suite with a case for each expectation, and a case
// in error if a manifest is not valid.
func (r *testReport) writeJUnit(path, suite string) error {
	s := junitSuite{Name: xmlText(suite)}
	add := func(c junitCase) {
		c.Class = s.Name
		s.Tests++
		if c.Failure != nil {
			s.Failures++
		}
		if c.Error != nil {
			s.Errors++
		}
		s.Cases = append(s.Cases, c)
	}
	if r.Broken {
		add(junitCase{Name: "manifests", Error: &junitProblem{Message: "a manifest is not valid",
			Text: "A manifest is not valid, so that the policies in force may not be what they were meant to be. The command's standard error names it."}})
	}
	for _, e := range r.Expectations {
		c := junitCase{Name: xmlText(e.Name)}
		switch e.Result {
		case resultMiss:
			var b strings.Builder
			e.diff(&b, "")
			c.Failure = &junitProblem{Message: fmt.Sprintf("expected %s; missed by %s", e.Expect, e.share()), Text: xmlText("\n" + b.String())}
		case resultError:
			c.Error = &junitProblem{Message: xmlText(e.Error), Text: xmlText(e.Error)}
		}
		add(c)
	}
	data, err := xml.MarshalIndent(junitReport{junitCounts: s.junitCounts, Suites: []junitSuite{s}}, "", "  ")
	if err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	if err := os.WriteFile(path, []byte(xml.Header+string(data)+"\n"), 0o644); err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	return nil
}

// xmlText replaces what XML cannot hold.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
