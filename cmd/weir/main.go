// Command weir asks the agent of a node what it knows and does, and judges manifests without one.
//
// Exit status: 0 when it went well and the answer is yes, 1 when something failed or the answer is
// no (the agent is unhealthy or not reachable, a verdict is "denied", an object was not found), 2
// when the command line is wrong.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// commands are the subcommands in the order in which help lists them.
var commands = []func(*globals) *cobra.Command{
	newStatusCommand,
	newObserveCommand,
	newPolicyCommand,
	newEndpointCommand,
	newIdentityCommand,
	newServiceCommand,
	newNodeCommand,
	newBPFCommand,
	newConnectivityCommand,
	newLabCommand,
	newDemoCommand,
	newVersionCommand,
	newCompletionCommand,
}

func main() {
	runLabHelper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, newGlobals(os.Stdin, os.Stdout, os.Stderr), os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, g *globals, args []string) int {
	root := newRootCommand(g)
	root.SetArgs(args)
	return g.report(root.ExecuteContextC(ctx))
}

func newRootCommand(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "Look into a weir node, and judge policies without one",
		Long: `weir shows what the agent of a node knows and what its kernel does: endpoints, identities,
services, policies, kernel tables, and every new or dropped flow with the rule that decided.
'weir policy matrix' and 'weir policy verdict' judge a directory of manifests, without agent or
cluster.

Exit status: 0 success or yes; 1 failure or no; 2 wrong usage.`,
		Example: `  weir status
  weir observe --verdict DROPPED --print-policy-names
  weir --node node1 endpoint list
  weir policy matrix -f ./manifests`,
	}
	group(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetOut(g.out)
	root.SetErr(g.err)
	root.SetIn(g.in)
	root.PersistentFlags().StringVar(&g.socket, "socket", g.defaultSocket(),
		"the agent's unix socket; the environment variable WEIR_SOCKET sets the default")
	root.PersistentFlags().StringVar(&g.node, "node", "",
		"talk to the agent of this node of the lab (the only lab there is, or $"+labEnv+")")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return g.findNode() }
	for _, c := range commands {
		root.AddCommand(c(g))
	}
	return root
}
