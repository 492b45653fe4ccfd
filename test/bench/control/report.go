package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// row is one measured quantity. Value and Target are in Unit; a Target of 0 is none.
type row struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // ms or MiB
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"` // of times: p99 where many were taken, else the longest
	Rounds int     `json:"rounds"`
	Target float64 `json:"target,omitempty"` // at most
}

func (r row) missed() bool { return r.Target > 0 && r.Value > r.Target }

// report collects rows in order.
type report struct {
	Kernel string  `json:"kernel"`
	CPUs   int     `json:"cpus"`
	Load   float64 `json:"load"` // of the machine, one minute, at the end
	Rows   []row   `json:"rows"`
}

// times adds the median of durations.
func (r *report) times(name string, target time.Duration, ds ...time.Duration) {
	slices.SortFunc(ds, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	r.Rows = append(r.Rows, row{
		Name: name, Unit: "ms", Value: ms(ds[len(ds)/2]), Low: ms(ds[0]), High: ms(ds[(len(ds)*99-1)/100]), Rounds: len(ds), Target: ms(target),
	})
}

// bytes adds an amount of memory. The target is in MiB.
func (r *report) bytes(name string, target float64, n uint64) {
	mib := float64(n) / (1 << 20)
	r.Rows = append(r.Rows, row{Name: name, Unit: "MiB", Value: mib, Low: mib, High: mib, Rounds: 1, Target: target})
}

// memory adds what the agent holds and, apart, what the tables do.
func (r *report) memory(name string, target float64, m memory) {
	r.bytes("agent resident, "+name, target, m.Resident)
	r.bytes("  of it heap and stacks", 0, m.Anonymous)
	r.bytes("  at most so far", 0, m.Peak)
	r.bytes("  beside it, the kernel's tables", 0, m.Tables)
}

// print writes the table for people.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "kernel %s, %d CPUs, load %.1f\n\n", r.Kernel, r.CPUs, r.Load)
	fmt.Fprintf(w, "%-52s %10s %21s %6s %10s\n", "", "median", "least – p99", "rounds", "target")
	for _, x := range r.Rows {
		target, mark := "", ""
		if x.Target > 0 {
			target, mark = "≤ "+number(x.Target, x.Unit), "met"
		}
		if x.missed() {
			mark = "MISSED"
		}
		span := ""
		if x.Rounds > 1 {
			span = number(x.Low, "") + " – " + number(x.High, "")
		}
		line := fmt.Sprintf("%-52s %10s %21s %6d %10s %s", x.Name, number(x.Value, x.Unit), span, x.Rounds, target, mark)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

func number(v float64, unit string) string {
	digits := 0
	switch {
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f %s", digits, v, unit))
}
