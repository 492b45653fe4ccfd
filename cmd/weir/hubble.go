package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/ports"
)

// newHubbleCommand is `cilium hubble`, which manages what weir has not yet: a relay and a user interface.
func newHubbleCommand(*globals) *cobra.Command {
	var verbs []*cobra.Command
	for _, f := range []feature{
		{"hubble enable", "Turn the relay and the user interface on", "there is no relay and no user interface; every agent records flows anyway, and 'hubble observe' asks all agents"},
		{"hubble disable", "Turn the recording of flows off", "flows are always recorded: the ring has a fixed size"},
		{"hubble port-forward", "Forward a local port to the relay", "there is no relay; 'hubble observe' asks all agents without one"},
		{"hubble ui", "Open the user interface", "there is no user interface; 'hubble observe' shows flows as text"},
	} {
		verbs = append(verbs, newUnavailableCommand(f))
	}
	return group(&cobra.Command{Use: "hubble", Short: "Relay and user interface for flows (not available)", Example: "  weir hubble enable"}, verbs...)
}

// nodeFlows is what one agent says of its recorded flows.
type nodeFlows struct {
	Name    string           `json:"name"`
	State   string           `json:"state"` // Connected or Unavailable
	Reason  string           `json:"reason,omitempty"`
	Version string           `json:"version,omitempty"`
	Age     time.Duration    `json:"age_ns"`
	Flows   ports.FlowStatus `json:"flows"`
}

// flowNodes asks the agent, or all agents of the cluster, how many flows they have.
func (g *globals) flowNodes(ctx context.Context) ([]nodeFlows, error) {
	if !g.remote {
		s, err := g.agent().Status(ctx)
		if err != nil {
			return nil, err
		}
		return []nodeFlows{g.connected(s.Node, s)}, nil
	}
	cl, err := g.cluster()
	if err != nil {
		return nil, err
	}
	pods, err := cl.Agents(ctx)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no agents in namespace %s", cl.Namespace())
	}
	out := make([]nodeFlows, 0, len(pods))
	for _, p := range pods {
		out = append(out, g.flowNode(ctx, cl, p))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func (g *globals) flowNode(ctx context.Context, cl clusterAccess, p cluster.Pod) nodeFlows {
	if p.Phase != "Running" {
		return nodeFlows{Name: p.Node, State: "Unavailable", Reason: "pod is " + p.Phase}
	}
	s, err := agentStatus(ctx, cl, p.Name)
	if err != nil {
		return nodeFlows{Name: p.Node, State: "Unavailable", Reason: err.Error()}
	}
	return g.connected(p.Node, s)
}

func (g *globals) connected(node string, s ports.Status) nodeFlows {
	n := nodeFlows{Name: node, State: "Connected", Version: s.Version, Flows: s.Flows}
	if !s.Started.IsZero() {
		n.Age = g.now().Sub(s.Started).Round(time.Second)
	}
	return n
}

func newHubbleStatusCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show how many flows are recorded, and which agents answer",
		Example: "  hubble status\n  hubble status -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json", "compact")
	c.RunE = func(c *cobra.Command, _ []string) error {
		nodes, err := g.flowNodes(c.Context())
		if err != nil {
			return err
		}
		var current, most uint64
		perSec := 0.0
		var away []string
		for _, n := range nodes {
			current, most, perSec = current+uint64(n.Flows.Current), most+uint64(n.Flows.Max), perSec+n.Flows.PerSec
			if n.State != "Connected" {
				away = append(away, n.Name)
			}
		}
		if out.json() {
			return printJSON(g.out, map[string]any{"num_flows": current, "max_flows": most, "flows_rate": perSec,
				"num_connected_nodes": len(nodes) - len(away), "num_unavailable_nodes": len(away), "unavailable_nodes": orEmpty(away)})
		}
		health, via := "Ok", g.socket
		if g.remote {
			via = "the agents' pods"
		}
		if len(away) == len(nodes) {
			health = "Unavailable"
		}
		fmt.Fprintf(g.out, "Healthcheck (via %s): %s\n", via, health)
		percent := 0.0
		if most > 0 {
			percent = 100 * float64(current) / float64(most)
		}
		fmt.Fprintf(g.out, "Current/Max Flows: %s/%s (%.2f%%)\nFlows/s: %.2f\n", thousands(current), thousands(most), percent, perSec)
		if g.remote {
			fmt.Fprintf(g.out, "Connected Nodes: %d/%d\n", len(nodes)-len(away), len(nodes))
		}
		if len(away) > 0 {
			fmt.Fprintf(g.out, "Unavailable Nodes: %d\n", len(away))
			for _, n := range nodes {
				if n.State != "Connected" {
					fmt.Fprintf(g.out, "  - %s (%s)\n", n.Name, n.Reason)
				}
			}
		}
		if health != "Ok" {
			return errNo
		}
		return nil
	}
	return c
}

// thousands writes a number with a comma between groups of three digits.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), ",")
}

func newHubbleListCommand(g *globals) *cobra.Command {
	nodes := &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"node"},
		Short:   "List the agents that record flows",
		Example: "  hubble list nodes",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(nodes, "json", "wide", "table")
	nodes.RunE = func(c *cobra.Command, _ []string) error {
		list, err := g.flowNodes(c.Context())
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.out, list)
		}
		header := []string{"NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS"}
		if out.format == "wide" {
			header = append(header, "VERSION")
		}
		t := newTable(g.out, header...)
		for _, n := range list {
			percent := 0.0
			if n.Flows.Max > 0 {
				percent = 100 * float64(n.Flows.Current) / float64(n.Flows.Max)
			}
			row := []string{n.Name, n.State, n.Age.String(), fmt.Sprintf("%.2f", n.Flows.PerSec), fmt.Sprintf("%d/%d (%6.2f%%)", n.Flows.Current, n.Flows.Max, percent)}
			if n.State != "Connected" {
				row = []string{n.Name, n.State, "N/A", "N/A", "N/A"}
			}
			if out.format == "wide" {
				row = append(row, n.Version)
			}
			t.row(row...)
		}
		return t.flush()
	}
	namespaces := newUnavailableCommand(feature{"list namespaces", "List namespaces that have flows", "agents keep flows, not a list of namespaces; try 'hubble observe --namespace NAME'"})
	return group(&cobra.Command{Use: "list", Short: "List agents", Example: "  hubble list nodes"}, nodes, namespaces)
}
