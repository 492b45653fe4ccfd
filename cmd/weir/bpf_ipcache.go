package main

import (
	"fmt"
	"net/netip"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

func newBPFIPCacheListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List prefixes with their identity and the node that has them",
		Example: "  weir bpf ipcache list\n  weir bpf ipcache list -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := g.agent().Tables(c.Context())
		if err != nil {
			return err
		}
		sort.Slice(d.IPCache, func(i, j int) bool { return comparePrefix(d.IPCache[i].Key, d.IPCache[j].Key) < 0 })
		rows := make([]keyed, 0, len(d.IPCache))
		for _, r := range d.IPCache {
			rows = append(rows, keyed{r.Key.String(), []string{ipcacheText(r.Key, r.Value)}})
		}
		return twoColumns(g.out, out, "IP PREFIX/ADDRESS", "IDENTITY", rows)
	}
	return c
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

func ipcacheText(p netip.Prefix, v datapath.IPCache) string {
	tunnel, flags := "0.0.0.0", "<none>"
	if p.Addr().Is6() {
		tunnel = "::"
	}
	if v.Tunnel.IsValid() {
		tunnel, flags = v.Tunnel.String(), "hastunnel"
	}
	if v.NextHop.IsValid() {
		tunnel, flags = v.NextHop.String(), "skiptunnel"
	}
	return fmt.Sprintf("identity=%d encryptkey=0 tunnelendpoint=%s flags=%s", uint32(v.Identity), tunnel, flags)
}

func newBPFIPCacheGetCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "get ADDRESS",
		Short: "Show the identity that the kernel gives an address",
		Long: `Show the identity that the kernel gives an address: that of the longest prefix that holds it. An
address in no prefix is the world to the kernel; then the exit status is 1.`,
		Example: "  weir bpf ipcache get 10.244.1.7",
		Args:    args(cobra.ExactArgs(1)),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, a []string) error {
		addr, err := netip.ParseAddr(a[0])
		if err != nil {
			return usagef("%q is not an IP address", a[0])
		}
		d, err := g.agent().Tables(c.Context())
		if err != nil {
			return err
		}
		row, ok := longestPrefix(d.IPCache, addr.Unmap())
		if !ok {
			world := identity.WorldIPv6
			if addr.Unmap().Is4() {
				world = identity.WorldIPv4
			}
			fmt.Fprintf(g.err, "%s does not map to any identity: the kernel takes it for %s\n", addr, world)
			return errNo
		}
		text := ipcacheText(row.Key, row.Value)
		if out.json() {
			return printJSON(g.out, map[string][]string{row.Key.String(): {text}})
		}
		_, err = fmt.Fprintf(g.out, "%s maps to identity %s\n", addr, text)
		return err
	}
	return c
}

func longestPrefix(rows []ports.Row[netip.Prefix, datapath.IPCache], a netip.Addr) (best ports.Row[netip.Prefix, datapath.IPCache], ok bool) {
	for _, r := range rows {
		if r.Key.Contains(a) && (!ok || r.Key.Bits() > best.Key.Bits()) {
			best, ok = r, true
		}
	}
	return best, ok
}
