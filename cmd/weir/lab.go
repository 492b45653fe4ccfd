package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/api"
	kube "github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/adapters/lab/bench"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// labEnv names the lab for commands that are not told one.
const labEnv = "WEIR_LAB"

// labFlags is what all subcommands of lab share.
type labFlags struct {
	g    *globals
	name string
}

func newLabCommand(g *globals) *cobra.Command {
	f := &labFlags{g: g}
	c := group(&cobra.Command{
		Use:   "lab",
		Short: "Build a small cluster out of network namespaces on this machine",
		Long: `weir lab builds a cluster on one machine: each node is a network namespace with its own agent,
each pod a namespace that weir-cni attached, with a server in it that answers with the pod's name on
every containerPort. It needs root, and leaves the host's own network alone.

A pod serves TCP and UDP, IPv4 and IPv6. The host 'outside' (172.30.0.1, fd00:172:30::1) stands for
the world.`,
		Example: `  weir lab up --nodes 2 -f ./manifests
  weir lab probe
  weir lab exec production/frontend -- sh
  weir lab down`,
	},
		newLabUpCommand(f), newLabApplyCommand(f), newLabDeleteCommand(f), newLabExecCommand(f),
		newLabProbeCommand(f), newLabStatusCommand(f), newLabAgentCommand(f), newLabBenchCommand(f), newLabDownCommand(f))
	c.PersistentFlags().StringVar(&f.name, "name", "",
		"the lab's name (default: $"+labEnv+", the only lab there is, or \""+lab.DefaultName+"\")")
	return c
}

// lab returns a handle on the lab that the flags mean.
func (f *labFlags) lab() (*lab.Lab, error) {
	name := cmp.Or(f.name, f.g.getenv(labEnv))
	if name == "" {
		switch all := chooseable(lab.List("")); len(all) {
		case 0:
		case 1:
			name = all[0]
		default:
			return nil, usagef("there are several labs (%s): choose by --name", strings.Join(all, ", "))
		}
	}
	return newLab(f.g, name, "")
}

// chooseable leaves out the lab that a measurement has made for itself, if there is another one.
func chooseable(names []string) []string {
	if len(names) < 2 {
		return names
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == bench.DefaultName })
}

// findNode turns --node into the socket of that node's agent, if it is a node of the lab. It may be one of
// the cluster instead, if there is a way to one.
func (g *globals) findNode() (ofLab bool, err error) {
	if g.node == "" {
		return false, nil
	}
	if socket, ok := g.labSocket(); ok {
		g.socket = socket
		return true, nil
	}
	if g.program == agentProgram || g.kube.context != "" || g.kube.kubeconfig != "" || kube.Configured(g.getenv) {
		return false, nil
	}
	l, err := (&labFlags{g: g}).lab()
	if err != nil {
		return false, err
	}
	return false, usagef("lab %q has no node %q (weir lab status lists them)", l.Name(), g.node)
}

func addRoutingFlag(c *cobra.Command, routing *string) {
	c.Flags().StringVar(routing, "routing", lab.RoutingTunnel, "how packets reach other nodes' pods: tunnel (VXLAN) or native")
}

func checkRouting(routing string) error {
	if routing != lab.RoutingTunnel && routing != lab.RoutingNative {
		return usagef("--routing %q: allowed are %s and %s", routing, lab.RoutingTunnel, lab.RoutingNative)
	}
	return nil
}

func newLab(g *globals, name, routing string) (*lab.Lab, error) {
	l, err := lab.New(lab.Options{
		Name:     name,
		Routing:  routing,
		Dial:     func(socket string) lab.Agent { return api.NewClient(socket) },
		Validate: validateManifest,
		Log:      func(format string, args ...any) { fmt.Fprintf(g.err, format+"\n", args...) },
	})
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

func validateManifest(file string, object []byte) []cluster.Finding {
	_, findings := manifest.Decode(file, object)
	return findings
}

// printFindings says whether they kept any object from taking effect.
func printFindings(w io.Writer, findings []cluster.Finding) error {
	for _, f := range findings {
		kind := "error"
		if f.Warning {
			kind = "warning"
		}
		fmt.Fprintf(w, "%s: %s\n", kind, f)
	}
	if lab.HasErrors(findings) {
		return errNo
	}
	return nil
}

// done prints the findings of a command and joins them with its error.
func (f *labFlags) done(findings []cluster.Finding, err error) error {
	bad := printFindings(f.g.err, findings)
	if err != nil {
		return err
	}
	return bad
}

func newLabUpCommand(f *labFlags) *cobra.Command {
	var nodes int
	var files []string
	var routing string
	c := &cobra.Command{
		Use:   "up",
		Short: "Build a lab",
		Long: `weir lab up makes the nodes, starts an agent on each, and applies the manifests. Nodes among them
shape the lab's nodes (podCIDRs, InternalIP); if there are more than --nodes, all of them are built. A Pod
without nodeName goes where its status.podIPs belong, or to the node with the fewest pods.

If something fails nothing is left. A manifest with an error is reported and left out; the exit
status is 1 then, and the lab is up.`,
		Example: `  weir lab up --nodes 2
  weir lab up --nodes 3 -f ./manifests --name trial`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().IntVar(&nodes, "nodes", 2, "how many nodes, 1 to "+strconv.Itoa(lab.MaxNodes))
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "file or directory of manifests, - for the standard input; may repeat")
	addRoutingFlag(c, &routing)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkRouting(routing); err != nil {
			return err
		}
		if nodes < 1 || nodes > lab.MaxNodes {
			return usagef("--nodes %d: 1 to %d are allowed", nodes, lab.MaxNodes)
		}
		manifests, err := readLabManifests(f.g, files)
		if err != nil {
			return err
		}
		l, err := newLab(f.g, cmp.Or(f.name, f.g.getenv(labEnv)), routing)
		if err != nil {
			return err
		}
		findings, err := l.Up(c.Context(), nodes, manifests)
		if err := f.done(findings, err); err != nil {
			return err
		}
		fmt.Fprintf(f.g.out, "lab %q is up; weir lab status shows it, weir lab down removes it\n", l.Name())
		return nil
	}
	return c
}

