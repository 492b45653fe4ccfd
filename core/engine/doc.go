// Package engine is the one reducer: events in, table operations out. It owns everything the node
// wants its kernel to hold, knows no I/O, clock or goroutine, and does work in proportion to what an
// event changes. One goroutine calls it. The same events at the same times give the same operations.
//
// The order of the operations is safe at every point: executing any prefix of what Apply returned
// leaves each endpoint with one complete policy, the old or the new, and every service with
// backends that exist.
package engine

import (
	"net/netip"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// Table names one of the things that operations write to.
type Table uint8

// The tables. Those from AddrEpoch on are not kernel tables: AddrEpoch makes decisions stale,
// Published and Identity talk to the cluster, Routes to the node's routing table, HealthChecks to load
// balancers that ask.
const (
	Endpoints Table = iota
	EndpointPolicy
	IPCache
	Classes
	Policy
	Nodes
	Services
	Slots
	Backends
	AddrEpoch    // key netip.Addr, row nil: bump
	Published    // key cluster.Name, row cluster.Endpoint or nil: withdraw
	Identity     // key string (labels' Key), row labels.Set: allocate
	Routes       // key nil, row []Route: all that must exist
	HealthChecks // key lb.Name, row lb.HealthCheck
)

var tableNames = [...]string{"endpoints", "ep_policy", "ipcache", "classes", "policy", "nodes",
	"services", "slots", "backends", "addr_epoch", "published", "identity", "routes", "health_checks"}

func (t Table) String() string { return tableNames[t] }

// Op is one write. Key and Row have the types that ports.Tables gives the table; a nil Row deletes.
type Op struct {
	Table Table
	Key   any
	Row   any
}

// Route sends a prefix of another node into the overlay or, with Via, to a neighbour.
type Route struct {
	Prefix netip.Prefix
	Source netip.Addr // preferred source; invalid: none
	Via    netip.Addr
}

// Routing is how packets reach the pods of other nodes.
type Routing uint8

// Kinds of routing.
const (
	Tunnel Routing = iota // encapsulated
	Direct                // as they are: the nodes are neighbours
	Native                // as they are, by routes that others make
)

// Events of the node itself, beside cluster.Event.
type (
	// Attach says that a pod's link exists. Restored: it did before the agent started, so its old
	// policy may still be in force and must be replaced, not interrupted.
	Attach struct {
		Pod          cluster.Name
		UID          string // the pod's, if known
		ContainerID  string // the sandbox's
		ID           datapath.EndpointID
		Ifindex      uint32
		MAC, NodeMAC datapath.MAC
		IPs          []netip.Addr
		Restored     bool
	}
	// Detach says that it is gone.
	Detach struct{ ID datapath.EndpointID }
	// DeviceAddresses are all addresses of the devices that lead to the network; those that the node's description
	// has may be among them.
	DeviceAddresses struct{ Addresses []netip.Addr }
	// Allocated answers an operation on table Identity.
	Allocated struct {
		Labels labels.Set
		ID     identity.ID
	}
)

// Event is a cluster.Event, or Attach, Detach, DeviceAddresses or Allocated.
type Event any

// Adopted is what an agent found in the kernel when it started: the work of its predecessor, which
// stays in force until the new agent knows everything and replaces it.
type Adopted struct {
	EndpointPolicy map[datapath.EndpointID]datapath.EndpointPolicy
	IPCache        map[netip.Prefix]datapath.IPCache
	Classes        map[datapath.ClassKey]datapath.Class
	Services       map[datapath.ServiceKey]datapath.Service
	Backends       map[uint32]datapath.Backend
	MaxSerial      uint32 // highest serial number in any policy row or endpoint word
}
