// Command weir-agent is the agent of one node: it watches the cluster, decides, and keeps the
// kernel's datapath up to date. The datapath goes on without it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/fx"
)

// Version is set at build time.
var Version = "dev"

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "weir-agent:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "weir-agent --node-name NAME --cluster-dir DIR",
		Short: "Run the agent of one node",
		Long: `Run the agent of one node until it gets SIGTERM or SIGINT.

The agent works in the network namespace it is started in. Programs and tables are pinned under
--bpffs: when the agent ends, traffic goes on under the last policy, and the next agent takes over.`,
		Example: `  weir-agent --node-name node1 --cluster-dir /etc/weir/cluster
  weir-agent --node-name node1 --cluster-dir /etc/weir/cluster --cgroup /sys/fs/cgroup/kubepods`,
		Version:       Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			if err := o.check(); err != nil {
				return err
			}
			app := fx.New(wiring(o))
			if err := app.Err(); err != nil {
				return err
			}
			if err := app.Start(context.Background()); err != nil {
				return err
			}
			code := (<-app.Wait()).ExitCode
			if err := app.Stop(context.Background()); err != nil {
				return err
			}
			if code != 0 {
				return errors.New("ended by a failure; the log has it")
			}
			return nil
		},
	}
	o.flags(c.Flags())
	return c
}
