package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
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
		Use:   "view",
		Short: "Print the configuration",
		Long: `Print the ConfigMap cilium-config, and what CiliumNodeConfigs change on some nodes. With --node: the settings that
the agent of that node starts with, and where each comes from.`,
		Example: "  weir config view\n  weir config view --node worker-1\n  weir config view -o json",
		Args:    args(cobra.NoArgs),
	}
	var node string
	c.Flags().StringVar(&node, "node", "", "the settings of this node")
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
		if out.json() && node == "" {
			return printJSON(g.out, values)
		}
		var configs []cluster.NodeConfig
		if namespace, count := config.NodeConfigs(values); count {
			if configs, err = cl.NodeConfigs(c.Context(), namespace); err != nil && node == "" {
				fmt.Fprintf(g.err, "⚠️  %v\n", err)
			} else if err != nil {
				return err
			}
		}
		if node != "" {
			if err := hasAgent(c.Context(), cl, node); err != nil {
				return err
			}
			return g.viewNode(values, configs, node, out.json())
		}
		return g.viewConfig(values, configs)
	}
	return c
}

// hasAgent refuses nodes that have none, most likely misspelt ones.
func hasAgent(ctx context.Context, cl clusterAccess, node string) error {
	pods, err := cl.Agents(ctx)
	if err != nil {
		return err
	}
	var nodes []string
	for _, p := range pods {
		nodes = append(nodes, p.Node)
	}
	if slices.Contains(nodes, node) {
		return nil
	}
	slices.Sort(nodes)
	return fmt.Errorf("no agent runs on node %q; agents run on %s", node, strings.Join(slices.Compact(nodes), ", "))
}

// viewConfig prints the ConfigMap, and after it what is different on some nodes.
func (g *globals) viewConfig(values map[string]string, configs []cluster.NodeConfig) error {
	t := newTable(g.out)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		t.row(k, values[k])
	}
	if err := t.flush(); err != nil || len(configs) == 0 {
		return err
	}
	fmt.Fprintln(g.out, "\nCiliumNodeConfigs, which count more on the nodes that they select; of several the last:")
	t = newTable(g.out)
	for _, n := range configs {
		nodes := strings.Join(n.Nodes, ", ")
		switch {
		case n.Problem != "":
			nodes = "no node: " + n.Problem
		case nodes == "":
			nodes = "no node"
		}
		for _, k := range slices.Sorted(maps.Keys(n.Values)) {
			t.row(k, n.Values[k], n.Name, nodes)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, n := range configs {
		g.tellRefused(config.Resolve(values, []config.Overlay{n.Overlay}, nil))
	}
	return nil
}

// viewNode prints what the agent of a node starts with.
func (g *globals) viewNode(values map[string]string, configs []cluster.NodeConfig, node string, asJSON bool) error {
	r := config.Resolve(values, selecting(configs, node), nil)
	g.tellRefused(r)
	if asJSON {
		type setting struct {
			Value  string `json:"value"`
			Source string `json:"source"`
		}
		all := map[string]setting{}
		for k, v := range r.Values {
			all[k] = setting{v, r.Source(k)}
		}
		return printJSON(g.out, all)
	}
	t := newTable(g.out)
	for _, k := range slices.Sorted(maps.Keys(r.Values)) {
		t.row(k, r.Values[k], r.Source(k))
	}
	return t.flush()
}

// tellRefused says what CiliumNodeConfigs say in vain.
func (g *globals) tellRefused(r config.Resolved) {
	for _, f := range r.Findings {
		fmt.Fprintf(g.err, "⚠️  %s\n", f.Message)
	}
}

// selecting are the CiliumNodeConfigs that select a node.
func selecting(configs []cluster.NodeConfig, node string) (out []config.Overlay) {
	for _, n := range configs {
		if slices.Contains(n.Nodes, node) {
			out = append(out, n.Overlay)
		}
	}
	return out
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
	g.tellOverridden(c, cl, keys)
	if !restart {
		return nil
	}
	if err := cl.RestartAgents(c.Context(), g.now()); err != nil {
		return err
	}
	fmt.Fprintln(g.out, "♻️  Restarted Cilium pods")
	return nil
}

// tellOverridden says on which nodes a change of the ConfigMap counts for nothing.
func (g *globals) tellOverridden(c *cobra.Command, cl clusterAccess, keys map[string]*string) {
	configs, err := cl.NodeConfigs(c.Context(), "")
	if err != nil {
		return // who may not see them has changed the ConfigMap all the same
	}
	for _, n := range configs {
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if v, ok := n.Values[k]; ok && len(n.Nodes) > 0 {
				fmt.Fprintf(g.err, "⚠️  %s is %q by CiliumNodeConfig %s on %s\n", k, v, n.Name, strings.Join(n.Nodes, ", "))
			}
		}
	}
}
