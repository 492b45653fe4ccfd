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
		Use:   "weir-agent",
		Short: "Run the agent of one node",
		Long: `Run the agent of one node until it gets SIGTERM or SIGINT.

The agent works in the network namespace it is started in. Programs and tables are pinned in a bpf file
system: when the agent ends, traffic goes on under the last policy, and the next agent takes over.

It is configured by flags and, in a cluster, by the ConfigMap cilium-config, mounted as a directory. Every
flag of a key is the key by the same name; the flag counts if both are given. A change of the directory is
noticed: what can be applied is, what needs a restart is said in the log and by weir status.
CiliumNodeConfigs that select the node, as build-config finds them, count before the directory.`,
		Example: `  weir-agent --config-dir /tmp/cilium/config-map --node-config /var/run/cilium/node-config.json
  weir-agent --node-name node1 --cluster-dir /etc/weir/cluster --cgroup /sys/fs/cgroup/kubepods`,
		Version:       Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return run(&o) },
	}
	o.add(c.Flags())
	c.AddCommand(preflightCommand(), configCommand(), buildConfigCommand(), mountCgroupCommand(), mountBPFFSCommand(), cleanupCommand())
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

func run(o *options) error {
	if err := o.load(); err != nil {
		return err
	}
	if err := preflight(os.Stdout, o.settings.Cgroup != ""); err != nil {
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
}
