package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/engine"
)

// options are the command line, and what it and the configuration come to.
type options struct {
	node, clusterDir, configDir string
	nodeConfig                  string // file with the CiliumNodeConfigs that select this node
	flags                       *pflag.FlagSet

	layers   layers            // what was read
	resolved config.Resolved   // what that comes to
	values   map[string]string // the configuration: flag before what was read
	settings config.Settings
}

// fileDefaults are the defaults of a cluster that files describe: whoever starts an agent by hand asks
// for what reaches beyond its own directory.
var fileDefaults = map[string]string{
	"state-dir":              "/run/weir",
	"agent-health-port":      "0",
	"enable-ipv4-masquerade": "false",
	"enable-ipv6-masquerade": "false",
	"kube-proxy-replacement": "true",
	"cni-log-file":           "",
	"allow-root-cgroup":      "false",
}

// add makes the flags: three of the command's own, and one for each key that the agent obeys.
func (o *options) add(f *pflag.FlagSet) {
	o.flags = f
	f.StringVar(&o.node, "node-name", os.Getenv("K8S_NODE_NAME"), "name of this node's object (default $K8S_NODE_NAME)")
	f.StringVar(&o.clusterDir, "cluster-dir", "", "directory of Kubernetes YAML or JSON that describes the cluster, instead of an API server")
	f.StringVar(&o.configDir, "config-dir", "", "directory with one file for each key of the configuration, as a mounted ConfigMap has them")
	f.StringVar(&o.nodeConfig, "node-config", "", "file that build-config writes: the CiliumNodeConfigs that select this node, which count before the directory")
	for _, k := range config.Keys() {
		if k.Effect != config.Obeyed || k.Operator {
			continue
		}
		f.String(k.Name, k.Default, k.Means)
		if k.Kind == config.Bool {
			f.Lookup(k.Name).NoOptDefVal = "true"
		}
	}
	f.String("kubeconfig", "", "as --k8s-kubeconfig-path")
}

// load reads the configuration directory and the CiliumNodeConfigs known last, and puts everything together.
func (o *options) load() error {
	l, err := readLayers(o.configDir, o.nodeConfig, o.node)
	if err != nil {
		return err
	}
	return o.combine(l)
}

// combine makes the settings from what was read and the command line.
func (o *options) combine(l layers) error {
	o.layers = l
	o.resolved = l.resolve(func(values map[string]string) error { _, err := config.Parse(o.merge(values)); return err })
	o.values = o.merge(o.resolved.Values)
	o.hideFlagged()
	if o.node == "" {
		return errors.New("--node-name is empty: give the name of this node's object")
	}
	if o.clusterDir == "" && o.configDir == "" && o.values["k8s-kubeconfig-path"] == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return errors.New("--cluster-dir, --config-dir and --kubeconfig are empty, and this is no pod: give a directory that describes the cluster, or the way to an API server")
	}
	s, err := config.Parse(o.values)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if o.clusterDir != "" {
		s.Cgroup = cmp.Or(o.values["cgroup"], o.values["cgroup-root"])
	}
	if !s.SocketLB {
		s.Cgroup = ""
	}
	o.settings = s
	return nil
}

// hideFlagged says of the keys that a CiliumNodeConfig and the command line say that the latter counts.
func (o *options) hideFlagged() {
	o.flags.Visit(func(f *pflag.Flag) {
		name := keyOf(f)
		if by, ok := o.resolved.From[name]; ok && o.values[name] == f.Value.String() {
			delete(o.resolved.From, name)
			o.resolved.Findings = append(o.resolved.Findings, config.Finding{Key: name, Severity: config.Warning, Message: fmt.Sprintf(
				"CiliumNodeConfig %s: %s: has no effect: the agent is started with --%s=%s", by, name, f.Name, f.Value)})
		}
	})
}

// source says in words where a key's value comes from.
func (o *options) source(key string) string {
	given := ""
	o.flags.Visit(func(f *pflag.Flag) {
		if keyOf(f) == key {
			given = "flag --" + f.Name
		}
	})
	return cmp.Or(given, o.resolved.Source(key))
}

// keyOf is the key that a flag stands for.
func keyOf(f *pflag.Flag) string {
	if f.Name == "kubeconfig" {
		return "k8s-kubeconfig-path"
	}
	return f.Name
}

// merge puts the flags that were given before what was read, and defaults after both.
func (o *options) merge(read map[string]string) map[string]string {
	values := map[string]string{}
	if o.clusterDir != "" {
		maps.Copy(values, fileDefaults)
	}
	for k, v := range read {
		if v != "" {
			values[k] = v
		}
	}
	o.flags.Visit(func(f *pflag.Flag) {
		name := keyOf(f)
		if _, ok := config.Lookup(name); ok && name != "config-dir" {
			values[name] = f.Value.String()
		}
	})
	return values
}

func (o *options) socket() string { return filepath.Join(o.settings.RunDir, "weir.sock") }

func (o *options) routing() engine.Routing {
	switch {
	case !o.settings.Native:
		return engine.Tunnel
	case o.settings.DirectRoutes:
		return engine.Direct
	}
	return engine.Native
}
