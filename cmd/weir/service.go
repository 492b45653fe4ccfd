package main

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
)

func newServiceCommand(g *globals) *cobra.Command {
	return forAgents(group(&cobra.Command{
		Use:     "service",
		Aliases: []string{"svc"},
		Short:   "Show services and their backends",
		Example: "  weir service list",
	}, newServiceListCommand(g)))
}

func newServiceListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List frontends with their backends",
		Long: `List frontends with their backends. 0.0.0.0 and [::] stand for every address of a node. A frontend that is
served to the network, too, has a line for it and one with /i for the sockets of the cluster: traffic policies may give
them different backends.`,
		Example: "  weir service list\n  weir service list -o json | jq '.[] | select(.backends == [])'",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		services, err := g.agent().Services(c.Context())
		if err != nil {
			return err
		}
		sort.SliceStable(services, func(i, j int) bool { return services[i].ID < services[j].ID })
		if out.json() {
			for i := range services {
				services[i].Backends = orEmpty(services[i].Backends)
			}
			return printJSON(g.out, orEmpty(services))
		}
		served := map[string]bool{} // to the network
		for _, s := range services {
			served[s.Frontend] = served[s.Frontend] || s.Scope == datapath.External.String()
		}
		t := newTable(g.out, "ID", "Frontend", "Service Type", "Backend")
		for _, s := range services {
			if s.Scope == datapath.Internal.String() && served[s.Frontend] {
				s.Frontend += "/i"
			}
			cells := []string{fmt.Sprint(s.ID), s.Frontend, s.Type}
			if len(s.Backends) == 0 {
				t.row(cells...)
			}
			for i, b := range s.Backends {
				t.row(append(cells, fmt.Sprintf("%d => %s (%s)", i+1, b.Address, b.State))...)
				cells = []string{"", "", ""}
			}
		}
		return t.flush()
	}
	return c
}
