package main

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/ports"
)

func newBPFLBListCommand(g *globals) *cobra.Command {
	var frontends, backends, revnat bool
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List services with the backend of each slot",
		Long: `List services with the backend of each slot. REVNAT_ID is the service's number; slot 0 describes
the service itself, and connections go to the others. 0.0.0.0 and [::] stand for every address of a node. A service that
is served to the network, too, has rows for it and rows with /i for the sockets of the cluster.`,
		Example: `  weir bpf lb list
  weir bpf lb list --frontends
  weir bpf lb list --backends -o json`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&frontends, "frontends", false, "show backend numbers instead of addresses")
	c.Flags().BoolVar(&backends, "backends", false, "list the table of backends")
	c.Flags().BoolVar(&revnat, "revnat", false, "list the number of each service")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if frontends && backends || frontends && revnat || backends && revnat {
			return usagef("--frontends, --backends and --revnat exclude each other")
		}
		agent := g.agent()
		d, err := agent.Tables(c.Context())
		if err != nil {
			return err
		}
		sortServices(d.Services)
		switch {
		case revnat:
			return twoColumns(g.out, out, "ID", "SERVICE ADDRESS", lbRevNat(d))
		case backends:
			return twoColumns(g.out, out, "BACKEND ID", "BACKEND ADDRESS", lbBackends(d))
		case frontends:
			return twoColumns(g.out, out, "SERVICE ADDRESS", "BACKEND ID (REVNAT_ID) (SLOT)", lbFrontends(d))
		}
		infos, err := agent.Services(c.Context())
		if err != nil {
			return err
		}
		return twoColumns(g.out, out, "SERVICE ADDRESS", "BACKEND ADDRESS (REVNAT_ID) (SLOT)", lbServices(d, infos))
	}
	return c
}

func sortServices(s []ports.Row[datapath.ServiceKey, datapath.Service]) {
	sort.Slice(s, func(i, j int) bool {
		a, b := s[i].Key, s[j].Key
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c < 0
		}
		if a.Port != b.Port {
			return a.Port < b.Port
		}
		if a.Proto != b.Proto {
			return a.Proto < b.Proto
		}
		return a.Scope > b.Scope // the network first, as it has the shorter name
	})
}

func lbServices(d ports.TablesDump, infos []ports.ServiceInfo) []keyed {
	types := map[uint32]ports.ServiceInfo{}
	for _, i := range infos {
		types[i.ID] = i
	}
	addrs := map[uint32]datapath.Backend{}
	for _, b := range d.Backends {
		addrs[b.Key] = b.Value
	}
	return eachSlot(d, func(s datapath.Service, k datapath.ServiceKey) string {
		none := netip.IPv4Unspecified()
		if k.Addr.Is6() {
			none = netip.IPv6Unspecified()
		}
		return fmt.Sprintf("%s (%d) (0) [%s]", netip.AddrPortFrom(none, 0), s.ID, serviceFlags(s, types[s.ID]))
	}, func(backend uint32) string {
		b, ok := addrs[backend]
		if !ok {
			return fmt.Sprintf("backend %d not found", backend)
		}
		return b.String()
	})
}

// frontendText writes frontends as Cilium does: one that is served to the network, too, has /i where it is for the
// sockets of the cluster.
func frontendText(d ports.TablesDump) func(datapath.ServiceKey) string {
	served := map[datapath.ServiceKey]bool{}
	for _, s := range d.Services {
		if s.Key.Scope == datapath.External {
			s.Key.Scope = datapath.Internal
			served[s.Key] = true
		}
	}
	return func(k datapath.ServiceKey) string {
		internal := k.Scope == datapath.Internal
		k.Scope = datapath.Internal
		if internal && served[k] {
			return k.String() + "/i"
		}
		return k.String()
	}
}

// serviceFlags describes a service as Cilium does: its type, affinity, and whether the address is
// one that routers know.
func serviceFlags(s datapath.Service, info ports.ServiceInfo) string {
	var flags []string
	typ := info.Type
	if typ != "" {
		flags = append(flags, typ)
	}
	if s.AffinityTimeout > 0 {
		flags = append(flags, "sessionAffinity")
	}
	switch {
	case info.Local && info.Scope == datapath.External.String():
		flags = append(flags, "Local")
	case info.Local:
		flags = append(flags, "InternalLocal")
	}
	if typ == string(lb.ClusterIP) {
		flags = append(flags, "non-routable")
	}
	return strings.Join(flags, ", ")
}

func lbFrontends(d ports.TablesDump) []keyed {
	return eachSlot(d, func(s datapath.Service, _ datapath.ServiceKey) string {
		return fmt.Sprintf("0 (%d) (0)", s.ID)
	}, func(backend uint32) string { return fmt.Sprint(backend) })
}

// eachSlot lists the services with their slots in order. A slot that a service should have and has
// not is shown as such: the datapath refuses connections that pick it.
func eachSlot(d ports.TablesDump, self func(datapath.Service, datapath.ServiceKey) string, backend func(uint32) string) []keyed {
	slots := map[datapath.SlotKey]uint32{}
	for _, s := range d.Slots {
		slots[s.Key] = s.Value
	}
	text := frontendText(d)
	var out []keyed
	for _, s := range d.Services {
		row := keyed{key: text(s.Key), values: []string{self(s.Value, s.Key)}}
		for n := uint32(1); n <= s.Value.Count; n++ {
			text := "slot is empty"
			if id, ok := slots[datapath.SlotKey{Service: s.Value.ID, Slot: n}]; ok {
				text = backend(id)
			}
			row.values = append(row.values, fmt.Sprintf("%s (%d) (%d)", text, s.Value.ID, n))
		}
		out = append(out, row)
	}
	return out
}

func lbBackends(d ports.TablesDump) []keyed {
	sort.Slice(d.Backends, func(i, j int) bool { return d.Backends[i].Key < d.Backends[j].Key })
	var out []keyed
	for _, b := range d.Backends {
		out = append(out, keyed{fmt.Sprint(b.Key), []string{b.Value.String()}})
	}
	return out
}

func lbRevNat(d ports.TablesDump) []keyed {
	sort.SliceStable(d.Services, func(i, j int) bool { return d.Services[i].Value.ID < d.Services[j].Value.ID })
	text := frontendText(d)
	var out []keyed
	for _, s := range d.Services {
		out = append(out, keyed{fmt.Sprint(s.Value.ID), []string{text(s.Key)}})
	}
	return out
}
