package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
)

func newBPFNATListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list [global]",
		Aliases: []string{"ls"},
		Short:   "List the translations of packets that come from the network for Services",
		Long: `List the translations of packets that come from the network for Services: one line for the client's packets (IN), and
one for the answers (OUT). Programs of the cluster are not in it, as they get a backend's address when they connect; nor is
pods' traffic to the outside, which nftables masquerades (nft list ruleset, conntrack -L).`,
		Example: "  weir bpf nat list\n  weir bpf nat list -o json | jq '.[].To'",
		Args:    args(cobra.MaximumNArgs(1)),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		rows, err := g.agent().Translations(c.Context())
		if err != nil {
			return err
		}
		slices.SortFunc(rows, func(a, b datapath.Translation) int { return strings.Compare(a.From.String(), b.From.String()) })
		if out.json() {
			return printJSON(g.out, orEmpty(rows))
		}
		for _, r := range rows {
			if _, err := fmt.Fprintln(g.out, translationText(r)); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// translationText writes a row as Cilium does, with both addresses where both change.
func translationText(r datapath.Translation) string {
	way := "IN"
	if r.Reply {
		way = "OUT"
	}
	s := fmt.Sprintf("%s %s %s -> %s", datapath.ProtoName(r.From.Proto), way, r.From.Src, r.From.Dst)
	if r.From.Src != r.To.Src {
		s += " XLATE_SRC " + r.To.Src.String()
	}
	if r.From.Dst != r.To.Dst {
		s += " XLATE_DST " + r.To.Dst.String()
	}
	return s + fmt.Sprintf(" expires=%ds", int(r.Expires.Round(time.Second)/time.Second))
}
