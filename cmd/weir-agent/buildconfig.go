package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/kubernetes"
	"github.com/weirnet/weir/adapters/kubernetes/nodeconfig"
	"github.com/weirnet/weir/core/config"
)

const (
	// buildTry is how long one answer of the API server may take, buildPause the time between questions.
	buildTry   = 10 * time.Second
	buildPause = time.Second
)

// builder finds the CiliumNodeConfigs of a node before its agent starts.
type builder struct {
	dir, file, node string
	kubeconfig      string
	// patience is how long the API server may be away; lastKnown how long, if there is an answer of before.
	patience, lastKnown time.Duration
	out                 io.Writer
}

func buildConfigCommand() *cobra.Command {
	var b builder
	c := &cobra.Command{
		Use:   "build-config",
		Short: "Find the CiliumNodeConfigs that select this node, before the agent starts",
		Long: `Ask the API server for the CiliumNodeConfigs that select this node and write them to the file that the agent
reads with --node-config. Their keys count before those of the ConfigMap, later names before earlier ones. What
they change, and what of them is refused, is printed.

When the API server does not answer, what it said last stays in force; if there is no such answer, the command
fails. The agent keeps the file as it should be while it runs.`,
		Example: "  weir-agent build-config --config-dir /tmp/cilium/config-map --node-config /var/run/cilium/node-config.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b.out = c.OutOrStdout()
			return b.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&b.dir, "config-dir", "", "directory with one file for each key, as a mounted ConfigMap has them")
	f.StringVar(&b.file, "node-config", "/var/run/cilium/node-config.json", "file to write")
	f.StringVar(&b.node, "node-name", os.Getenv("K8S_NODE_NAME"), "name of this node's object (default $K8S_NODE_NAME)")
	f.StringVar(&b.kubeconfig, "k8s-kubeconfig-path", "", "overrides the configuration")
	f.DurationVar(&b.patience, "timeout", time.Minute, "how long the API server may be away")
	f.DurationVar(&b.lastKnown, "timeout-last-known", 10*time.Second, "how long, if it is known what it said last")
	return c
}

func (b *builder) run(ctx context.Context) error {
	if b.node == "" {
		return errors.New("--node-name is empty: give the name of this node's object")
	}
	l, err := readLayers(b.dir, b.file, b.node)
	if err != nil {
		return err
	}
	namespace := nodeConfigNamespace(l.base)
	if _, count := config.NodeConfigs(l.base); !count {
		fmt.Fprintln(b.out, "CiliumNodeConfigs do not count: enable-cilium-node-config or config-sources of the ConfigMap cilium-config says so.")
		return nodeconfig.Save(b.file, nodeconfig.Known{Node: b.node, Namespace: namespace})
	}
	_, before, err := nodeconfig.Load(b.file, b.node, namespace)
	if err != nil {
		return err
	}
	now, err := b.ask(ctx, l.base, namespace, before)
	switch {
	case err == nil:
		l.known = now
		if err := nodeconfig.Save(b.file, now); err != nil {
			return err
		}
	case before:
		fmt.Fprintf(b.out, "⚠️  %v; the CiliumNodeConfigs known last stay in force\n", err)
	default:
		return fmt.Errorf("find the CiliumNodeConfigs of node %s: %w; none are known from before", b.node, err)
	}
	b.print(l)
	return nil
}

// ask reads from the API server, again and again until it answers or the time is over.
func (b *builder) ask(ctx context.Context, base map[string]string, namespace string, before bool) (nodeconfig.Known, error) {
	// Only how to reach the server counts here: a value that is refused stops the agent, which says so.
	server, err := kubernetes.Connect(kubernetes.Options{
		Kubeconfig: cmp.Or(b.kubeconfig, base["k8s-kubeconfig-path"]), Server: cmp.Or(base["k8s-api-server"], base["k8s-api-server-urls"]),
		Manager: kubernetes.ManagerAgent,
	})
	if err != nil {
		return nodeconfig.Known{}, err
	}
	client, err := nodeconfig.New(server, b.node, namespace)
	if err != nil {
		return nodeconfig.Known{}, err
	}
	patience := b.patience
	if before {
		patience = min(patience, b.lastKnown)
	}
	deadline, told := time.Now().Add(patience), ""
	for {
		try, cancel := context.WithTimeout(ctx, min(buildTry, max(time.Until(deadline), time.Second)))
		known, err := client.Read(try)
		cancel()
		if err == nil {
			return known, nil
		}
		err = explainRead(err, server.Host, base)
		if ctx.Err() != nil || time.Now().Add(buildPause).After(deadline) {
			return nodeconfig.Known{}, err
		}
		if told != err.Error() {
			told = err.Error()
			fmt.Fprintln(b.out, told)
		}
		select {
		case <-ctx.Done():
		case <-time.After(buildPause):
		}
	}
}

// explainRead says what to do when the server's address does not answer.
func explainRead(err error, host string, base map[string]string) error {
	var op *net.OpError
	if !errors.As(err, &op) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	a, bad := apiServerOf(host, os.Environ())
	if bad != nil {
		return bad
	}
	s, bad := config.Parse(base)
	if op != nil {
		err = op.Err
	}
	return a.explain(err, bad == nil && s.SocketLB)
}

// print says what the CiliumNodeConfigs come to.
func (b *builder) print(l layers) {
	r := l.resolve(nil)
	fmt.Fprintf(b.out, "CiliumNodeConfigs that select node %s: %d\n", b.node, len(l.known.Overlays))
	for _, o := range l.known.Overlays {
		fmt.Fprintln(b.out, "  "+o.Name)
	}
	for _, line := range overridden(r, l.base) {
		fmt.Fprintln(b.out, line)
	}
	for _, f := range findings(r, r.Values) {
		if f.Severity != config.Note {
			fmt.Fprintln(b.out, "⚠️  "+f.Message)
		}
	}
}
