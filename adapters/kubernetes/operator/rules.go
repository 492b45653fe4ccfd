package operator

import (
	"github.com/weirnet/weir/adapters/kubernetes"
)

// Rules lists what an operator asks of the API server with such a configuration: in the whole cluster, and in
// Config.Namespace. It asks nothing else.
func Rules(c Config) (cluster, namespaced []kubernetes.Rule) {
	read := []string{"list", "watch"}
	with := func(more ...string) []string { return append(read[:2:2], more...) }
	const cilium, core = "cilium.io", ""
	cluster = []kubernetes.Rule{
		{Group: core, Resource: "nodes", Verbs: with("get", "patch")},
		{Group: core, Resource: "nodes/status", Verbs: []string{"patch"}},
		{Group: core, Resource: "pods", Verbs: []string{"get", "list"}},
		{Group: cilium, Resource: "ciliumnodes", Verbs: with("create", "patch", "delete")},
		{Group: cilium, Resource: "ciliumnodes/status", Verbs: []string{"patch"}},
		{Group: cilium, Resource: "ciliumendpoints", Verbs: with("delete")},
		{Group: cilium, Resource: "ciliumnetworkpolicies", Verbs: read},
		{Group: cilium, Resource: "ciliumnetworkpolicies/status", Verbs: []string{"patch"}},
		{Group: cilium, Resource: "ciliumclusterwidenetworkpolicies", Verbs: read},
		{Group: cilium, Resource: "ciliumclusterwidenetworkpolicies/status", Verbs: []string{"patch"}},
		{Group: cilium, Resource: "ciliumcidrgroups", Verbs: read},
	}
	if c.UnmanagedPods > 0 {
		cluster = append(cluster,
			kubernetes.Rule{Group: core, Resource: "pods", Verbs: []string{"delete"}},
			kubernetes.Rule{Group: cilium, Resource: "ciliumendpoints", Verbs: []string{"get"}})
	}
	if c.EndpointSlices {
		cluster = append(cluster, kubernetes.Rule{Group: cilium, Resource: "ciliumendpointslices", Verbs: with("create", "update", "delete")})
	}
	if !c.SkipCRDs {
		// Applying asks for "create" too where the definition is not there yet.
		cluster = append(cluster, kubernetes.Rule{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Verbs: []string{"get", "create", "patch"}})
	}
	cluster = append(cluster, kubernetes.Rules(kubernetes.Options{Operator: true})...)
	namespaced = []kubernetes.Rule{
		{Group: core, Resource: "pods", Verbs: read},
		{Group: "coordination.k8s.io", Resource: "leases", Verbs: []string{"get", "create", "update"}},
	}
	return cluster, namespaced
}
