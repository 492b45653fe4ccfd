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

// There is no table of translations to list: Services are translated flow by flow in the flow table, and
// pods' traffic to the outside by nftables and the kernel's own connection tracking.
func newBPFNATListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list [global]",
		Aliases: []string{"ls"},
		Short:   "List address translations: always empty, weir has no such table",
		Long: `List address translations. The list is always empty: Services are translated when a program connects, or
flow by flow in the table that 'bpf ct list global' shows, and pods' traffic to the outside is masqueraded by
nftables (nft list ruleset, conntrack -L).`,
		Example: "  weir bpf nat list",
		Args:    args(cobra.MaximumNArgs(1)),
	}
	out := outputFlag(c, "json")
	c.RunE = func(*cobra.Command, []string) error {
		if out.json() {
			return printJSON(g.out, []string{})
		}
		_, err := fmt.Fprintln(g.err, "no entries: weir has no table of translations (see 'bpf ct list global', and nftables for masquerading)")
		return err
	}
	return c
}
