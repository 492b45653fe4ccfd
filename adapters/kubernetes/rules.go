package kubernetes

import (
	"slices"

	"github.com/weirnet/weir/core/manifest"
)

// Rule is what a program may do with a resource, as in a Role of RBAC.
type Rule struct {
	Group, Resource string
	Verbs           []string
}

// Rules lists what this package asks of the API server with such options: for an agent, or, with
// Options.Operator, for an operator that calls Collect. It asks for nothing else, but, when watches fail,
// whether the server is ready: who is known to it may know that unless an administrator forbids it, and the refusal tells as much.
//
//	agent     read what Watch watches; read, make and mark identities; apply its CiliumNode and its pods'
//	          CiliumEndpoints, remove the latter; make Events and count on
//	operator  read identities and endpoints, mark and delete identities
func Rules(o Options) []Rule {
	read := []string{"get", "list", "watch"}
	if o.Operator {
		return []Rule{
			{groupCilium.Group, identityResource, []string{"list", "patch", "delete"}},
			{groupCilium.Group, endpointResource, []string{"list"}},
		}
	}
	var out []Rule
	for _, k := range kinds(o) {
		r := Rule{k.group.Group, k.resource, read[1:]}
		switch k.name {
		case manifest.KindNode:
			r.Verbs = read
		case manifest.KindCiliumNode:
			r.Verbs = []string{"list", "watch", "create", "patch"}
		case manifest.KindCiliumEndpoint:
			r.Verbs = []string{"get", "list", "watch", "create", "patch", "delete"}
		case manifest.KindCiliumIdentity:
			r.Verbs = []string{"get", "list", "watch", "create", "update", "patch"}
		}
		out = append(out, r)
	}
	if !slices.ContainsFunc(out, func(r Rule) bool { return r.Resource == endpointResource }) {
		// Other nodes' endpoints come in slices, the node's own are written all the same.
		out = append(out, Rule{groupCilium.Group, endpointResource, []string{"get", "create", "patch", "delete"}})
	}
	return append(out, Rule{groupEvents.Group, eventResource, []string{"create", "patch"}})
}
