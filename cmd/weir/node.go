package main

import (
	"net/netip"
	"sort"

	"github.com/spf13/cobra"
)

func newNodeCommand(g *globals) *cobra.Command {
	return forAgents(group(&cobra.Command{
		Use:     "node",
		Short:   "Show the nodes of the cluster",
		Example: "  weir node list",
	}, newNodeListCommand(g)))
}

func newNodeListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the nodes that the agent knows, with their addresses and pod CIDRs",
		Example: "  weir node list\n  weir node list -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		agent := g.agent()
		nodes, err := agent.Nodes(c.Context())
		if err != nil {
			return err
		}
		sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
		if out.json() {
			return printJSON(g.out, orEmpty(nodes))
		}
		status, err := agent.Status(c.Context())
		if err != nil {
			return err
		}
		t := newTable(g.out, "Name", "IPv4 Address", "Endpoint CIDR", "IPv6 Address", "Endpoint CIDR", "Source")
		for _, n := range nodes {
			v4, v6 := firstByFamily(n.Addresses)
			var c4, c6 string
			for _, p := range n.PodCIDRs {
				if p.Addr().Is4() {
					c4 = p.String()
				} else {
					c6 = p.String()
				}
			}
			source := "cluster"
			if n.Name == status.Node {
				source = "local"
			}
			t.row(n.Name, v4, c4, v6, c6, source)
		}
		return t.flush()
	}
	return c
}

// firstByFamily returns the first address of each family: the one that nodes tunnel to.
func firstByFamily(addrs []netip.Addr) (v4, v6 string) {
	for _, a := range addrs {
		switch {
		case a.Is4() && v4 == "":
			v4 = a.String()
		case a.Is6() && v6 == "":
			v6 = a.String()
		}
	}
	return v4, v6
}
