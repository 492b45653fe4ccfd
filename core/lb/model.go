// Package lb decides where connections to services go: which backends a frontend has, which of them
// a new connection takes (random or Maglev), and how long a client stays with one.
package lb

import (
	"net/netip"
	"time"
)

// Name of a service.
type Name struct {
	Namespace, Name string
}

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Type of a frontend.
type Type string

// Frontend types.
const (
	ClusterIP    Type = "ClusterIP"
	NodePort     Type = "NodePort"
	LoadBalancer Type = "LoadBalancer"
	ExternalIPs  Type = "ExternalIPs"
	HostPort     Type = "HostPort" // a port of a node that leads to one of its pods
)

// Algorithm picks backends for new connections.
type Algorithm string

// Algorithms.
const (
	Random Algorithm = "random"
	Maglev Algorithm = "maglev"
)

// Frontend is one address and port that clients dial. A NodePort's address is the unspecified one of its
// family, and a HostPort's may be: it stands for every address of a node, as in datapath.ServiceKey.
type Frontend struct {
	Addr     netip.Addr
	Port     uint16
	Proto    uint8
	PortName string // name of the service port; backends with the same PortName serve it
	Type     Type
}

// Service is a named group of frontends.
type Service struct {
	Name      Name
	Frontends []Frontend
	Affinity  time.Duration // ClientIP session affinity timeout; 0: none
	Algorithm Algorithm
	// ExternalLocal keeps what comes from the network at the node that it comes to (externalTrafficPolicy:
	// Local); sockets of the cluster reach the same frontends as ever, but for node ports of other nodes: to
	// these they are the network.
	ExternalLocal bool
	// InternalLocal keeps what goes to the cluster IP at the client's node (internalTrafficPolicy: Local).
	InternalLocal bool
	// HealthCheckPort is where load balancers ask whether a node has backends; 0: nowhere.
	HealthCheckPort uint16
}

// HealthCheck is what a load balancer is told that asks a node about a service.
type HealthCheck struct {
	Port  uint16
	Local int // backends on the node that are ready, by address; 0: send nothing here
}

// State of a backend.
type State uint8

// Backend states. Terminating backends get new connections only while no Active one exists.
const (
	Active State = iota
	Terminating
)

func (s State) String() string {
	if s == Terminating {
		return "terminating"
	}
	return "active"
}

// Backend is one address and port that serves.
type Backend struct {
	Addr     netip.Addr
	Port     uint16
	Proto    uint8
	PortName string
	Node     string // where it runs; "": unknown, which is local to nobody
	Weight   uint16 // 1 if the source says nothing
	State    State
	// ForZones and ForNodes say where the clients are that should use it; they count if Settings.Topology is on.
	ForZones, ForNodes Hints
}

// Slice is a part of a service's backends (an EndpointSlice). A service has the union of its slices.
type Slice struct {
	Service  Name
	Name     string
	Backends []Backend
}
