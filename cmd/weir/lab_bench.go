package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/adapters/lab/bench"
)

// benchFlags are those of weir lab bench.
type benchFlags struct {
	cases, store      string
	proxy, proxyMode  string
	rounds            int
	seconds           float64
	cpus              []int
	keep, list, check bool
}

func newLabBenchCommand(f *labFlags) *cobra.Command {
	var b benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure weir against the kernel's own forwarding",
		Long: `weir lab bench builds a lab and, beside it, plain networks of the same shape that the kernel alone
forwards in, measures each case and its baseline in turns, and prints one table. What counts is the
ratio: the median, over the rounds, of the case to its baseline in the same round.

Without --case it measures what the targets are about, in about four minutes. --case . measures everything,
which takes more than an hour. Leave the machine alone meanwhile; the column OTHERS tells if somebody did
not.

The lab is one of its own, "bench", and is taken away afterwards, also after an interruption. It needs root. Exit
status 1 if something could not be measured; with --check also if a target was missed.`,
		Example: `  weir lab bench
  weir lab bench --case 'tcp_rr/same/direct/.*/ipv4' --rounds 9
  weir lab bench --store run.json
  weir lab bench plot run.json`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().StringVar(&b.cases, "case", "", "only cases whose names this regular expression matches (--list shows them)")
	c.Flags().IntVar(&b.rounds, "rounds", bench.DefaultRounds, fmt.Sprintf("rounds of each case, 1 to %d", bench.MaxRounds))
	c.Flags().Float64Var(&b.seconds, "seconds", bench.DefaultWindow.Seconds(), "how long one measurement takes")
	c.Flags().IntSliceVar(&b.cpus, "cpus", nil, "processors of client and server, like 0,1; one for both (default the last)")
	c.Flags().StringVar(&b.store, "store", "", "write the run, as JSON, to this file")
	c.Flags().StringVar(&b.proxy, "kube-proxy", "", "program of kube-proxy, to compare weir's services with; without it those cases are left out")
	c.Flags().StringVar(&b.proxyMode, "kube-proxy-mode", bench.ProxyNFTables, "how kube-proxy translates: "+strings.Join(bench.ProxyModes, " or "))
	c.Flags().BoolVar(&b.keep, "keep", false, "leave the lab up (weir lab down --name bench removes it)")
	c.Flags().BoolVar(&b.list, "list", false, "print the names of the cases and measure nothing")
	c.Flags().BoolVar(&b.check, "check", false, "exit status 1 if a target is missed")
	out := outputFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := b.options(f)
		if err != nil {
			return err
		}
		if b.list {
			return listCases(f.g.out, o.Cases, out)
		}
		if b.store != "" {
			// A run takes minutes: what can't be stored is said before it.
			if err := storable(b.store); err != nil {
				return err
			}
		}
		run, err := bench.Measure(c.Context(), o)
		if run == nil || err != nil && len(run.Results) == 0 {
			return err
		}
		return errors.Join(err, b.finish(f.g.out, run, out))
	}
	c.AddCommand(newLabBenchPlotCommand(f.g), newLabBenchShowCommand(f.g))
	return c
}

