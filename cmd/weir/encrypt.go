package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newEncryptCommand tells the truth about encryption, which is short.
func newEncryptCommand(g *globals) *cobra.Command {
	status := &cobra.Command{
		Use:     "status",
		Short:   "Show whether traffic between nodes is encrypted",
		Example: "  weir encryption status",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(status, "json")
	status.RunE = func(c *cobra.Command, _ []string) error {
		if !g.remote {
			if out.json() {
				return printJSON(g.out, map[string]string{"mode": "Disabled"})
			}
			_, err := fmt.Fprintln(g.out, "Encryption: Disabled")
			return err
		}
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		pods, err := g.agents(c.Context(), cl)
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.out, map[string]any{"mode": "Disabled", "nodes": len(pods)})
		}
		_, err = fmt.Fprintf(g.out, "Encryption: Disabled (%d/%d nodes)\n", len(pods), len(pods))
		return err
	}
	verbs := []*cobra.Command{status}
	for _, f := range []feature{
		{"encryption create-key", "Make a key", "traffic is not encrypted, so there are no keys"},
		{"encryption rotate-key", "Change the key", "traffic is not encrypted, so there are no keys"},
		{"encryption key-status", "Show the key in use", "traffic is not encrypted, so there are no keys"},
	} {
		verbs = append(verbs, newUnavailableCommand(f))
	}
	return group(&cobra.Command{
		Use: "encryption", Aliases: []string{"encrypt"}, Short: "Encryption of traffic between nodes", Example: "  weir encryption status",
	}, verbs...)
}
