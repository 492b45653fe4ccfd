package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/testpod"
)

// The commands that run inside the test's pods.

func newConnectivityServeCommand() *cobra.Command {
	var name string
	var silent bool
	c := &cobra.Command{
		Use: "serve", Hidden: true,
		Short:   "Be a test pod: answer on its ports with name and sender until stopped",
		Example: "  weir connectivity serve --name me",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().StringVar(&name, "name", "", "what to answer with (default $POD_NAME)")
	c.Flags().BoolVar(&silent, "no-listen", false, "only wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if silent {
			return testpod.Serve(c.Context(), name, nil)
		}
		return testpod.Serve(c.Context(), name, testpod.Ports)
	}
	return c
}

func newConnectivityHoldCommand() *cobra.Command {
	var interval time.Duration
	c := &cobra.Command{
		Use: "hold ADDRESS:PORT", Hidden: true,
		Short:   "Keep a connection to a test pod and fail when it is lost",
		Example: "  weir connectivity hold 10.0.0.1:8080",
		Args:    args(cobra.ExactArgs(1)),
	}
	c.Flags().DurationVar(&interval, "interval", 100*time.Millisecond, "time between two requests")
	c.RunE = func(c *cobra.Command, a []string) error {
		return testpod.Hold(c.Context(), a[0], interval, testpod.Ports)
	}
	return c
}

func newConnectivityProbeCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "probe", Hidden: true,
		Short:   "Read probes as JSON, make them, and write what became of them as JSON",
		Example: `  echo '{"probes":[{"kind":"icmp","addr":"127.0.0.1","timeout":1000000000}]}' | weir connectivity probe`,
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return testpod.Probe(c.Context(), g.in, g.out) },
	}
}
