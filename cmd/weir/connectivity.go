package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/conntest"
	"github.com/weirnet/weir/adapters/kubernetes/playground"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/ports"
)

func newConnectivityCommand(g *globals) *cobra.Command {
	kube := &playground.Options{}
	c := group(&cobra.Command{
		Use:     "connectivity",
		Aliases: []string{"conn"},
		Short:   "Test the network of a cluster",
		Example: "  weir connectivity test\n  weir connectivity test --list",
	}, newConnectivityTestCommand(g, kube), newConnectivityServeCommand(), newConnectivityProbeCommand(g), newConnectivityHoldCommand())
	g.kubeFlags(c, kube)
	return c
}

// kubeFlags adds the flags that say which cluster is meant.
func (g *globals) kubeFlags(c *cobra.Command, o *playground.Options) {
	f := c.PersistentFlags()
	f.StringVar(&o.Context, "context", "", "context of the kubeconfig")
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "path of the kubeconfig (default $KUBECONFIG, then ~/.kube/config)")
	namespace := "kube-system"
	if s := g.getenv("CILIUM_NAMESPACE"); s != "" {
		namespace = s
	}
	f.StringVarP(&o.AgentNamespace, "namespace", "n", namespace, "where the agents run")
}

// connectivityFlags are the flags of `weir connectivity test`.
type connectivityFlags struct {
	conntest.Options
	tests                           []string
	list, pause, timestamp, verbose bool
	junit                           string
	junitProperties                 map[string]string
	external, externalOther         []string
	externalPort                    uint16
	annotations                     string
	logLevels                       []string
}

func newConnectivityTestCommand(g *globals, kube *playground.Options) *cobra.Command {
	f := &connectivityFlags{}
	c := &cobra.Command{
		Use:   "test",
		Short: "Deploy test pods and prove that they reach each other, and only as policies allow",
		Long: `weir connectivity test deploys pods into a namespace of their own and lets them talk: to each other on the
same and on other nodes, through services of every type, to nodes, to the API server, by name, and to the
outside; first without policies, then under one set of policies after the other, of both kinds. A
connection that a policy forbids must be met by silence; one that is refused, or answered by somebody else, is a
failure. Every family that the pods have is tested.

The pods run weir itself, in the image of the cluster's agents: nothing is fetched from outside. They
stay for the next run; --cleanup removes them.

Where nothing else is named, "outside" is the API server's own address if that is no node of the cluster.

Exit status 1 if a test failed.`,
		Example: `  weir connectivity test
  weir connectivity test --test no-policies --test '!/pod-to-world'
  weir connectivity test --test 'client-egress.*' --verbose
  weir connectivity test --external-ip 192.0.2.10 --external-port 80 --junit-file report.xml`,
		Args: args(cobra.NoArgs),
	}
	f.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.list {
			_, err := fmt.Fprint(g.out, conntest.Describe())
			return err
		}
		if err := f.complete(g); err != nil {
			return err
		}
		kube.Tolerations, kube.NodeSelector = f.Tolerations, f.NodeSelector
		p, err := g.playground(*kube)
		if err != nil {
			return err
		}
		return f.run(c.Context(), g, p)
	}
	return c
}

func (f *connectivityFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.StringSliceVar(&f.tests, "test", nil, "only tests that match TEST or TEST/SCENARIO (regular expressions); with ! in front: not these; may repeat")
	fs.BoolVar(&f.list, "list", false, "list the tests and their scenarios, and do nothing")
	fs.StringVar(&f.Namespace, "test-namespace", connectivity.DefaultNamespace, "namespace of the test's pods")
	fs.BoolVar(&f.SingleNode, "single-node", false, "put all pods on one node")
	fs.BoolVar(&f.ForceDeploy, "force-deploy", false, "begin with a new namespace")
	fs.BoolVar(&f.Cleanup, "cleanup", false, "remove the namespace in the end")
	fs.BoolVarP(&f.pause, "pause-on-fail", "p", false, "wait for the enter key after a failed test, with its policies in place")
	fs.BoolVarP(&f.timestamp, "timestamp", "t", false, "show the time of every line")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "show every action")
	fs.StringVar(&f.Image, "image", "", "image of the test's pods, with weir at /usr/bin/weir (default: that of the agents)")
	fs.StringVar(&f.junit, "junit-file", "", "write a JUnit report to this file")
	fs.StringToStringVar(&f.junitProperties, "junit-property", nil, "key=value pairs for the JUnit report")
	fs.StringSliceVar(&f.external, "external-ip", nil, "address outside the cluster, one a family")
	fs.StringSliceVar(&f.externalOther, "external-other-ip", nil, "another address outside the cluster that no policy will name, one a family")
	fs.Uint16Var(&f.externalPort, "external-port", 443, "TCP port of these addresses; 0: echo requests instead")
	fs.DurationVar(&f.ConnectTimeout, "connect-timeout", 2*time.Second, "silence for that long is a drop")
	fs.DurationVar(&f.RequestTimeout, "request-timeout", 10*time.Second, "how long a connection that is allowed may take")
	fs.IntVar(&f.Retries, "retry", 1, "how often a connection that is allowed and was not answered is tried again")
	fs.StringToStringVar(&f.NamespaceLabels, "namespace-labels", nil, "labels for the test's namespace")
	fs.StringVar(&f.annotations, "deployment-pod-annotations", "", `annotations of the test's pods, as JSON: {"key": "value"}`)
	fs.StringSliceVar(&f.Tolerations, "tolerations", nil, "keys of taints that the test's pods tolerate")
	fs.StringToStringVar(&f.NodeSelector, "node-selector", nil, "only nodes with these labels")
	fs.IntVar(&f.Concurrency, "source-concurrency", 0, "how many pods send at the same time (default 8)")
	fs.StringSliceVar(&f.Expected, "expected-drop-reasons", nil, "reasons that no-unexpected-packet-drops is to pass over: all of them, or +REASON and -REASON beside the usual ones")
	fs.StringSliceVar(&f.logLevels, "log-check-levels", []string{"error"}, "levels that check-log-errors looks for: error, warning")
	fs.BoolVar(&f.Disruption.Include, "include-conn-disrupt-test", false, "look at the connections that an earlier run made")
	fs.BoolVar(&f.Disruption.Setup, "conn-disrupt-test-setup", false, "with --include-conn-disrupt-test: make connections that stay, and test nothing")
	fs.StringVar(&f.Disruption.Restarts, "conn-disrupt-test-restarts-path", "/tmp/cilium-conn-disrupt-restarts", "where to note how these connections stand")
	fs.DurationVar(&f.Disruption.Interval, "conn-disrupt-dispatch-interval", 0, "time between two requests on such a connection (default 100ms)")
	registerCiliumFlags(fs)
}

