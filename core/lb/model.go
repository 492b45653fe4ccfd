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
)

// Algorithm picks backends for new connections.
type Algorithm string

// Algorithms.
const (
	Random Algorithm = "random"
	Maglev Algorithm = "maglev"
)

// Frontend is one address and port that clients dial.
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
	Node     string
	Weight   uint16 // 1 if the source says nothing
	State    State
}

// Slice is a part of a service's backends (an EndpointSlice). A service has the union of its slices.
type Slice struct {
	Service  Name
	Name     string
	Backends []Backend
}
