package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/weirnet/weir/adapters/configdir"
	"github.com/weirnet/weir/adapters/kubernetes/nodeconfig"
	"github.com/weirnet/weir/core/config"
)

// layers are what a configuration is made of: the ConfigMap, and the CiliumNodeConfigs that count before it.
type layers struct {
	base  map[string]string
	known nodeconfig.Known
}

// readLayers reads the directory of the ConfigMap and the file of the CiliumNodeConfigs; either may be "".
func readLayers(dir, file, node string) (layers, error) {
	l := layers{base: map[string]string{}}
	var err error
	if dir != "" {
		if l.base, err = configdir.Read(dir); err != nil {
			return l, err
		}
	}
	if file != "" {
		l.known, _, err = nodeconfig.Load(file, node, nodeConfigNamespace(l.base))
	}
	return l, err
}

// resolve puts one over the other.
func (l layers) resolve(check func(map[string]string) error) config.Resolved {
	if _, count := config.NodeConfigs(l.base); !count {
		return config.Resolved{Values: l.base}
	}
	r := config.Resolve(l.base, l.known.Overlays, check)
	for _, p := range l.known.Problems {
		r.Findings = append(r.Findings, config.Finding{Severity: config.Warning, Message: p})
	}
	return r
}

// nodeConfigNamespace is where CiliumNodeConfigs are looked for: where the agent runs, unless the ConfigMap says
// otherwise.
func nodeConfigNamespace(base map[string]string) string {
	ns, _ := config.NodeConfigs(base)
	return cmp.Or(ns, os.Getenv("CILIUM_K8S_NAMESPACE"), base["k8s-namespace"], "kube-system")
}

// findings are what there is to say about a configuration, with the CiliumNodeConfig that a key comes from.
func findings(r config.Resolved, values map[string]string) []config.Finding {
	out := config.Check(values)
	for i, f := range out {
		if by, ok := r.From[f.Key]; ok {
			out[i].Message = fmt.Sprintf("CiliumNodeConfig %s: %s", by, f.Message)
		}
	}
	return append(out, r.Findings...)
}

// overridden lists what CiliumNodeConfigs change, one line a key.
func overridden(r config.Resolved, base map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(r.From)) {
		was := config.Resolved{Values: base}
		out = append(out, fmt.Sprintf("%s: %q, from CiliumNodeConfig %s, instead of %s", k, r.Values[k], r.From[k], was.Describe(k)))
	}
	return out
}
