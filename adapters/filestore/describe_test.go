package filestore

import (
	"fmt"

	"github.com/weirnet/weir/core/cluster"
)

// describe names an event in a few words.
func describe(e cluster.Event) string {
	switch e := e.(type) {
	case cluster.NodeUpsert:
		return "node " + e.Node.Name
	case cluster.NodeDelete:
		return "no node " + e.Name
	case cluster.NamespaceUpsert:
		return "namespace " + e.Namespace.Name
	case cluster.NamespaceDelete:
		return "no namespace " + e.Name
	case cluster.PodUpsert:
		return "pod " + e.Pod.Name.String()
	case cluster.PodDelete:
		return "no pod " + e.Name.String()
	case cluster.IdentityUpsert:
		return fmt.Sprintf("identity %d", e.ID)
	case cluster.IdentityDelete:
		return fmt.Sprintf("no identity %d", e.ID)
	case cluster.EndpointUpsert:
		return "endpoint " + e.Endpoint.Name.String()
	case cluster.EndpointDelete:
		return "no endpoint " + e.Name.String()
	case cluster.PolicyUpsert:
		return "policy " + e.Policy.Ref.String()
	case cluster.PolicyDelete:
		return "no policy " + e.Ref.String()
	case cluster.ServiceUpsert:
		return "service " + e.Service.Name.String()
	case cluster.ServiceDelete:
		return "no service " + e.Name.String()
	case cluster.BackendsUpsert:
		return fmt.Sprintf("backends %s %s %d", e.Slice.Service, e.Slice.Name, len(e.Slice.Backends))
	case cluster.BackendsDelete:
		return fmt.Sprintf("no backends %s %s", e.Service, e.Slice)
	}
	return "synced"
}
