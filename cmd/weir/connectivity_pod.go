package main

import (
	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/testpod"
)

// The two commands that run inside the test's pods.

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

func newConnectivityProbeCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "probe", Hidden: true,
		Short:   "Read probes as JSON, make them, and write what became of them as JSON",
		Example: `  echo '{"probes":[{"kind":"icmp","addr":"127.0.0.1","timeout":1000000000}]}' | weir connectivity probe`,
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return testpod.Probe(c.Context(), g.in, g.out) },
	}
}
