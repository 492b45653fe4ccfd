package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

func newStatusCommand(g *globals) *cobra.Command {
	var brief, verbose bool
	f := &clusterStatusFlags{}
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the health of an agent and its kernel tables, or of a whole cluster",
		Long: `Where an agent's socket is there, or --socket or --node names an agent: show the health of that agent, what the
kernel offers, and what is wrong. Elsewhere: show the health of the cluster of the kubeconfig, that is, of its agents and
its operator, and which pods are served.

The exit status is 1 if something is wrong or cannot be reached. --wait waits until nothing is.`,
		Example: `  weir status
  weir status --wait             # until agents and operator are ready
  weir status --verbose          # of an agent: with every table, kernel feature and packet counter
  weir status --brief            # of an agent: OK, or what is wrong
  weir status -o json | jq .tables`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&brief, "brief", false, "agent: print OK, or the first problem")
	c.Flags().BoolVar(&verbose, "verbose", false, "agent: also print tables, kernel features and counters")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait until everything is well")
	c.Flags().DurationVar(&f.waitDuration, "wait-duration", 5*time.Minute, "how long to wait")
	c.Flags().BoolVar(&f.ignoreWarnings, "ignore-warnings", false, "cluster: warnings are no failure")
	c.Flags().IntVar(&f.workers, "worker-count", 5, "cluster: how many agents to ask at the same time")
	c.Flags().BoolVar(&f.interactive, "interactive", false, "cluster: show the state again and again while waiting")
	out := outputFlag(c, "json", "summary")
	c.RunE = func(c *cobra.Command, _ []string) error {
		f.json = out.json()
		if g.remote && g.node != "" {
			return g.forward(c)
		}
		if g.remote {
			cl, err := g.cluster()
			if err != nil {
				return err
			}
			return g.clusterStatus(c.Context(), f, cl)
		}
		deadline := g.now().Add(f.waitDuration)
		for {
			err := g.agentStatus(c.Context(), out, brief, verbose, f.wait && g.now().Before(deadline))
			if !errors.Is(err, errAgain) {
				return err
			}
			if err := g.sleep(c.Context(), time.Second); err != nil {
				return err
			}
		}
	}
	return c
}

// errAgain says that an agent is not well and that there is time left to wait for it.
var errAgain = errors.New("not well yet")

// agentStatus prints the health of one agent, unless it is not well and patience is left.
func (g *globals) agentStatus(ctx context.Context, out *output, brief, verbose, patient bool) error {
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := g.agent().Status(asking)
	if patient && ctx.Err() == nil && (err != nil || !s.Healthy) {
		return errAgain
	}
	if err != nil {
		return err
	}
	switch {
	case out.json():
		err = printJSON(g.out, s)
	case brief && s.Healthy:
		_, err = fmt.Fprintln(g.out, "OK")
	case brief:
		_, err = fmt.Fprintf(g.out, "error in %s\n", strings.Join(orUnknown(s.Problems), "; "))
	default:
		err = writeStatus(g.out, s, verbose, g.now())
	}
	if err == nil && !s.Healthy {
		return errNo
	}
	return err
}

// sleep waits unless the context ends first.
func (g *globals) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func orUnknown(problems []string) []string {
	if len(problems) == 0 {
		return []string{"agent: unhealthy without a stated problem"}
	}
	return problems
}

// writeStatus prints the lines in Cilium's order; what is not known is left out.
func writeStatus(w io.Writer, s ports.Status, verbose bool, now time.Time) error {
	t := newTable(w)
	if s.Services != nil {
		t.row("KubeProxyReplacement:", kubeProxyText(*s.Services))
	}
	health := "Ok"
	if !s.Healthy {
		health = fmt.Sprintf("Failure   %d problem(s)", len(orUnknown(s.Problems)))
	}
	t.row("Cilium:", fmt.Sprintf("%s   %s (weir)", health, s.Version))
	if !s.Healthy {
		for _, p := range orUnknown(s.Problems) {
			t.row("", "- "+p)
		}
	}
	for i, p := range s.Warnings {
		t.row(map[bool]string{true: "Warnings:"}[i == 0], "- "+p)
	}
	node := s.Node
	if !s.Started.IsZero() {
		node += fmt.Sprintf("   (agent up %s)", now.Sub(s.Started).Round(time.Second))
	}
	t.row("Node:", node)
	t.row("Cluster state:", map[bool]string{true: "Ok   complete", false: "waiting for the initial lists"}[s.Synced])
	t.row("Kernel:", s.Kernel)
	t.row("Datapath:", s.Datapath)
	if len(s.PodCIDRs) > 0 {
		t.row("IPAM:", ipamText(s.PodCIDRs, s.Allocated))
	}
	if verbose && len(s.Allocated) > 0 {
		t.row("Allocated addresses:")
		for _, a := range s.Allocated {
			t.row("  " + a.String())
		}
	}
	if s.Routing != "" {
		t.row("Routing:", "Network: "+s.Routing)
	}
	if s.Masquerade != "" {
		t.row("Masquerading:", s.Masquerade)
	}
	if s.Attach != "" {
		t.row("Attach Mode:", s.Attach)
	}
	t.row("Device Mode:", "veth")
	t.row("Endpoints:", fmt.Sprint(s.Endpoints))
	t.row("Policy:", fmt.Sprintf("revision %d", s.Revision))
	t.row("Hubble:", hubbleText(s.Flows))
	if err := t.flush(); err != nil {
		return err
	}
	return writeStatusDetails(w, s, verbose)
}

