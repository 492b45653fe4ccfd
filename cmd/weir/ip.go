package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/ports"
)

// ipInfo is one line of `ip list`.
type ipInfo struct {
	IP       string   `json:"cidr"`
	Identity uint32   `json:"identity"`
	Labels   []string `json:"labels"`
	Node     string   `json:"hostIP,omitempty"` // where it is, if on another node
	Source   string   `json:"source"`
}

func newIPCommand(g *globals) *cobra.Command {
	return forAgents(group(&cobra.Command{
		Use:     "ip",
		Short:   "Addresses and whom they belong to",
		Example: "  weir ip list",
	}, newIPListCommand(g)))
}

func newIPListCommand(g *globals) *cobra.Command {
	var numeric bool
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the addresses that the kernel knows an identity of",
		Example: "  weir ip list\n  weir ip list -n\n  weir ip list -o json",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().BoolVarP(&numeric, "numeric", "n", false, "show identities as numbers instead of labels")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		agent := g.agent()
		d, err := agent.Tables(c.Context())
		if err != nil {
			return err
		}
		ids, err := agent.Identities(c.Context())
		if err != nil {
			return err
		}
		list := ipList(d, ids)
		if out.json() {
			return printJSON(g.out, orEmpty(list))
		}
		t := newTable(g.out, "IP", "IDENTITY", "SOURCE")
		for _, i := range list {
			words := i.Labels
			if numeric || len(words) == 0 {
				words = []string{fmt.Sprint(i.Identity)}
			}
			ip, source := i.IP, i.Source
			for _, w := range words {
				t.row(ip, w, source)
				ip, source = "", ""
			}
		}
		return t.flush()
	}
	return c
}

func ipList(d ports.TablesDump, ids []ports.IdentityInfo) (list []ipInfo) {
	labels := map[uint32][]string{}
	for _, i := range ids {
		labels[uint32(i.ID)] = i.Labels
	}
	sort.Slice(d.IPCache, func(i, j int) bool { return comparePrefix(d.IPCache[i].Key, d.IPCache[j].Key) < 0 })
	for _, r := range d.IPCache {
		id := uint32(r.Value.Identity)
		info := ipInfo{IP: r.Key.String(), Identity: id, Labels: orEmpty(labels[id]), Source: "custom-resource"}
		switch {
		case r.Value.Tunnel.IsValid():
			info.Node = r.Value.Tunnel.String()
		case r.Value.NextHop.IsValid():
			info.Node = r.Value.NextHop.String()
		}
		if len(info.Labels) > 0 && strings.HasPrefix(info.Labels[0], "reserved:") {
			info.Source = "reserved"
		}
		list = append(list, info)
	}
	return list
}
