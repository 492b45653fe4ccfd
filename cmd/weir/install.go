package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/deploy"
)

// chartFlags are the flags that install and upgrade share.
type chartFlags struct {
	sources            helm.Sources
	version, directory string
	repository         string
	datapathMode       string
	wait               bool
	waitDuration       time.Duration
	dryRun, dryValues  bool
	listVersions       bool
}

func (f *chartFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.StringArrayVar(&f.sources.Set, "set", nil, "set a value: name=value, or several separated by commas; may repeat")
	fs.StringArrayVar(&f.sources.SetString, "set-string", nil, "the same, value taken as text")
	fs.StringArrayVar(&f.sources.SetFile, "set-file", nil, "the same, value taken from a file: name=path")
	fs.StringArrayVarP(&f.sources.Files, "values", "f", nil, "YAML file with values, - for the standard input; may repeat")
	fs.StringVar(&f.version, "version", "", "version to install; only this program's own is built in")
	fs.StringVar(&f.directory, "chart-directory", "", "take the chart from this directory or archive instead of this program")
	fs.StringVar(&f.repository, "repository", "", "chart repository (not available: the chart is built in)")
	fs.StringVar(&f.datapathMode, "datapath-mode", "", "tunnel or native: the same as --set routingMode=")
	fs.BoolVar(&f.wait, "wait", false, "wait until everything is ready")
	fs.DurationVar(&f.waitDuration, "wait-duration", 5*time.Minute, "how long to wait")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the objects that would be written, and write none")
	fs.BoolVar(&f.dryValues, "dry-run-helm-values", false, "print the values that would be used, and write nothing")
	fs.BoolVar(&f.listVersions, "list-versions", false, "print the versions that can be installed")
}

// chart loads the chart and the values of the command line.
func (f *chartFlags) chart() (*helm.Chart, map[string]any, error) {
	own := thisBuild().Version
	if f.repository != "" {
		return nil, nil, unavailablef("--repository: charts are not fetched; the chart is built in, or comes from --chart-directory")
	}
	var chart *helm.Chart
	var err error
	switch {
	case f.directory != "":
		chart, err = helm.LoadPath(f.directory)
	case f.version != "" && strings.TrimPrefix(f.version, "v") != strings.TrimPrefix(own, "v"):
		return nil, nil, unavailablef("version %s: this program holds version %s only; take the program of that version, or --chart-directory", f.version, own)
	default:
		chart, err = helm.Load(deploy.Chart(), own)
	}
	if err != nil {
		return nil, nil, err
	}
	values, err := f.sources.Values()
	if err != nil {
		return nil, nil, usageError{err}
	}
	switch f.datapathMode {
	case "":
	case "tunnel", "native":
		helm.Put(values, f.datapathMode, "routingMode")
	default:
		return nil, nil, usagef("--datapath-mode: %q is not allowed; allowed: tunnel, native", f.datapathMode)
	}
	return chart, values, nil
}

func newInstallCommand(g *globals) *cobra.Command {
	f := &chartFlags{}
	c := &cobra.Command{
		Use:   "install",
		Short: "Install weir on a cluster",
		Long: `Install weir on the cluster of the kubeconfig, as the Helm release "cilium" in the namespace kube-system. The
helm program can go on with what this command has installed, and the other way round.

What is not set is found out: the cluster's name, whether kube-proxy is there, and, if weir is to replace it, the
API server's address, which the agents need before anybody serves Services.`,
		Example: `  weir install
  weir install --set kubeProxyReplacement=true --wait
  weir install --set routingMode=native --set ipv4NativeRoutingCIDR=10.0.0.0/8 --set autoDirectNodeRoutes=true
  weir install -f values.yaml --dry-run`,
		Args: args(cobra.NoArgs),
	}
	f.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.listVersions {
			_, err := fmt.Fprintln(g.out, thisBuild().Version, "(default)")
			return err
		}
		chart, values, err := f.chart()
		if err != nil {
			return err
		}
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		h, err := g.helm()
		if err != nil {
			return err
		}
		return g.install(c.Context(), f, chart, values, cl, h)
	}
	return c
}

func (g *globals) install(ctx context.Context, f *chartFlags, chart *helm.Chart, values map[string]any, cl clusterAccess, h helmAccess) error {
	if err := chart.Check(values); err != nil { // before the cluster is asked anything
		return err
	}
	switch r, err := h.Current(); {
	case err == nil:
		return fmt.Errorf("release %s is installed in namespace %s already (version %s, revision %d): use 'weir upgrade'", r.Name, r.Namespace, r.AppVersion, r.Revision)
	case !errors.Is(err, helm.ErrNotFound):
		return err
	}
	say := g.out
	if f.dryRun || f.dryValues {
		say = g.err
	}
	fmt.Fprintf(say, "ℹ️  Using weir version %s\n", chart.AppVersion())
	if err := (&detection{g: g, say: say, cl: cl, values: values}).run(ctx); err != nil {
		return err
	}
	if f.dryValues {
		return g.printYAML(values)
	}
	plan, err := h.Install(ctx, chart, helm.Change{Values: values, DryRun: true})
	if err != nil {
		return err
	}
	if err := g.judge(plan.Manifest); err != nil {
		return err
	}
	if f.dryRun {
		_, err := io.WriteString(g.out, plan.Manifest)
		return err
	}
	r, err := h.Install(ctx, chart, helm.Change{Values: values})
	if err != nil {
		return err
	}
	return g.installed(ctx, f, cl, r)
}

// installed says what has been done, and waits if that is wanted.
func (g *globals) installed(ctx context.Context, f *chartFlags, cl clusterAccess, r helm.Release) error {
	fmt.Fprintf(g.out, "✅ Release %s, revision %d, is written\n\n%s\n", r.Name, r.Revision, strings.TrimSpace(r.Notes))
	if !f.wait {
		return nil
	}
	fmt.Fprintln(g.out)
	s := &clusterStatusFlags{wait: true, waitDuration: f.waitDuration, workers: 5}
	return g.clusterStatus(ctx, s, cl)
}

func (g *globals) printYAML(v any) error {
	text, err := yaml.Marshal(v)
	if err == nil {
		_, err = g.out.Write(text)
	}
	return err
}

// judge refuses a configuration that would stop the agents, and tells what of it has no effect.
func (g *globals) judge(manifest string) error {
	var errs []error
	for _, f := range config.Check(configIn(manifest)) {
		if f.Severity == config.Refusal {
			errs = append(errs, errors.New(f.Message))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("agents would not start with this configuration: %w", errors.Join(errs...))
	}
	return nil
}

// configIn finds the data of cilium-config among the documents of a manifest.
func configIn(manifest string) map[string]string {
	for _, document := range strings.Split("\n"+manifest, "\n---") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &o); err == nil && o.Kind == "ConfigMap" && o.Metadata.Name == cluster.ConfigMap {
			return o.Data
		}
	}
	return nil
}
