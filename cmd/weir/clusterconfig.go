package main

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/config"
)

func newConfigCommand(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "config",
		Short:   "See and change the configuration of a cluster (ConfigMap cilium-config)",
		Example: "  weir config view\n  weir config set debug true",
	}, newConfigViewCommand(g), newConfigSetCommand(g), newConfigDeleteCommand(g))
}

func newConfigViewCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "view",
		Short:   "Print the configuration",
		Example: "  weir config view\n  weir config view -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		values, err := cl.Config(c.Context())
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.out, values)
		}
		keys := make([]string, 0, len(values))
		for k := range values {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		t := newTable(g.out)
		for _, k := range keys {
			t.row(k, values[k])
		}
		return t.flush()
	}
	return c
}

func newConfigSetCommand(g *globals) *cobra.Command {
	var restart bool
	c := &cobra.Command{
		Use:   "set KEY VALUE",
		Short: "Change one key, and restart the agents",
		Long: `Change one key, and restart the agents, for which most keys are new only when they start. The next
'weir upgrade' writes what its values say: set it there too.`,
		Example: "  weir config set debug true\n  weir config set debug false --restart=false",
		Args:    args(cobra.ExactArgs(2)),
	}
	c.Flags().BoolVarP(&restart, "restart", "r", true, "restart the agents")
	c.RunE = func(c *cobra.Command, a []string) error {
		key, value := a[0], a[1]
		for _, f := range config.Check(map[string]string{key: value}) {
			if f.Severity == config.Refusal {
				return fmt.Errorf("agents would not start with this configuration: %s", f.Message)
			}
			fmt.Fprintf(g.err, "⚠️  %s\n", f.Message)
		}
		return g.changeConfig(c, fmt.Sprintf("%s=%s", key, value), map[string]*string{key: &value}, restart)
	}
	return c
}

func newConfigDeleteCommand(g *globals) *cobra.Command {
	var restart bool
	c := &cobra.Command{
		Use:     "delete KEY",
		Short:   "Remove one key, so that its default counts, and restart the agents",
		Example: "  weir config delete debug",
		Args:    args(cobra.ExactArgs(1)),
	}
	c.Flags().BoolVarP(&restart, "restart", "r", true, "restart the agents")
	c.RunE = func(c *cobra.Command, a []string) error {
		return g.changeConfig(c, a[0]+" removed", map[string]*string{a[0]: nil}, restart)
	}
	return c
}

func (g *globals) changeConfig(c *cobra.Command, what string, keys map[string]*string, restart bool) error {
	cl, err := g.cluster()
	if err != nil {
		return err
	}
	fmt.Fprintf(g.out, "✨ Patching ConfigMap cilium-config with %s...\n", what)
	if err := cl.SetConfig(c.Context(), keys); err != nil {
		return err
	}
	if !restart {
		return nil
	}
	if err := cl.RestartAgents(c.Context(), g.now()); err != nil {
		return err
	}
	fmt.Fprintln(g.out, "♻️  Restarted Cilium pods")
	return nil
}
