package main

import (
	"github.com/spf13/cobra"
)

func newContextCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "context",
		Short:   "Show which cluster commands would work on",
		Example: "  weir context\n  weir --context other context",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cl, err := g.cluster()
			if err != nil {
				return err
			}
			host, port, err := cl.Server()
			if err != nil {
				return err
			}
			t := newTable(g.out)
			t.row("Cluster:", cl.Name())
			t.row("API server:", host+":"+port)
			t.row("Namespace:", cl.Namespace())
			return t.flush()
		},
	}
}
