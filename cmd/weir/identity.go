package main

import (
	"fmt"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/ports"
)

func newIdentityCommand(g *globals) *cobra.Command {
	return forAgents(group(&cobra.Command{
		Use:     "identity",
		Aliases: []string{"id"},
		Short:   "Show security identities",
		Example: "  weir identity list",
	}, newIdentityListCommand(g)))
}

func newIdentityListCommand(g *globals) *cobra.Command {
	var endpoints bool
	c := &cobra.Command{
		Use:     "list [LABEL...]",
		Aliases: []string{"ls"},
		Short:   "List the identities that the agent knows, or those that have all the labels",
		Example: "  weir identity list\n  weir identity list k8s:app=backend\n  weir identity list --endpoints -o json",
	}
	c.Flags().BoolVar(&endpoints, "endpoints", false, "only identities in use, with the number of addresses that have them")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, a []string) error {
		want, err := labels.ParseSet(a...)
		if err != nil {
			return usageError{err}
		}
		ids, err := g.agent().Identities(c.Context())
		if err != nil {
			return err
		}
		var list []ports.IdentityInfo
		for _, i := range ids {
			if hasLabels(i.Labels, want) && (!endpoints || i.RefCount > 0) {
				list = append(list, i)
			}
		}
		sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
		if out.json() {
			return printJSON(g.out, orEmpty(list))
		}
		header := []string{"ID", "LABELS"}
		if endpoints {
			header = append(header, "REFCOUNT")
		}
		t := newTable(g.out, header...)
		for _, i := range list {
			id, count := fmt.Sprint(uint32(i.ID)), ""
			if endpoints {
				count = fmt.Sprint(i.RefCount)
			}
			if len(i.Labels) == 0 {
				t.row(id, "", count)
			}
			for _, l := range i.Labels {
				t.row(id, l, count)
				id, count = "", ""
			}
		}
		return t.flush()
	}
	return c
}

// hasLabels says whether all wanted labels are there; a wanted label without a value asks for the
// key alone.
func hasLabels(have []string, want labels.Set) bool {
	set, err := labels.ParseSet(have...)
	if err != nil {
		return want.Len() == 0
	}
	for _, l := range want.All() {
		v, ok := set.Get(l.Source, l.Key)
		if !ok || l.Value != "" && v != l.Value {
			return false
		}
	}
	return true
}
