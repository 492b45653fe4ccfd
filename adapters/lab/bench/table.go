package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits beyond which a machine counts as not idle: shares of its time.
const (
	othersLimit = 0.05
	stealLimit  = 0.01
)

// warnings tell what makes a run doubtful.
func warnings(r *Run) []string {
	var others, steal []float64
	for _, x := range r.Results {
		for _, m := range append(slices.Clone(x.Own.Rounds), x.Base.Rounds...) {
			others, steal = append(others, m.Others), append(steal, m.Steal)
		}
	}
	var out []string
	if s := spreadOf(others); s.Max > othersLimit {
		out = append(out, fmt.Sprintf("the machine was not idle: other programs used %.0f %% of it (up to %.0f %%)", 100*s.Median, 100*s.Max))
	}
	if s := spreadOf(steal); s.Max > stealLimit {
		out = append(out, fmt.Sprintf("the hypervisor took up to %.0f %% of the machine away", 100*s.Max))
	}
	if len(slices.Compact(slices.Clone(r.CPUs))) == 1 {
		out = append(out, "client and server shared one processor")
	}
	return out
}

// Table prints a run: two rows a case, itself and its baseline.
func (r *Run) Table(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "weir %s, kernel %s, %s, %d processors\n", r.Weir, m.Kernel, m.CPU, m.Count)
	fmt.Fprintf(w, "%d rounds of %g s, client and server on processors %s\n\n", r.Rounds, r.Window, joinInts(r.CPUs))
	rows := [][]string{{"CASE", "SIDE", "UNIT", "MEDIAN", "MIN–MAX", "RATIO", "SPREAD", "TARGET", "P50 µs", "P99 µs", "CPU µs", "AGENT µs", "FOLLOW µs", "OTHERS"}}
	var notes []string
	for _, x := range r.Results {
		switch {
		case x.Skipped != "":
			rows = append(rows, []string{x.Name, "skipped"})
			notes = append(notes, x.Name+" was skipped: "+x.Skipped)
			continue
		case x.Failed != "":
			notes = append(notes, x.Name+" failed: "+x.Failed)
		}
		rows = append(rows, x.row(x.Own, true), x.row(x.Base, false))
	}
	writeColumns(w, rows)
	fmt.Fprintf(w, "\nRatio: the median over the rounds of case to baseline in the same round; above 1 the case is better.\n"+
		"CPU: %s,\na transaction (streams: a megabyte). AGENT, FOLLOW: of the agents, and of who follows their flows, likewise.\n"+
		"OTHERS: the share of the machine that everything else used meanwhile.\n", m.CPUSource)
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
	for _, n := range r.Warnings {
		fmt.Fprintln(w, "warning: "+n)
	}
	return nil
}

// row is one side of a result; the ratio stands with the first.
func (r Result) row(s Side, own bool) []string {
	if len(s.Rounds) == 0 {
		return []string{r.titleOf(own), s.Name, "failed"}
	}
	row := []string{
		r.titleOf(own), s.Name, r.Unit, number(s.Value.Median), number(s.Value.Min) + "–" + number(s.Value.Max),
		"", "", "", "-", "-", number(s.CPU), number(s.Agents), number(s.Follow), fmt.Sprintf("%.0f %%", 100*s.Others),
	}
	if own && len(r.PerRound) > 0 {
		row[5] = fmt.Sprintf("%.2f", r.Ratio.Median)
		row[6] = fmt.Sprintf("%.2f–%.2f", r.Ratio.Min, r.Ratio.Max)
		if r.Target > 0 {
			row[7] = fmt.Sprintf("%.2f met", r.Target)
			if r.Missed() {
				row[7] = fmt.Sprintf("%.2f MISSED", r.Target)
			}
		}
	}
	if s.P50 > 0 {
		row[8], row[9] = number(s.P50), number(s.P99)
	}
	return row
}

func (r Result) titleOf(own bool) string {
	if own {
		return r.Name
	}
	return ""
}

// number writes three digits or more.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.2f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func joinInts(list []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
}

// writeColumns lays out rows; short ones end early. Nothing is left blank at the end of a line.
func writeColumns(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell)+2)
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
