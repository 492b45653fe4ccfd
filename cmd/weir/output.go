package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

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

// table lays out columns as the agent's listings of Cilium do. Cells are joined by tabs.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, header ...string) table {
	t := table{tabwriter.NewWriter(w, 5, 0, 3, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t table) row(cells ...string) {
	// Trailing empty cells would only leave blanks at the end of the line.
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
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
	return t.Flush()
}

// keyed is a key of a kernel table with the texts of its values.
type keyed struct {
	key    string
	values []string
}
