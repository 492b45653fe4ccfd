package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/matrix"
)

func newPolicyTestCommand(g *globals) *cobra.Command {
	var dir, file, junit string
	c := &cobra.Command{
		Use:   "test -f DIR --expect FILE",
		Short: "Hold a directory of manifests to a file of expectations",
		Long: `Hold a directory of manifests to a file of expectations: who is meant to reach whom. No agent,
cluster or kernel is asked.

FILE is YAML (- for the standard input): a list, or a list under "expectations", of entries with
  from, to   namespace/pod; a wildcard such as shop/*, */* or shop/web-*; labels of pods, such as
             shop/app=web,tier!=db; or an address, which is outside the cluster if nothing there has it.
             YAML wants quotes around what begins with *
  port       of the destination, 1 to 65535; none for ICMP
  protocol   TCP (if left out), UDP, SCTP, or ICMP (echo requests)
  expect     allowed or denied
  rule       optional: what has to decide, as 'weir policy verdict' prints it, or its first words, such
             as "NetworkPolicy shop/backend-ingress"
  name       optional: what the report calls the entry
Every pair of ends that an entry speaks of has to meet it. An entry that speaks of no pair, because
no pod is called so, is an error.

The exit status is 0 if all expectations are met, 1 if one is not met or in error or a manifest is
not valid, 2 if the command line or FILE is wrong.

-o json prints an object with the keys passed, failed and errors (numbers),
invalid_manifests, and expectations: a list of entries with their result (ok, miss or error), the
number of pairs, and the misses with the rules of both sides.`,
		Example: `  weir policy test -f ./manifests --expect expectations.yaml
  weir policy test -f ./manifests --expect expectations.yaml --junit report.xml
  weir policy test -f ./manifests --expect expectations.yaml -o json | jq '.expectations[] | select(.result != "ok")'`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().StringVarP(&dir, "filename", "f", "", "directory of manifests")
	c.Flags().StringVar(&file, "expect", "", "file of expectations, - for the standard input")
	c.Flags().StringVar(&junit, "junit", "", "also write a report in JUnit's XML to this file")
	out := outputFlag(c, "json")
	c.RunE = func(*cobra.Command, []string) error {
		if file == "" {
			return usagef("--expect FILE is missing: the file of expectations")
		}
		expectations, err := g.loadExpectations(file)
		if err != nil {
			return usageError{err}
		}
		w, broken, err := g.loadWorld(dir)
		if err != nil {
			return err
		}
		report := judgeExpectations(w, expectations, broken)
		if out.json() {
			err = printJSON(g.out, report)
		} else {
			err = report.write(g.out)
		}
		if err == nil && junit != "" {
			err = report.writeJUnit(junit, file)
		}
		if err == nil && !report.good() {
			return errNo
		}
		return err
	}
	return c
}

func (g *globals) loadExpectations(file string) ([]expectation, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(g.in)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read expectations: %w", err)
	}
	return parseExpectations(file, data)
}

// expectation is an entry of the file.
type expectation struct {
	matrix.Expectation
	name string // never empty
}

// testReport is what the expectations came to, and the form of -o json.
type testReport struct {
	Passed       int          `json:"passed"`
	Failed       int          `json:"failed"`
	Errors       int          `json:"errors"`            // entries that speak of nothing
	Broken       bool         `json:"invalid_manifests"` // an object is not in force as its author meant it
	Expectations []testResult `json:"expectations"`
}

func (r *testReport) good() bool { return r.Failed == 0 && r.Errors == 0 && !r.Broken }

// Results of an expectation.
const (
	resultOK    = "ok"
	resultMiss  = "miss"
	resultError = "error"
)

type testResult struct {
	Entry    int        `json:"entry"` // number in the file, from 1
	Name     string     `json:"name"`
	From     string     `json:"from"`
	To       string     `json:"to"`
	Port     uint16     `json:"port"`
	Protocol string     `json:"protocol"`
	Expect   string     `json:"expect"`
	Rule     string     `json:"rule,omitempty"`
	Result   string     `json:"result"`
	Pairs    int        `json:"pairs"` // how many were judged
	Misses   []testMiss `json:"misses"`
	Error    string     `json:"error,omitempty"`
}

type testMiss struct {
	matrix.Miss `json:"-"`
	From        string   `json:"from"`
	To          string   `json:"to"`
	Verdict     string   `json:"verdict"`
	WrongRule   bool     `json:"wrong_rule"`
	EgressRule  string   `json:"egress_rule"`
	IngressRule string   `json:"ingress_rule"`
	Nearest     []string `json:"nearest"`
}

func judgeExpectations(w *matrix.World, expectations []expectation, broken bool) *testReport {
	report := &testReport{Broken: broken}
	for i, e := range expectations {
		row := matrix.Row{Proto: e.Proto}
		r := testResult{Entry: i + 1, Name: e.name, From: e.From, To: e.To, Port: e.Port, Protocol: row.Protocol(),
			Expect: expectText(e.Allowed), Rule: e.Rule, Result: resultOK, Misses: []testMiss{}}
		res, err := w.Expect(e.Expectation)
		r.Pairs = res.Pairs
		for _, m := range res.Misses {
			miss := testMiss{Miss: m, From: m.Row.From, To: m.Row.To, Verdict: m.Row.Verdict(), WrongRule: m.WrongRule,
				EgressRule: m.Row.Egress.String(), IngressRule: m.Row.Ingress.String(), Nearest: []string{}}
			for _, h := range m.Hints {
				miss.Nearest = append(miss.Nearest, h.String())
			}
			r.Misses = append(r.Misses, miss)
		}
		switch {
		case err != nil:
			r.Result = resultError
			r.Error = inOneLine(err)
			report.Errors++
		case len(res.Misses) > 0:
			r.Result = resultMiss
			report.Failed++
		default:
			report.Passed++
		}
		report.Expectations = append(report.Expectations, r)
	}
	return report
}

func expectText(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// inOneLine writes what errors.Join has put together.
func inOneLine(err error) string {
	var parts []string
	for _, e := range unjoin(err) {
		parts = append(parts, e.Error())
	}
	return strings.Join(parts, "; ")
}
