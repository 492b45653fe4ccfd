package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/lab"
)

func newLabExecCommand(f *labFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec NAMESPACE/POD -- COMMAND [ARGUMENT...]",
		Short: "Run a program inside a pod's namespace",
		Long: `weir lab exec runs any program of this machine in the network namespace and cgroup of a pod: it has
the pod's addresses, and the pod's policies and services apply to it. 'node/NAME' in place of a pod means a
node, 'outside' the host outside the cluster. The exit status is the program's; 126 and 127 if it
could not be run or found.

WEIR_SOCKET in the program's environment leads weir's commands to the node's agent.`,
		Example: `  weir lab exec production/frontend -- curl http://10.96.0.10/
  weir lab exec production/frontend -- sh
  weir lab exec node/node1 -- weir status`,
		Args: args(cobra.MinimumNArgs(2)),
	}
	c.Flags().SetInterspersed(false)
	c.RunE = func(_ *cobra.Command, a []string) error {
		argv := a[1:]
		if argv[0] == "--" {
			argv = argv[1:]
		}
		if len(argv) == 0 {
			return usagef("no command given")
		}
		l, err := f.lab()
		if err != nil {
			return err
		}
		err = l.Exec(a[0], argv)
		if status := lab.ExitStatus(err); status != exitFailed {
			// Statuses of shells, which report does not know.
			fmt.Fprintf(f.g.err, "weir lab exec: %v\n", err)
			os.Exit(status)
		}
		return err
	}
	return c
}
