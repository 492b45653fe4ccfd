package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Lines by which the guest's script frames the suites: "begin PACKAGE", "end PACKAGE STATUS UPTIME".
const (
	markBegin = "@@weir-begin"
	markEnd   = "@@weir-end"
)

// report is what one kernel did.
type report struct {
	series, release string
	suites          []*suiteRun
	instructions    map[string]count // by program
	broken          string           // why the guest did not get to its end
}

type suiteRun struct {
	pkg    string
	ended  bool
	status int
	tests  []*testRun // top-level ones, in the order of their start
	output strings.Builder
}

type testRun struct {
	name     string
	outcome  string  // "PASS", "FAIL", "SKIP"; "" while it runs
	seconds  float64 // of the guest
	subtests int
	output   strings.Builder
}

// count is how many instructions the verifier looked at, and may.
type count struct{ verified, budget int }

func newReport(series, release string) *report {
	return &report{series: series, release: release, instructions: map[string]count{}}
}

var (
	frame       = regexp.MustCompile(`^\s*\x16?=== (RUN|NAME|CONT|PAUSE)\s+(\S*)`)
	verdict     = regexp.MustCompile(`^\s*\x16?--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	instruction = regexp.MustCompile(`^\s+\S+\.go:\d+: (\w+)\s+(\d+) of\s+(\d+)$`)
)

// read takes in the guest's output until it ends.
func (r *report) read(in io.Reader) {
	var s *suiteRun
	var t *testRun
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		text := strings.TrimRight(line, "\r\n")
		switch words := strings.Fields(text); {
		case len(words) == 2 && words[0] == markBegin:
			s, t = &suiteRun{pkg: words[1]}, nil
			r.suites = append(r.suites, s)
		case len(words) == 4 && words[0] == markEnd && s != nil:
			s.ended = true
			s.status, _ = strconv.Atoi(words[2])
			r.progress(s)
			s, t = nil, nil
		case s != nil:
			t = s.take(text, t)
			if m := instruction.FindStringSubmatch(text); m != nil {
				verified, _ := strconv.Atoi(m[2])
				budget, _ := strconv.Atoi(m[3])
				r.instructions[m[1]] = count{verified, budget}
			}
		}
		if err != nil {
			return
		}
	}
}

// take reads a line of a suite; t is the test that the line belongs to if it does not say otherwise.
func (s *suiteRun) take(line string, t *testRun) *testRun {
	if m := frame.FindStringSubmatch(line); m != nil {
		if m[2] == "" {
			return nil
		}
		t = s.test(m[2])
		if m[1] == "RUN" && strings.Contains(m[2], "/") {
			t.subtests++
		}
		return t
	}
	if m := verdict.FindStringSubmatch(line); m != nil {
		t = s.test(m[2])
		if t.name == m[2] {
			t.outcome = m[1]
			t.seconds, _ = strconv.ParseFloat(m[3], 64)
		}
	}
	to := &s.output
	if t != nil {
		to = &t.output
	}
	fmt.Fprintln(to, strings.ReplaceAll(line, "\x16", ""))
	return t
}

// test finds or adds the top-level test that a name is part of.
func (s *suiteRun) test(name string) *testRun {
	top, _, _ := strings.Cut(name, "/")
	for _, t := range s.tests {
		if t.name == top {
			return t
		}
	}
	t := &testRun{name: top}
	s.tests = append(s.tests, t)
	return t
}

func (s *suiteRun) count(outcomes ...string) (n int) {
	for _, t := range s.tests {
		if slices.Contains(outcomes, t.outcome) {
			n++
		}
	}
	return n
}

// ok says whether the binary ended well; a test that has not ended is a failure.
func (s *suiteRun) ok() bool {
	return s.ended && s.status == 0 && s.count("FAIL", "") == 0
}

func (r *report) progress(s *suiteRun) {
	state := "ok  "
	if !s.ok() {
		state = "FAIL"
	}
	fmt.Printf("%s  Linux %-5s %-20s %d passed, %d failed, %d skipped\n",
		state, r.series, s.pkg, s.count("PASS"), s.count("FAIL", ""), s.count("SKIP"))
}

// finished says whether every suite came to its end.
func (r *report) finished() bool {
	return len(r.suites) == len(suites) && !slices.ContainsFunc(r.suites, func(s *suiteRun) bool { return !s.ended })
}

// printReports writes the tables, the output of what failed, and as the last line the numbers. It
// returns whether all is well.
func printReports(w io.Writer, reports []*report) bool {
	printTests(w, reports)
	printInstructions(w, reports)
	passed, failed, skipped := 0, 0, 0
	for _, r := range reports {
		for _, s := range r.suites {
			passed, skipped = passed+s.count("PASS"), skipped+s.count("SKIP")
			bad := s.count("FAIL", "")
			if bad == 0 && !s.ok() {
				bad++
				fmt.Fprintf(w, "\nLinux %s %s failed outside its tests (status %d):\n%s", r.series, s.pkg, s.status, s.output.String())
			}
			failed += bad
			for _, t := range s.tests {
				if t.outcome == "FAIL" || t.outcome == "" {
					fmt.Fprintf(w, "\nLinux %s %s %s:\n%s", r.series, s.pkg, t.name, t.output.String())
				}
			}
		}
		if r.broken != "" {
			failed++
			fmt.Fprintf(w, "\nLinux %s: %s\n", r.series, r.broken)
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return failed == 0 && passed > 0
}

// printTests writes a row for each test and a column for each kernel.
func printTests(w io.Writer, reports []*report) {
	type cell struct{ pkg, test string }
	var rows []cell
	cells := map[cell][]string{}
	for i, r := range reports {
		for _, s := range r.suites {
			for _, t := range s.tests {
				c := cell{s.pkg, t.name}
				if cells[c] == nil {
					rows = append(rows, c)
					cells[c] = make([]string, len(reports))
				}
				cells[c][i] = t.text()
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b cell) int { return cmp.Compare(a.pkg, b.pkg) })
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(table, "\nTEST")
	for _, r := range reports {
		fmt.Fprintf(table, "\t%s", r.release)
	}
	pkg := ""
	for _, row := range rows {
		if row.pkg != pkg {
			pkg = row.pkg
			fmt.Fprintf(table, "\n%s", pkg)
			fmt.Fprint(table, strings.Repeat("\t", len(reports)))
		}
		fmt.Fprintf(table, "\n  %s", row.test)
		for _, text := range cells[row] {
			fmt.Fprintf(table, "\t%s", cmp.Or(text, "-"))
		}
	}
	fmt.Fprintln(table)
	_ = table.Flush()
}

func (t *testRun) text() string {
	outcome := map[string]string{"PASS": "ok", "FAIL": "FAILED", "SKIP": "skipped", "": "FAILED (did not end)"}[t.outcome]
	if t.subtests > 0 {
		return fmt.Sprintf("%s (%d)  %.1fs", outcome, t.subtests, t.seconds)
	}
	return fmt.Sprintf("%s  %.1fs", outcome, t.seconds)
}

// printInstructions writes a row for each program.
func printInstructions(w io.Writer, reports []*report) {
	budgets := map[string]int{}
	for _, r := range reports {
		for program, c := range r.instructions {
			budgets[program] = c.budget
		}
	}
	if len(budgets) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "\nINSTRUCTIONS VERIFIED")
	for _, r := range reports {
		fmt.Fprintf(table, "\t%s", r.series)
	}
	fmt.Fprintln(table, "\tbudget\t")
	for _, program := range slices.Sorted(maps.Keys(budgets)) {
		fmt.Fprint(table, program)
		for _, r := range reports {
			if c, ok := r.instructions[program]; ok {
				fmt.Fprintf(table, "\t%d", c.verified)
			} else {
				fmt.Fprint(table, "\t-")
			}
		}
		fmt.Fprintf(table, "\t%d\t\n", budgets[program])
	}
	_ = table.Flush()
}