// complete turns the flags into options.
func (f *connectivityFlags) complete(g *globals) error {
	var err error
	if f.Filter, err = connectivity.NewFilter(f.tests); err != nil {
		return usagef("--test %v", err)
	}
	if f.Outside, err = targets("--external-ip", f.external, f.externalPort); err != nil {
		return err
	}
	if f.Other, err = targets("--external-other-ip", f.externalOther, f.externalPort); err != nil {
		return err
	}
	if f.annotations != "" {
		if err := json.Unmarshal([]byte(f.annotations), &f.PodAnnotations); err != nil {
			return usagef("--deployment-pod-annotations: want a JSON object of texts: %v", err)
		}
	}
	if _, err := connectivity.ExpectedDrops(f.Expected); err != nil {
		return usagef("--expected-drop-reasons %v", err)
	}
	f.LogLevels = nil
	for _, l := range f.logLevels {
		level, ok := map[string]string{"error": "ERROR", "warning": "WARN"}[l]
		if !ok {
			return usagef("--log-check-levels %q: want error or warning", l)
		}
		f.LogLevels = append(f.LogLevels, level)
	}
	switch d := f.Disruption; {
	case d.Setup && !d.Include:
		return usagef("--conn-disrupt-test-setup: want --include-conn-disrupt-test with it")
	case d.Include && !d.Setup && f.ForceDeploy:
		return usagef("--force-deploy would end the connections that --include-conn-disrupt-test is to look at")
	case d.Setup && f.Cleanup:
		return usagef("--cleanup would end the connections that --conn-disrupt-test-setup makes")
	case d.Interval < 0:
		return usagef("--conn-disrupt-dispatch-interval %s: want 0 or more", d.Interval)
	}
	if f.Concurrency < 0 {
		return usagef("--source-concurrency %d: want 0 or more", f.Concurrency)
	}
	if f.ConnectTimeout <= 0 || f.RequestTimeout <= 0 {
		return usagef("--connect-timeout %s, --request-timeout %s: want more than 0", f.ConnectTimeout, f.RequestTimeout)
	}
	if f.Retries < 0 {
		return usagef("--retry %d: want 0 or more", f.Retries)
	}
	if f.pause {
		in := bufio.NewReader(g.in)
		f.PauseOnFail = func(ctx context.Context) error {
			fmt.Fprintln(g.out, "Pausing after a failed test; press the Enter key to go on:")
			_, _ = in.ReadString('\n')
			return ctx.Err()
		}
	}
	return nil
}

func targets(flag string, texts []string, port uint16) (out []netip.AddrPort, err error) {
	for _, s := range texts {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, usagef("%s %q is not an IP address", flag, s)
		}
		out = append(out, netip.AddrPortFrom(a.Unmap(), port))
	}
	return out, nil
}

func (f *connectivityFlags) run(ctx context.Context, g *globals, p ports.Playground) error {
	out := conntest.NewPrinter(g.out, g.now)
	out.Timestamp, out.Verbose = f.timestamp, f.verbose
	report, err := conntest.New(p, f.Options, out, g.now).Run(ctx)
	if f.junit != "" && len(report.Tests) > 0 {
		err = errors.Join(err, f.writeJUnit(report))
	}
	if err != nil {
		return err
	}
	if n := report.Failed(); n > 0 {
		return fmt.Errorf("%d tests failed", n)
	}
	return nil
}

func (f *connectivityFlags) writeJUnit(report *connectivity.Report) error {
	var properties []connectivity.Property
	for _, k := range slices.Sorted(maps.Keys(f.junitProperties)) {
		properties = append(properties, connectivity.Property{Name: k, Value: f.junitProperties[k]})
	}
	var b strings.Builder
	if err := report.WriteJUnit(&b, properties); err != nil {
		return err
	}
	if err := os.WriteFile(f.junit, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("--junit-file: %w", err)
	}
	return nil
}
