package main

import (
	"bytes"
	_ "embed" // what is left out
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

//go:embed left-out
var leftOutText string

// exception is a kind of test that is not run.
type exception struct {
	pattern *regexp.Regexp
	reason  string
}

// leftOut reads the file left-out: a line with a regular expression for tests' names, and below it, indented, why.
func leftOut() ([]exception, error) {
	var all []exception
	for i, line := range strings.Split(leftOutText, "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '\t':
			if len(all) == 0 {
				return nil, fmt.Errorf("left-out: line %d: a reason without a test", i+1)
			}
			e := &all[len(all)-1]
			e.reason = strings.TrimSpace(e.reason + " " + line[1:])
		default:
			pattern, err := regexp.Compile(line)
			if err != nil {
				return nil, fmt.Errorf("left-out: line %d: %w", i+1, err)
			}
			all = append(all, exception{pattern: pattern})
		}
	}
	for _, e := range all {
		if e.reason == "" {
			return nil, fmt.Errorf("left-out: %s: the reason is missing", e.pattern)
		}
	}
	return all, nil
}

// progress makes one line of what the tests write about each.
type progress struct {
	out    io.Writer
	rest   []byte // a line that has not ended
	header string // how a test ended, until its name comes
	total  string
	done   int
}

var (
	ended   = regexp.MustCompile(`^[SP]*(•|S|P|\[\w+\])( \[[A-Z' -]+\])? \[(\d+)\.\d+ seconds\]$`)
	labels  = regexp.MustCompile(` \[sig-network[^]]*\]$`) // once more, behind the name
	willRun = regexp.MustCompile(`^Will run (\d+) of \d+ specs$`)
)

// Write takes any piece of the output.
func (p *progress) Write(data []byte) (int, error) {
	p.rest = append(p.rest, data...)
	for {
		line, rest, found := bytes.Cut(p.rest, []byte("\n"))
		if !found {
			return len(data), nil
		}
		p.line(strings.TrimSpace(string(line)))
		p.rest = rest
	}
}

func (p *progress) line(line string) {
	if m := willRun.FindStringSubmatch(line); m != nil {
		p.total = m[1]
		fmt.Fprintf(p.out, "%s tests\n", p.total)
		return
	}
	if m := ended.FindStringSubmatch(line); m != nil {
		how := strings.ToLower(strings.Trim(m[2], " []"))
		if how == "" {
			how = "passed"
		}
		p.header = fmt.Sprintf("%-7s %4s s", how, m[3])
		return
	}
	if p.header == "" || line == "" {
		return
	}
	if strings.HasPrefix(line, "[sig-network]") {
		p.done++
		name := labels.ReplaceAllString(strings.TrimPrefix(line, "[sig-network] "), "")
		name = strings.Replace(name, "[It] ", "", 1) // where a test fails Ginkgo says in which part
		fmt.Fprintf(p.out, "%3d/%s %s  %s\n", p.done, p.total, p.header, name)
	}
	p.header = ""
}

// counts are how many tests ended how.
type counts struct{ passed, failed, skipped, left int }

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped, %d left out", c.passed, c.failed, c.skipped, c.left)
}

// These are the parts of a JUnit file that are read and written.
type (
	suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite  `xml:"testsuite"`
	}
	suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure"`
		Error   *failure `xml:"error"`
		Skipped *failure `xml:"skipped"`
		Out     string   `xml:"system-out,omitempty"`
		Err     string   `xml:"system-err,omitempty"`
	}
	failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// report reads what Ginkgo wrote to from, which has every test that e2e.test knows, writes those that ran to to, and
// prints which failed, and why tests were skipped.
func report(from, to string, left []exception, w io.Writer) (counts, error) {
	var c counts
	data, err := os.ReadFile(from)
	if err != nil {
		return c, fmt.Errorf("results: %w", err)
	}
	var all suites
	if err := xml.Unmarshal(data, &all); err != nil {
		return c, fmt.Errorf("results: %w", err)
	}
	for i := range all.Suites {
		s := &all.Suites[i]
		ran := s.Cases[:0]
		for _, t := range s.Cases {
			name := strings.TrimPrefix(t.Name, "[It] ")
			switch {
			case t.Failure != nil || t.Error != nil:
				c.failed++
				fmt.Fprintf(w, "FAILED   %s\n", name)
			case t.Skipped != nil && t.Skipped.Message == "skipped":
				if strings.HasPrefix(name, "[sig-network]") && excepted(left, name) {
					c.left++
				}
				continue
			case !strings.HasPrefix(t.Name, "[It] "):
				continue // of the suite as a whole
			case t.Skipped != nil:
				c.skipped++
				fmt.Fprintf(w, "skipped  %s: %s\n", name, strings.TrimPrefix(t.Skipped.Message, "skipped - "))
			default:
				c.passed++
			}
			ran = append(ran, t)
		}
		s.Cases = ran
		s.Tests, s.Failures, s.Skipped = len(ran), c.failed, c.skipped
	}
	out, err := xml.MarshalIndent(all, "", " ")
	if err != nil {
		return c, fmt.Errorf("results: %w", err)
	}
	if err := os.WriteFile(to, append([]byte(xml.Header), out...), 0o644); err != nil {
		return c, fmt.Errorf("results: %w", err)
	}
	return c, os.Remove(from)
}

func excepted(left []exception, name string) bool {
	for _, e := range left {
		if e.pattern.MatchString(name) {
			return true
		}
	}
	return false
}
