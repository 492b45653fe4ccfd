package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newMapCommand(g *globals) *cobra.Command {
	list := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the kernel's tables and how full they are",
		Example: "  weir map list\n  weir map list -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(list, "json")
	list.RunE = func(c *cobra.Command, _ []string) error {
		s, err := g.agent().Status(c.Context())
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.out, orEmpty(s.Tables))
		}
		// Rows that wait to be written are the errors of a table that nothing is read back from.
		t := newTable(g.out, "Name", "Num entries", "Num errors", "Cache enabled")
		for _, m := range s.Tables {
			t.row(m.Name, fmt.Sprint(m.Rows), fmt.Sprint(m.Pending), "true")
		}
		return t.flush()
	}
	return forAgents(group(&cobra.Command{Use: "map", Short: "The kernel's tables", Example: "  weir map list"}, list))
}
