package main

import (
	"fmt"
	"io"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func newEndpointCommand(g *globals) *cobra.Command {
	return forAgents(group(&cobra.Command{
		Use:     "endpoint",
		Aliases: []string{"ep"},
		Short:   "Show the endpoints of the node",
		Example: "  weir endpoint list\n  weir endpoint get shop/frontend-1",
	}, newEndpointListCommand(g), newEndpointGetCommand(g)))
}

func newEndpointListCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the endpoints with their enforcement, identity, labels and addresses",
		Example: "  weir endpoint list\n  weir endpoint list -o json | jq '.[].pod'",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		eps, err := g.agent().Endpoints(c.Context())
		if err != nil {
			return err
		}
		sort.Slice(eps, func(i, j int) bool { return eps[i].ID < eps[j].ID })
		if out.json() {
			return printJSON(g.out, orEmpty(eps))
		}
		return writeEndpoints(g.out, eps)
	}
	return c
}

func writeEndpoints(w io.Writer, eps []ports.EndpointInfo) error {
	t := newTable(w, "ENDPOINT", "POLICY (ingress)", "POLICY (egress)", "IDENTITY", "LABELS (source:key[=value])", "IPv6", "IPv4", "STATUS")
	t.row("", "ENFORCEMENT", "ENFORCEMENT")
	for _, e := range eps {
		first, rest := "no labels", []string(nil)
		if len(e.Labels) > 0 {
			first, rest = e.Labels[0], e.Labels[1:]
		}
		v4, v6 := byFamily(e.IPs)
		t.row(fmt.Sprint(e.ID), enforcement(e.Ingress), enforcement(e.Egress), fmt.Sprint(uint32(e.Identity)), first, v6, v4, e.State)
		for _, l := range rest {
			t.row("", "", "", "", l)
		}
	}
	return t.flush()
}

func enforcement(on bool) string {
	if on {
		return "Enabled"
	}
	return "Disabled"
}

func byFamily(ips []netip.Addr) (v4, v6 string) {
	for _, a := range ips {
		if a.Is4() {
			v4 = a.String()
		} else {
			v6 = a.String()
		}
	}
	return v4, v6
}

func newEndpointGetCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "get ID|NAMESPACE/POD",
		Short:   "Show one endpoint in full",
		Example: "  weir endpoint get 12\n  weir endpoint get shop/frontend-1 -o json",
		Args:    args(cobra.ExactArgs(1)),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, a []string) error {
		want, err := parseEndpointArg(a[0])
		if err != nil {
			return err
		}
		eps, err := g.agent().Endpoints(c.Context())
		if err != nil {
			return err
		}
		e, err := want.find(eps)
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.out, e)
		}
		return writeEndpoint(g.out, e)
	}
	return c
}

// endpointArg names an endpoint by number or by pod.
type endpointArg struct {
	id  datapath.EndpointID
	pod cluster.Name
}

func parseEndpointArg(s string) (endpointArg, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil && n > 0 {
		return endpointArg{id: datapath.EndpointID(n)}, nil
	}
	pod, err := cluster.ParseName(s)
	if err != nil {
		return endpointArg{}, usagef("%q is neither an endpoint's number (1 to 65535) nor namespace/pod", s)
	}
	return endpointArg{pod: pod}, nil
}

func (a endpointArg) String() string {
	if a.id != 0 {
		return fmt.Sprint(a.id)
	}
	return a.pod.String()
}

func (a endpointArg) find(eps []ports.EndpointInfo) (ports.EndpointInfo, error) {
	for _, e := range eps {
		if a.id != 0 && e.ID == a.id || a.id == 0 && e.Pod == a.pod {
			return e, nil
		}
	}
	return ports.EndpointInfo{}, fmt.Errorf("endpoint %s: %w on this node", a, ports.ErrNotFound)
}

func writeEndpoint(w io.Writer, e ports.EndpointInfo) error {
	t := newTable(w)
	v4, v6 := byFamily(e.IPs)
	t.row("Endpoint:", fmt.Sprint(e.ID))
	t.row("Pod:", e.Pod.String())
	t.row("Status:", e.State)
	t.row("Identity:", fmt.Sprint(uint32(e.Identity)))
	for i, l := range e.Labels {
		t.row(map[bool]string{true: "Labels:"}[i == 0], l)
	}
	t.row("IPv4:", v4)
	t.row("IPv6:", v6)
	t.row("Policy:", fmt.Sprintf("ingress %s, egress %s; policy id %s, epoch %d",
		strings.ToLower(enforcement(e.Ingress)), strings.ToLower(enforcement(e.Egress)), policyIDText(e.Policy), e.Epoch))
	for i, p := range e.Ports {
		t.row(map[bool]string{true: "Named ports:"}[i == 0], fmt.Sprintf("%s %d/%s", p.Name, p.Port, datapath.ProtoName(p.Proto)))
	}
	t.row("Device:", fmt.Sprintf("%s (index %d, mac %s), pod side %s (mac %s)", e.HostDevice, e.Ifindex, e.NodeMAC, e.Interface, e.MAC))
	t.row("Container:", e.ContainerID)
	t.row("Namespace file:", e.Netns)
	return t.flush()
}

// policyIDText writes a policy id and its two parts.
func policyIDText(id datapath.PolicyID) string {
	if id == 0 {
		return "none (nothing passes)"
	}
	return fmt.Sprintf("%d (generation %d, serial %d)", uint32(id), id.Generation(), uint32(id)&datapath.MaxPolicySerial)
}
