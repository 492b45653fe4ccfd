package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/weirnet/weir/adapters/configdir"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/engine"
)

// options are the command line, and what it and the configuration come to.
type options struct {
	node, clusterDir, configDir string
	flags                       *pflag.FlagSet

	read     map[string]string // what the directory said
	values   map[string]string // the configuration: flag before directory
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

// load reads the configuration directory and puts everything together.
func (o *options) load() error {
	if o.configDir != "" {
		var err error
		if o.read, err = configdir.Read(o.configDir); err != nil {
			return err
		}
	}
	return o.combine(o.read)
}

// combine makes the settings from what the configuration directory says and the command line.
func (o *options) combine(read map[string]string) error {
	o.values = o.merge(read)
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
		name := f.Name
		if name == "kubeconfig" {
			name = "k8s-kubeconfig-path"
		}
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