// options checks the flags.
func (b *benchFlags) options(f *labFlags) (bench.Options, error) {
	o := bench.Options{Rounds: b.rounds, CPUs: b.cpus, Keep: b.keep, Weir: thisBuild().short()}
	o.Window = time.Duration(b.seconds * float64(time.Second))
	if b.rounds < 1 || b.rounds > bench.MaxRounds {
		return o, usagef("--rounds %d: 1 to %d are allowed", b.rounds, bench.MaxRounds)
	}
	if o.Window < bench.MinWindow || o.Window > bench.MaxWindow {
		return o, usagef("--seconds %g: %g to %g are allowed", b.seconds, bench.MinWindow.Seconds(), bench.MaxWindow.Seconds())
	}
	var err error
	expression := b.cases
	if b.list {
		expression = cmp.Or(expression, ".")
	}
	o.KubeProxy, o.KubeProxyMode = b.proxy, b.proxyMode
	if !slices.Contains(bench.ProxyModes, b.proxyMode) {
		return o, usagef("--kube-proxy-mode %q: allowed are %s", b.proxyMode, strings.Join(bench.ProxyModes, ", "))
	}
	if b.proxy != "" {
		if o.KubeProxy, err = exec.LookPath(b.proxy); err != nil {
			return o, usagef("--kube-proxy: %v", err)
		}
		if o.KubeProxy, err = filepath.Abs(o.KubeProxy); err != nil {
			return o, err
		}
	}
	if o.Cases, err = bench.Select(expression, b.proxy != "" || b.list); err != nil {
		return o, usagef("--case: %v", err)
	}
	name := cmp.Or(f.name, bench.DefaultName)
	o.Lab = func(r bench.Routing) (*lab.Lab, error) { return newBenchLab(f.g, name, r) }
	o.Log = func(format string, args ...any) { fmt.Fprintf(f.g.err, format+"\n", args...) }
	return o, nil
}

// newBenchLab returns the lab of a bed. Thousands of objects take agents longer to take in than a few.
func newBenchLab(g *globals, name string, r bench.Routing) (*lab.Lab, error) {
	routing := lab.RoutingTunnel
	if r == bench.Native {
		routing = lab.RoutingNative
	}
	l, err := lab.New(lab.Options{
		Name:          name,
		Routing:       routing,
		Dial:          func(socket string) lab.Agent { return api.NewClient(socket) },
		Validate:      validateManifest,
		Log:           func(format string, args ...any) { fmt.Fprintf(g.err, format+"\n", args...) },
		SettleTimeout: 3 * time.Minute,
	})
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

// finish stores and prints a run, and judges it.
func (b *benchFlags) finish(w io.Writer, run *bench.Run, out *output) error {
	var errs []error
	if b.store != "" {
		errs = append(errs, storeRun(b.store, run))
	}
	if out.json() {
		errs = append(errs, printJSON(w, run))
	} else {
		errs = append(errs, run.Table(w))
	}
	if len(run.Failures()) > 0 || b.check && len(run.Missed()) > 0 {
		errs = append(errs, errNo)
	}
	return errors.Join(errs...)
}

// storable says why a file could not be written. One that is there stays as it is.
func storable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	return f.Close()
}

func storeRun(path string, run *bench.Run) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("store the run: %w", err)
	}
	if err := errors.Join(printJSON(f, run), f.Close()); err != nil {
		return fmt.Errorf("store the run: %w", err)
	}
	return nil
}

func listCases(w io.Writer, cases []bench.Case, out *output) error {
	if out.json() {
		return printJSON(w, cases)
	}
	t := newTable(w, "CASE", "BASELINE", "TARGET", "DEFAULT")
	for _, c := range cases {
		target, chosen := "-", ""
		if c.Target > 0 {
			target = fmt.Sprintf("%.2f", c.Target)
		}
		if c.Default {
			chosen = "yes"
		}
		t.row(c.Name, c.Baseline, target, chosen)
	}
	return t.flush()
}

// readRun loads a stored run; "-" is the standard input.
func readRun(g *globals, path string) (*bench.Run, error) {
	if path == "-" {
		return bench.Read(g.in)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	run, err := bench.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

func newLabBenchShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Print the table of a stored run",
		Example: "  weir lab bench show run.json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			run, err := readRun(g, a[0])
			if err != nil {
				return err
			}
			return run.Table(g.out)
		},
	}
}

func newLabBenchPlotCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "plot FILE",
		Short:   "Draw the ratios of a stored run",
		Long:    "weir lab bench plot writes an SVG image to the standard output: the ratio of each case to its baseline, grouped by the sort of traffic.",
		Example: "  weir lab bench plot run.json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			run, err := readRun(g, a[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(g.out, strings.TrimSpace(run.Plot())+"\n")
			return err
		},
	}
}
