package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

// clusterAccess is what commands do with a cluster; *cluster.Cluster is the real one.
type clusterAccess interface {
	Name() string
	Namespace() string
	Server() (host, port string, err error)
	Version() (string, error)
	AdvertisedServer(ctx context.Context) (host, port string, err error)
	ServiceAddress(ctx context.Context) (string, error)
	KubeProxy(ctx context.Context) (bool, error)
	Nodes(ctx context.Context) (cluster.Nodes, error)
	Agents(ctx context.Context) ([]cluster.Pod, error)
	Exec(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error
	Overview(ctx context.Context) (cluster.Overview, error)
	Config(ctx context.Context) (map[string]string, error)
	NodeConfigs(ctx context.Context, namespace string) ([]cluster.NodeConfig, error)
	SetConfig(ctx context.Context, keys map[string]*string) error
	RestartAgents(ctx context.Context, now time.Time) error
	DeleteNamespace(ctx context.Context, name string) (bool, error)
	Dump(ctx context.Context, put func(name string, content []byte) error, failed func(error)) error
	Logs(ctx context.Context, nodes []string, o cluster.LogOptions, put func(pod, container string, previous bool, content []byte) error, failed func(error)) error
}

// helmAccess is what commands do with a release; *helm.Client is the real one.
type helmAccess interface {
	Install(ctx context.Context, chart *helm.Chart, o helm.Change) (helm.Release, error)
	Upgrade(ctx context.Context, chart *helm.Chart, reuse helm.Reuse, history int, o helm.Change) (helm.Release, error)
	Uninstall(ctx context.Context, wait time.Duration) error
	Values(all bool) (map[string]any, error)
	Current() (helm.Release, error)
}

// kubeFlags say which cluster is meant, and where in it weir is.
type kubeFlags struct {
	kubeconfig, context string
	namespace, release  string
	as                  string
	asGroups            []string
}

// Names of the flags, which are not for an agent that a command is passed on to.
const (
	kubeconfigFlag, contextFlag  = "kubeconfig", "context"
	namespaceFlag, releaseFlag   = "namespace", "helm-release-name"
	asFlag, asGroupFlag          = "as", "as-group"
	defaultRelease               = "cilium"
	agentAnnotation              = "weir/agent"     // on commands that an agent answers
	missingAnnotation            = "weir/missing"   // on commands that nobody answers
	namespaceAnnotation          = "weir/namespace" // on -n flags that mean the agents' namespace
	namespaceEnv, namespaceUsage = "CILIUM_NAMESPACE", "namespace of the agents; the environment variable CILIUM_NAMESPACE sets the default"
)

func (k *kubeFlags) register(f *pflag.FlagSet, getenv func(string) string) {
	f.StringVar(&k.context, contextFlag, "", "context of the kubeconfig")
	f.StringVar(&k.kubeconfig, kubeconfigFlag, "", "path of the kubeconfig (default $KUBECONFIG, then ~/.kube/config)")
	f.StringVar(&k.release, releaseFlag, defaultRelease, "name of the Helm release")
	f.StringVar(&k.as, asFlag, "", "user to act as")
	f.StringArrayVar(&k.asGroups, asGroupFlag, nil, "group to act as; may repeat")
	k.namespace = cmp.Or(getenv(namespaceEnv), cluster.DefaultNamespace)
}

// addNamespaceFlags lets --namespace, and -n if that is free, mean the agents' namespace wherever a command
// has no such flag of its own.
func addNamespaceFlags(c *cobra.Command, k *kubeFlags) {
	for _, sub := range c.Commands() {
		addNamespaceFlags(sub, k)
	}
	if c.HasSubCommands() || c.DisableFlagParsing || has(c, func(f *pflag.FlagSet) bool { return f.Lookup(namespaceFlag) != nil }) {
		return
	}
	short := "n"
	if has(c, func(f *pflag.FlagSet) bool { return f.ShorthandLookup(short) != nil }) {
		short = ""
	}
	c.Flags().StringVarP(&k.namespace, namespaceFlag, short, k.namespace, namespaceUsage)
	c.Flags().Lookup(namespaceFlag).Annotations = map[string][]string{namespaceAnnotation: {"yes"}}
}

// has says whether a command, or one above it for all below, has such a flag.
func has(c *cobra.Command, such func(*pflag.FlagSet) bool) bool {
	if such(c.Flags()) {
		return true
	}
	for ; c != nil; c = c.Parent() {
		if such(c.PersistentFlags()) {
			return true
		}
	}
	return false
}

func (k *kubeFlags) options() cluster.Options {
	return cluster.Options{Kubeconfig: k.kubeconfig, Context: k.context, As: k.as, AsGroups: k.asGroups, Namespace: k.namespace}
}

func (k *kubeFlags) target() helm.Target {
	return helm.Target{Kubeconfig: k.kubeconfig, Context: k.context, As: k.as, AsGroups: k.asGroups, Namespace: k.namespace, Release: k.release}
}

func (g *globals) cluster() (clusterAccess, error) { return g.openCluster(g.kube.options()) }
func (g *globals) helm() (helmAccess, error)       { return g.openHelm(g.kube.target()) }

// before runs ahead of every command: it finds out whom to ask, and passes a command for agents on to
// them if they are in pods elsewhere.
func (g *globals) before(c *cobra.Command) error {
	local, err := g.findNode()
	if err != nil {
		return err
	}
	g.remote = !local && g.asksCluster(c)
	if g.remote && answeredBy(c, agentAnnotation) {
		return g.forward(c)
	}
	return nil
}

// asksCluster says whether commands for an agent go to the agents of a cluster: not if a socket is named or
// there, and not without a way to a cluster.
func (g *globals) asksCluster(c *cobra.Command) bool {
	root := c.Root().PersistentFlags()
	switch {
	case g.program == agentProgram, root.Changed("socket"), g.getenv(api.SocketEnv) != "":
		return false
	case root.Changed(contextFlag), root.Changed(kubeconfigFlag), root.Changed("node"):
		return true
	}
	for _, s := range sockets {
		if _, err := os.Stat(s); err == nil {
			return false
		}
	}
	return cluster.Configured(g.getenv)
}

// answeredBy says whether a command or one above it bears an annotation.
func answeredBy(c *cobra.Command, annotation string) bool {
	for ; c != nil; c = c.Parent() {
		if c.Annotations[annotation] != "" {
			return true
		}
	}
	return false
}

// forAgents marks a command as one that an agent answers.
func forAgents(c *cobra.Command) *cobra.Command {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[agentAnnotation] = "yes"
	return c
}

// passedOn is a command line without the flags that only this side understands.
func passedOn(args []string, c *cobra.Command) []string {
	mine := []string{contextFlag, kubeconfigFlag, releaseFlag, asFlag, asGroupFlag, "node", "socket"}
	if f := c.Flags().Lookup(namespaceFlag); f != nil && f.Annotations[namespaceAnnotation] != nil {
		mine = append(mine, namespaceFlag)
	}
	short := c.Flags().ShorthandLookup("n")
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(out, args[i:]...)
		}
		name, _, joined := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		switch {
		case strings.HasPrefix(a, "--") && slices.Contains(mine, name):
			if !joined {
				i++
			}
		case short != nil && short.Annotations[namespaceAnnotation] != nil && strings.HasPrefix(a, "-n") && !strings.HasPrefix(a, "--"):
			if a == "-n" {
				i++
			}
		default:
			out = append(out, a)
		}
	}
	return out
}

// labSocket is the socket of a node of the lab; false if there is no such lab or node.
func (g *globals) labSocket() (string, bool) {
	l, err := (&labFlags{g: g}).lab()
	if err != nil {
		return "", false
	}
	socket := l.Socket(g.node)
	_, err = os.Stat(filepath.Dir(socket))
	return socket, err == nil
}
