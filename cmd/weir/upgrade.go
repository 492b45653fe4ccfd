package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/helm"
)

func newUpgradeCommand(g *globals) *cobra.Command {
	f := &chartFlags{}
	var reset, reuse, resetThenReuse, restart bool
	var history int
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring an installed weir to this version, or to other values",
		Long: `Bring an installed weir to this program's version, or to other values. Values that were set at the last install
or upgrade count on; those that were not take the new version's defaults.`,
		Example: `  weir upgrade
  weir upgrade --set debug.enabled=true --restart
  weir upgrade --reset-values -f values.yaml --dry-run`,
		Args: args(cobra.NoArgs),
	}
	f.register(c)
	fs := c.Flags()
	fs.BoolVar(&resetThenReuse, "reset-then-reuse-values", true, "start from this version's defaults and the values that were set before")
	fs.BoolVar(&reset, "reset-values", false, "start from this version's defaults alone")
	fs.BoolVar(&reuse, "reuse-values", false, "start from all values in force, the old version's defaults included")
	fs.IntVar(&history, "history-max", 10, "how many revisions to keep, 0 for all")
	fs.BoolVarP(&restart, "restart", "r", false, "restart the agents, even if only their configuration changes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.listVersions {
			_, err := fmt.Fprintln(g.out, thisBuild().Version, "(default)")
			return err
		}
		how := helm.ResetThenReuse
		switch {
		case reset && reuse:
			return usagef("--reset-values and --reuse-values exclude each other")
		case reset, !resetThenReuse && !reuse:
			how = helm.Reset
		case reuse:
			how = helm.Keep
		}
		if history < 0 {
			return usagef("--history-max: %d is not allowed; allowed: 0 or more", history)
		}
		chart, values, err := f.chart()
		if err != nil {
			return err
		}
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		h, err := g.helm()
		if err != nil {
			return err
		}
		return g.upgrade(c.Context(), f, chart, values, how, history, restart, cl, h)
	}
	return c
}

func (g *globals) upgrade(ctx context.Context, f *chartFlags, chart *helm.Chart, values map[string]any, how helm.Reuse, history int, restart bool, cl clusterAccess, h helmAccess) error {
	plan, err := h.Upgrade(ctx, chart, how, history, helm.Change{Values: values, DryRun: true})
	if errors.Is(err, helm.ErrNotFound) {
		return fmt.Errorf("%w: use 'weir install'", err)
	}
	if err != nil {
		return err
	}
	if f.dryValues {
		return g.printYAML(values)
	}
	if err := g.judge(plan.Manifest); err != nil {
		return err
	}
	if f.dryRun {
		_, err := io.WriteString(g.out, plan.Manifest)
		return err
	}
	fmt.Fprintf(g.out, "ℹ️  Using weir version %s\n", chart.AppVersion())
	r, err := h.Upgrade(ctx, chart, how, history, helm.Change{Values: values})
	if err != nil {
		return err
	}
	if restart {
		if err := cl.RestartAgents(ctx, g.now()); err != nil {
			return err
		}
		fmt.Fprintln(g.out, "♻️  Restarted Cilium pods")
	}
	return g.installed(ctx, f, cl, r)
}

func newUninstallCommand(g *globals) *cobra.Command {
	var wait bool
	var timeout time.Duration
	var testNamespace string
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove weir from a cluster",
		Long: `Remove what install has written. The definitions of the cilium.io kinds and the objects of these kinds stay; so
does what the agents have set up on the nodes, so that pods keep their network until another one takes over:
'weir-agent cleanup --force' on a node takes it away.`,
		Example: "  weir uninstall\n  weir uninstall --wait --timeout 2m",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until all is gone")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	c.Flags().StringVar(&testNamespace, "test-namespace", "cilium-test-1", "namespace of the connectivity test, which is removed too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		h, err := g.helm()
		if err != nil {
			return err
		}
		gone, err := cl.DeleteNamespace(c.Context(), testNamespace)
		if err != nil {
			return err
		}
		if gone {
			fmt.Fprintf(g.out, "🔥 Deleting %s namespace...\n", testNamespace)
		}
		fmt.Fprintln(g.out, "⌛ Uninstalling Cilium")
		if !wait {
			timeout = 0
		}
		if err := h.Uninstall(c.Context(), timeout); err != nil {
			return err
		}
		fmt.Fprintln(g.out, "🔥 Cilium was successfully uninstalled.")
		fmt.Fprintln(g.out, "ℹ️  The cilium.io kinds and the nodes' datapath stay ('weir uninstall --help' says how to remove them)")
		return nil
	}
	return c
}
