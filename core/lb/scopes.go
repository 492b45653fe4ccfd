package lb

import "github.com/weirnet/weir/core/datapath"

// Settings of a Compiler.
type Settings struct {
	// Node is the name of this node: where backends are local.
	Node string
	// NodePorts has node ports served, and what comes from the network for any address of a service.
	NodePorts bool
	// HostPorts has the host ports of pods served.
	HostPorts bool
	// Topology has backends chosen by their hints, where no traffic policy does.
	Topology bool
}

// scopes are those in which a frontend is served.
func (s Settings) scopes(f Frontend) []datapath.Scope {
	both := []datapath.Scope{datapath.Internal, datapath.External}
	switch f.Type {
	case HostPort:
		if !s.HostPorts {
			return nil
		}
		if f.Addr.IsLoopback() {
			return both[:1] // nothing comes from the network to a loopback address
		}
		return both
	case NodePort:
		if !s.NodePorts {
			return nil
		}
		return both
	case LoadBalancer, ExternalIPs:
		if s.NodePorts {
			return both
		}
	}
	return both[:1]
}

// ownNodeOnly says whether a frontend at every address of a node is at this node's only. To node ports of others
// with a policy for what comes from outside the node itself must say what it has: to it, this one is outside.
func (s *Service) ownNodeOnly(t Type) bool {
	return t == HostPort || t == NodePort && s.ExternalLocal
}

// localOnly says whether a frontend of the service has no backends but those of one node.
func (s *Service) localOnly(t Type, scope datapath.Scope) bool {
	if scope == datapath.External {
		return s.ExternalLocal && t != HostPort
	}
	return s.InternalLocal && t == ClusterIP
}
