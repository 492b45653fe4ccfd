package main

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"
)

// identityAddresses is an identity with the number of addresses that the kernel gives it to.
type identityAddresses struct {
	ID        uint32   `json:"id"`
	Labels    []string `json:"labels"`
	Addresses int      `json:"addresses"`
}

func newBPFIdentityListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List identities with their labels and the number of addresses that the kernel gives them to",
		Example: "  weir bpf identity list\n  weir bpf identity list -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		agent := g.agent()
		ids, err := agent.Identities(c.Context())
		if err != nil {
			return err
		}
		d, err := agent.Tables(c.Context())
		if err != nil {
			return err
		}
		count := map[uint32]int{}
		for _, r := range d.IPCache {
			count[uint32(r.Value.Identity)]++
		}
		var list []identityAddresses
		for _, i := range ids {
			list = append(list, identityAddresses{uint32(i.ID), orEmpty(i.Labels), count[uint32(i.ID)]})
		}
		sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
		if out.json() {
			return printJSON(g.out, orEmpty(list))
		}
		t := newTable(g.out, "ID", "LABELS", "IPS")
		for _, i := range list {
			id, n := fmt.Sprint(i.ID), fmt.Sprint(i.Addresses)
			if len(i.Labels) == 0 {
				t.row(id, "", n)
			}
			for _, l := range i.Labels {
				t.row(id, l, n)
				id, n = "", ""
			}
		}
		return t.flush()
	}
	return c
}
