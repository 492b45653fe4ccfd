package runtime

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// Config of an agent.
type Config struct {
	Node         string // name of this node's object
	Version      string
	VXLANPort    uint16 // 0: 8472
	Routing      engine.Routing
	MTU          int    // of pods, in bytes; 0: what Deps.PodMTU says
	FlowCapacity int    // of the flow record; 0: 4095
	Cluster      string // its name; "" is cluster.DefaultName
	// IPAM is who gives this node its pod ranges, for what is said while it waits for them. NoIPv4 and NoIPv6
	// leave the ranges of a family out.
	IPAM string
	// Routers are the pods' gateways, one a family, with IPAM config.IPAMDelegated: the addresses of pods come from
	// another plugin then, and the node needs no ranges.
	Routers        []netip.Addr
	NoIPv4, NoIPv6 bool
	// NodePorts says what of services is served to the network, and whether host ports of pods are.
	NodePorts config.NodePorts
	// SocketLB says that the node's sockets see services, for `weir status`.
	SocketLB bool
	// Masquerade says what Deps.Masquerade is told at first.
	Masquerade config.Masquerade
	// LeakGrace is how long an endpoint whose pod is no longer in the cluster, or whose link is gone, is kept;
	// 0: until CNI releases it.
	LeakGrace time.Duration
	// Notes adds to what `weir status` says: what is wrong, and what is worth knowing. It may be called at any
	// time. Nil: nothing.
	Notes func() (problems, warnings []string)
	// IdentityGrace is how long an identity without endpoints is kept, and its number rests after that; 0:
	// engine.LocalQuarantine, longer than flow entries that name it live without traffic.
	IdentityGrace time.Duration
	// Features and Attach describe the kernel for `weir status`.
	Features []ports.Feature
	Kernel   string
	Attach   string
	Datapath string // "ebpf" or "fake"
	// Started is called once, beside the loop, when the agent is ready. A Stepper ignores it. Nil: nothing.
	Started func()
}

// Deps are the ports of an agent. OpenDatapath is called once, when the overlay devices exist.
type Deps struct {
	Source       ports.Source
	Publisher    ports.Publisher
	Identities   ports.Identities
	Attachments  ports.Attachments
	Network      ports.Network
	Masquerade   ports.Masquerade // nil: nothing is masqueraded
	OpenDatapath func(ports.OverlayLinks) (ports.Datapath, error)
	// ServiceHealth tells load balancers whether this node has backends; nil: nobody does.
	ServiceHealth ports.ServiceHealth
	PodMTU        func(node netip.Addr) (int, error) // from the node's underlay address; nil: 1450
	Clock         ports.Clock
	Log           *slog.Logger
}

func (a *agent) engineOptions() []engine.Option {
	out := []engine.Option{engine.WithRouting(a.cfg.Routing), engine.WithCluster(a.cfg.Cluster)}
	if a.cfg.NodePorts.Enabled {
		out = append(out, engine.WithNodePorts())
	}
	if a.cfg.NodePorts.HostPorts {
		out = append(out, engine.WithHostPorts())
	}
	if a.cfg.NodePorts.Topology {
		out = append(out, engine.WithTopology())
	}
	return out
}
