// Command weir-operator does for a cluster what its nodes' agents can't do each for itself: custom
// resource definitions, pod CIDRs of nodes, taints, garbage, the status of policies. Two of them may run.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/weirnet/weir/adapters/kubernetes/operator"
)

// Version is set at build time.
var Version = "dev"

// stopTimeout is how long a leader may need to end its work and give back the lease.
const stopTimeout = 10 * time.Second

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "weir-operator:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "weir-operator [--config-dir DIR]",
		Short: "Do what a cluster needs once, and not once a node",
		Long: `Do what a cluster needs once, and not once a node, until SIGTERM or SIGINT.

Several may run: one leads, by a Lease, the others stand by. Traffic needs none of them. What the
configuration directory (a mounted ConfigMap, one file a key) says counts less than a flag.`,
		Example: `  weir-operator --config-dir /tmp/cilium/config-map
  weir-operator --k8s-kubeconfig-path ~/.kube/config --ipam kubernetes`,
		Version:       Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			return run(wiring(config))
		},
	}
	o.flags(c.Flags())
	return c
}

// options are the command line: a flag for each key of the configuration.
type options struct {
	dir string
}

func (o *options) flags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&o.dir, "config-dir", "", "directory with the configuration, one file a key")
	for _, s := range operator.Settings() {
		f.String(s.Key, s.Default, s.Help)
		if s.Default == "true" || s.Default == "false" {
			f.Lookup(s.Key).NoOptDefVal = "true"
		}
	}
}

// config puts flags over the directory over the defaults.
func (o *options) config(f *pflag.FlagSet) (operator.Config, error) {
	values := map[string]string{}
	if o.dir != "" {
		var err error
		if values, err = operator.ReadConfigDir(o.dir); err != nil {
			return operator.Config{}, err
		}
	}
	f.Visit(func(f *pflag.Flag) {
		if f.Name != "config-dir" {
			values[f.Name] = f.Value.String()
		}
	})
	return operator.NewConfig(values)
}

// wiring is the operator's object graph. Constructors do nothing but construct.
func wiring(c operator.Config) fx.Option {
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level}))
	return fx.Options(
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.StopTimeout(stopTimeout),
		fx.Supply(operator.Options{Config: c, Version: Version, Log: log}),
		operator.Module,
	)
}

func run(o fx.Option) error {
	app := fx.New(o)
	if err := app.Err(); err != nil {
		return err
	}
	if err := app.Start(context.Background()); err != nil {
		return err
	}
	code := (<-app.Wait()).ExitCode
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := app.Stop(ctx); err != nil {
		return err
	}
	if code != 0 {
		return errors.New("ended by a failure; the log has it")
	}
	return nil
}