// readLabManifests reads what -f names.
func readLabManifests(g *globals, files []string) ([]ports.LabManifest, error) {
	var out []ports.LabManifest
	for _, path := range files {
		if path == "-" {
			b, err := io.ReadAll(g.in)
			if err != nil {
				return nil, fmt.Errorf("read manifests: %w", err)
			}
			out = append(out, ports.LabManifest{File: "<stdin>", Content: b})
			continue
		}
		more, err := lab.ReadManifests([]string{path})
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func newLabDownCommand(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove every trace of a lab",
		Long: `weir lab down ends the processes of a lab and removes its namespaces, mounts, cgroups and files. It
finds them by the lab's name and works after a crash at any point; a lab that is gone already is fine.`,
		Example: "  weir lab down\n  weir lab down --name trial",
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := f.lab()
			if err != nil {
				return err
			}
			return l.Down(c.Context())
		},
	}
}

// labStatus is the JSON of weir lab status.
type labStatus struct {
	Name  string          `json:"name"`
	Nodes []ports.LabNode `json:"nodes"`
	Pods  []labStatusPod  `json:"pods"`
}

// labStatusPod is a pod with its name as users write it.
type labStatusPod struct {
	Name string `json:"name"`
	ports.LabPod
}

func newLabStatusCommand(f *labFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show nodes, agents and pods of a lab",
		Long:    "weir lab status lists the lab. Exit status 1 if an agent is not ready or a pod's server does not run.",
		Example: "  weir lab status\n  weir lab status -o json",
		Args:    args(cobra.NoArgs),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := f.lab()
		if err != nil {
			return err
		}
		s := labStatus{Name: l.Name(), Pods: []labStatusPod{}}
		if s.Nodes, err = l.Nodes(c.Context()); err != nil {
			return err
		}
		pods, err := l.Pods(c.Context())
		if err != nil {
			return err
		}
		well := true
		for _, p := range pods {
			s.Pods = append(s.Pods, labStatusPod{p.Name.String(), p})
			well = well && p.PID != 0
		}
		for _, n := range s.Nodes {
			well = well && n.Ready
		}
		if out.json() {
			err = printJSON(f.g.out, s)
		} else {
			err = printLabStatus(f.g.out, s)
		}
		if err == nil && !well {
			err = errNo
		}
		return err
	}
	return c
}

func printLabStatus(w io.Writer, s labStatus) error {
	fmt.Fprintf(w, "Lab %s\n\n", s.Name)
	t := newTable(w, "NODE", "ADDRESSES", "POD CIDRS", "AGENT", "STATE")
	for _, n := range s.Nodes {
		state := "ready"
		if !n.Ready {
			state = n.Problem
		}
		t.row(n.Name, joinStrings(n.Addresses), joinStrings(n.PodCIDRs), pidText(n.PID), state)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "POD", "NODE", "IDENTITY", "ADDRESSES", "PORTS", "SERVER")
	for _, p := range s.Pods {
		id := "-"
		switch {
		case p.HostNetwork:
			id = "host"
		case p.Identity != 0:
			id = p.Identity.String()
		}
		t.row(p.Name, p.Node, id, joinStrings(p.IPs), joinNumbers(p.Ports), pidText(p.PID))
	}
	return t.flush()
}

func pidText(pid int) string {
	if pid == 0 {
		return "not running"
	}
	return "pid " + strconv.Itoa(pid)
}

func joinStrings[S fmt.Stringer](list []S) string {
	var out []string
	for _, x := range list {
		out = append(out, x.String())
	}
	return cmp.Or(strings.Join(out, ", "), "-")
}

func joinNumbers(list []uint16) string {
	var out []string
	for _, x := range list {
		out = append(out, strconv.Itoa(int(x)))
	}
	return cmp.Or(strings.Join(out, ","), "-")
}

// runLabHelper ends the process here if the lab started it to work inside a namespace. main calls it
// before anything else.
func runLabHelper() {
	if status, ok := lab.Helper(os.Args[1:]); ok {
		os.Exit(status)
	}
}
