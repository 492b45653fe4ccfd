package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/weirnet/weir/adapters/kubernetes/operator"
)

func parse(t *testing.T, args ...string) (operator.Config, error) {
	t.Helper()
	var o options
	f := pflag.NewFlagSet("weir-operator", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	o.flags(f)
	require.NoError(t, f.Parse(args))
	return o.config(f)
}

// Everything that the operator is made of can be made; nothing is.
func TestWiringIsComplete(t *testing.T) {
	c, err := parse(t)
	require.NoError(t, err)
	require.NoError(t, fx.ValidateApp(wiring(c)))
	require.Error(t, fx.ValidateApp(fx.Options(wiring(c), fx.Invoke(func(*bytes.Buffer) {}))), "what nobody provides is noticed")
}

func TestFlagsCountMoreThanTheDirectory(t *testing.T) {
	dir := t.TempDir()
	for key, value := range map[string]string{"ipam": "kubernetes\n", "identity-gc-interval": "7m", "bpf-lb-sock": "true", "..data": "x"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600))
	}
	c, err := parse(t, "--config-dir", dir, "--identity-gc-interval", "9m", "--debug")
	require.NoError(t, err)
	require.Equal(t, operator.IPAMKubernetes, c.IPAM)
	require.Equal(t, 9*time.Minute, c.IdentityGC)
	require.Equal(t, 30*time.Minute, c.IdentityTimeout)
	require.True(t, c.Debug)
	_, err = parse(t, "--config-dir", filepath.Join(dir, "absent"))
	require.ErrorContains(t, err, "read configuration")
	_, err = parse(t, "--ipam", "eni")
	require.ErrorContains(t, err, `ipam "eni": want one of cluster-pool, kubernetes, delegated-plugin`)
}
