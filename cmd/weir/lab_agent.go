package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/lab"
)

func newLabAgentCommand(f *labFlags) *cobra.Command {
	verb := func(use, short, example string, do func(*lab.Lab, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NODE", Short: short, Example: example, Args: args(cobra.ExactArgs(1)),
			RunE: func(c *cobra.Command, a []string) error {
				l, err := f.lab()
				if err != nil {
					return err
				}
				return do(l, c.Context(), a[0])
			},
		}
	}
	return group(&cobra.Command{
		Use:   "agent",
		Short: "Kill and start the agent of a node",
		Long: `weir lab agent kill ends a node's agent with SIGKILL: traffic goes on under the last policies.
weir lab agent start brings it back, and returns when it has taken over.`,
		Example: "  weir lab agent kill node1\n  weir lab agent start node1",
	},
		verb("kill", "End a node's agent with SIGKILL", "  weir lab agent kill node1", (*lab.Lab).KillAgent),
		verb("start", "Start a node's agent if it does not run, and wait until it is ready", "  weir lab agent start node1", (*lab.Lab).StartAgent),
	)
}
