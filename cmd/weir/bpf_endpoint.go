package main

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
)

func newBPFEndpointListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the addresses of this node: its pods' and its own",
		Example: "  weir bpf endpoint list\n  weir bpf endpoint list -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := g.agent().Tables(c.Context())
		if err != nil {
			return err
		}
		sort.Slice(d.Endpoints, func(i, j int) bool { return d.Endpoints[i].Key.Less(d.Endpoints[j].Key) })
		rows := make([]keyed, 0, len(d.Endpoints))
		for _, r := range d.Endpoints {
			rows = append(rows, keyed{r.Key.String(), []string{localEndpointText(r.Value)}})
		}
		return twoColumns(g.out, out, "IP ADDRESS", "LOCAL ENDPOINT INFO", rows)
	}
	return c
}

func localEndpointText(e datapath.Endpoint) string {
	if e.Host {
		return "(localhost)"
	}
	return fmt.Sprintf("id=%-5d sec_id=%-5d flags=0x0000 ifindex=%-3d mac=%s nodemac=%s parent_ifindex=0",
		e.ID, uint32(e.Identity), e.Ifindex, e.MAC, e.NodeMAC)
}
