package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// output is the -o flag of a listing.
type output struct {
	format  string
	allowed []string
}

// outputFlag adds -o to a command. Without it the listing is a table.
func outputFlag(c *cobra.Command, allowed ...string) *output {
	o := &output{allowed: allowed}
	c.Flags().VarP(o, "output", "o", "output format: "+strings.Join(allowed, "|"))
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return allowed, cobra.ShellCompDirectiveNoFileComp
	}
	if err := c.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // the flag was added two lines above
	}
	return o
}

func (o *output) String() string { return o.format }
func (o *output) Type() string   { return "format" }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	if !slices.Contains(o.allowed, s) {
		return fmt.Errorf("allowed: %s", strings.Join(o.allowed, ", "))
	}
	o.format = s
	return nil
}

// json says whether -o json was given.
func (o *output) json() bool { return o.format == "json" }

// printJSON writes a value as indented JSON. A nil list is an empty one.
func printJSON[V any](w io.Writer, v V) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// orEmpty makes a list that JSON shows as [] and not as null.
func orEmpty[V any](list []V) []V {
	if list == nil {
		return []V{}
	}
	return list
}

// Widths of a table, in characters, as Cilium's listings have them.
const (
	minColumn = 5 // padding included
	padding   = 3
)

// table lays out rows in columns. A row of one cell stands for itself and does not widen the first
// column.
type table struct {
	w    io.Writer
	rows [][]string
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: w}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, slices.Clone(cells)) }

// flush writes the rows. Nothing is left blank at the end of a line.
func (t *table) flush() error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, minColumn)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell)+padding)
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for i, cell := range row {
			line += cell
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	t.rows = nil
	_, err := io.WriteString(t.w, b.String())
	return err
}

// twoColumns prints keys with one or more values each, as Cilium's dumps of kernel tables do, or the
// same as a JSON object of lists.
func twoColumns(w io.Writer, o *output, key, value string, rows []keyed) error {
	if o.json() {
		m := make(map[string][]string, len(rows))
		for _, r := range rows {
			m[r.key] = append(m[r.key], r.values...)
		}
		return printJSON(w, m)
	}
	t := newTable(w, key, value)
	for _, r := range rows {
		k := r.key
		for _, v := range r.values {
			t.row(k, v)
			k = ""
		}
	}
	return t.flush()
}

// keyed is a key of a kernel table with the texts of its values.
type keyed struct {
	key    string
	values []string
}