func ipamText(cidrs []netip.Prefix, allocated []netip.Addr) string {
	var parts []string
	for _, p := range cidrs {
		used := 0
		for _, a := range allocated {
			if p.Contains(a) {
				used++
			}
		}
		family := "IPv6"
		if p.Addr().Is4() {
			family = "IPv4"
		}
		parts = append(parts, fmt.Sprintf("%s: %d/%s allocated from %s", family, used, usable(p), p))
	}
	s := strings.Join(parts, ", ")
	if len(parts) == 1 {
		s += ","
	}
	return s
}

// usable counts the addresses of a prefix but its first and its last.
func usable(p netip.Prefix) string {
	n := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
	if n.Cmp(big.NewInt(2)) > 0 {
		n.Sub(n, big.NewInt(2))
	}
	return n.String()
}

func hubbleText(f ports.FlowStatus) string {
	percent := 0.0
	if f.Max > 0 {
		percent = 100 * float64(f.Current) / float64(f.Max)
	}
	return fmt.Sprintf("Ok   Current/Max Flows: %d/%d (%.2f%%), Flows/s: %.2f, Lost: %d, In kernel: %d",
		f.Current, f.Max, percent, f.PerSec, f.Lost, f.InKernel)
}

// kubeProxyText says whether kube-proxy is replaced, and the devices with their addresses.
func kubeProxyText(s ports.ServiceStatus) string {
	text := "False"
	if s.KubeProxyReplacement {
		text = "True"
	}
	if len(s.Devices) > 0 {
		text += "   [" + devicesText(s.Devices) + "]"
	}
	return text
}

func devicesText(ds []devices.Device) string {
	var out []string
	for _, d := range ds {
		text := d.Name
		for i, a := range d.Addresses {
			text += map[bool]string{true: "   ", false: " "}[i == 0] + a.String()
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// writeServiceStatus prints what of services is served, in Cilium's form.
func writeServiceStatus(t *table, s ports.ServiceStatus) {
	enabled := func(yes bool) string { return map[bool]string{true: "Enabled", false: "Disabled"}[yes] }
	nodePorts := enabled(s.NodePorts)
	if s.NodePorts && s.NodePortRange != "" {
		nodePorts += " (Range: " + s.NodePortRange + ")"
	}
	t.row("KubeProxyReplacement Details:")
	for _, row := range [][2]string{
		{"Status:", map[bool]string{true: "True", false: "False"}[s.KubeProxyReplacement]},
		{"Socket LB:", enabled(s.Sockets)},
		{"Devices:", devicesText(s.Devices)},
		{"Mode:", "SNAT"},
		{"Session Affinity:", "Enabled"},
		{"XDP Acceleration:", "Disabled"},
		{"Services:", ""},
		{"- ClusterIP:", enabled(s.Sockets)},
		{"- NodePort:", nodePorts},
		{"- LoadBalancer:", enabled(s.Sockets || s.NodePorts)},
		{"- externalIPs:", enabled(s.Sockets || s.NodePorts)},
		{"- HostPort:", enabled(s.HostPorts)},
	} {
		t.row(indent(row[:])...)
	}
}

// writeStatusDetails prints the lists below the lines: always what is wrong, and all of it when
// verbose.
func writeStatusDetails(w io.Writer, s ports.Status, verbose bool) error {
	t := newTable(w)
	section := func(title string, header ...string) { t.row(title); t.row(indent(header)...) }

	if verbose && s.Services != nil {
		writeServiceStatus(t, *s.Services)
	}
	shown := false
	for _, f := range s.Features {
		if !verbose && f.Supported {
			continue
		}
		if !shown {
			section("Kernel features:", "NAME", "SUPPORTED", "REQUIRED", "DETAIL")
			shown = true
		}
		t.row(indent([]string{f.Name, yesNo(f.Supported), yesNo(f.Required), f.Detail})...)
	}
	shown = false
	for _, b := range s.Tables {
		if !verbose && b.Error == "" && b.Pending == 0 {
			continue
		}
		if !shown {
			section("BPF Maps:", "NAME", "ROWS", "SIZE", "PENDING", "ERROR")
			shown = true
		}
		t.row(indent([]string{b.Name, fmt.Sprint(b.Rows), fmt.Sprint(b.Capacity), fmt.Sprint(b.Pending), b.Error})...)
	}
	if verbose && len(s.Counters) > 0 {
		section("Packets:", "REASON", "DIRECTION", "PACKETS", "BYTES")
		for _, c := range s.Counters {
			reason := "Success"
			if c.Reason != 0 {
				reason = flow.ReasonText(c.Reason)
			}
			t.row(indent([]string{reason, flow.DirectionName(c.Direction), fmt.Sprint(c.Packets), fmt.Sprint(c.Bytes)})...)
		}
	}
	if len(s.Findings) > 0 {
		t.row("Manifests:")
		for _, f := range s.Findings {
			kind := "error"
			if f.Warning {
				kind = "warning"
			}
			t.row("  "+kind, f.String())
		}
	}
	return t.flush()
}

func indent(cells []string) []string {
	out := append([]string(nil), cells...)
	out[0] = "  " + out[0]
	return out
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
