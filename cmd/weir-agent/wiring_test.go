package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
)

// Everything that the agent is made of can be made; nothing is.
func TestWiringIsComplete(t *testing.T) {
	for _, args := range [][]string{{"--cluster-dir", t.TempDir()}, {"--config-dir", t.TempDir()}} {
		o := parse(t, append(args, "--node-name", "node1")...)
		require.NoError(t, o.load())
		require.NoError(t, fx.ValidateApp(wiring(o)))
		require.Error(t, fx.ValidateApp(fx.Options(wiring(o), fx.Invoke(func(*bytes.Buffer) {}))), "what nobody provides is noticed")
	}
}

func parse(t *testing.T, args ...string) *options {
	t.Helper()
	var o options
	f := pflag.NewFlagSet("weir-agent", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	o.add(f)
	require.NoError(t, f.Parse(args))
	return &o
}

func TestOptionsAreChecked(t *testing.T) {
	t.Setenv("K8S_NODE_NAME", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	good := []string{"--node-name", "node1", "--cluster-dir", "/cluster"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{good, ""},
		{append([]string{"--mtu", "1500", "--flow-buffer", "65535"}, good...), ""},
		{good[2:], "--node-name is empty"},
		{good[:2], "--cluster-dir, --config-dir and --kubeconfig are empty"},
		{append([]string{"--mtu", "1279"}, good...), "mtu: 1279 is too small; allowed: 1280"},
		{append([]string{"--mtu", "70000"}, good...), `mtu: "70000" is not a whole number; allowed: 0 to 65535`},
		{append([]string{"--flow-buffer", "0"}, good...), `flow-buffer: "0" is not a whole number; allowed: 1 to 65535`},
		{append([]string{"--auto-direct-node-routes"}, good...), "auto-direct-node-routes: needs routing-mode native"},
		{append([]string{"--routing-mode", "direct"}, good...), `routing-mode: "direct" is not a known value; allowed: tunnel, native`},
	} {
		o := parse(t, c.args...)
		if err := o.load(); c.says == "" {
			require.NoError(t, err, "%q", c.args)
		} else {
			require.ErrorContains(t, err, c.says, "%q", c.args)
		}
	}
}

func TestNodeNameComesFromTheEnvironment(t *testing.T) {
	t.Setenv("K8S_NODE_NAME", "node7")
	require.Equal(t, "node7", parse(t).node)
	require.Equal(t, "node1", parse(t, "--node-name", "node1").node)
}
