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
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	runLabHelper()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	g := newGlobals(os.Stdin, os.Stdout, os.Stderr)
	g.program = programName(filepath.Base(os.Args[0]))
	code := run(ctx, g, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, g *globals, args []string) int {
	root := newRootCommand(g)
	root.SetArgs(args)
	g.args = args
	return g.report(root.ExecuteContextC(ctx))
}

func newRootCommand(g *globals) *cobra.Command {
	p := programs[g.program]
	root := &cobra.Command{Use: g.program, Short: p.short, Long: p.long, Example: p.example}
	group(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetOut(g.out)
	root.SetErr(g.err)
	root.SetIn(g.in)
	root.PersistentFlags().StringVar(&g.socket, "socket", g.defaultSocket(),
		"the agent's unix socket; the environment variable WEIR_SOCKET sets the default")
	root.PersistentFlags().StringVar(&g.node, "node", "",
		"talk to the agent of this node: of the cluster, or of the lab (the only lab there is, or $"+labEnv+")")
	g.kube.register(root.PersistentFlags(), g.getenv)
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return g.before(c) }
	for _, c := range p.commands {
		root.AddCommand(c(g))
	}
	addNamespaceFlags(root, &g.kube)
	return root
}
