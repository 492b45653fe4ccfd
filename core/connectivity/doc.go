// Package connectivity is the model of the connectivity test: which pods are deployed, which policies
// are applied to them, who then tries to reach whom, and what must come of it. It decides nothing about
// a cluster and talks to none: a runner deploys what Objects says, carries out what Plan lists, and
// hands the outcomes to Judge and to a Report.
//
// Names follow those that users of Cilium's connectivity test know: tests, scenarios, deployments, labels.
package connectivity

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/cluster"
)

// Roles of the test's pods: the value of their label "name" and the name of their Deployment.
const (
	RoleClient        = "client"
	RoleClient2       = "client2"         // on the node of client
	RoleClient3       = "client3"         // on another node
	RoleEchoSameNode  = "echo-same-node"  // on the node of client
	RoleEchoOtherNode = "echo-other-node" // on another node
	RoleHostNetns     = "host-netns"      // on every node, on the node's own network
	RoleCCNPClient    = "ccnp-client"     // in a namespace of its own, on the node of client
	// Beside it, if asked for: connections that stay.
	RoleDisruptServer = "test-conn-disrupt-server" // on another node if there is one
	RoleDisruptClient = "test-conn-disrupt-client" // on the node of client
)

// Roles of ends that are not the test's pods.
const (
	RoleHost       = "host"        // the node of the pod at the other end
	RoleRemoteNode = "remote-node" // another node
	RoleHeadless   = "echo"        // whichever echo pod a headless service leads to
	RoleDNS        = "dns"         // the cluster's DNS service
	RoleAPIServer  = "api-server"  // the service default/kubernetes
	RoleOutside    = "outside"     // an address outside the cluster, and who asks from there
	RoleOther      = "outside-other"
)

// Kind is what a probe speaks.
type Kind string

// The kinds of probes.
const (
	HTTP Kind = "http" // a request to a test pod's server, which tells who it is
	TCP  Kind = "tcp"  // a connection, to anything
	UDP  Kind = "udp"  // a datagram to a test pod's server, which tells who it is
	ICMP Kind = "icmp" // an echo request of the address's family
	DNS  Kind = "dns"  // a lookup by the pod's own resolver
)

// Probe is one attempt to talk, made inside a pod.
type Probe struct {
	Kind Kind       `json:"kind"`
	Addr netip.Addr `json:"addr"` // where to; the zero Addr: wherever Name leads
	Port uint16     `json:"port,omitempty"`
	// Name is looked up: by DNS probes for its own sake, by others to find the address.
	Name string `json:"name,omitempty"`
	// Full makes ICMP probes as large as the sender's way takes, and forbids to take them apart.
	Full bool `json:"full,omitempty"`
	// IPv6 chooses the family of the addresses that Name is looked up for.
	IPv6 bool `json:"ipv6,omitempty"`
}

// String tells the target.
func (p Probe) String() string {
	to := p.Name
	if p.Addr.IsValid() {
		to = p.Addr.String()
	}
	switch {
	case p.Port == 0:
		return to
	case p.Addr.IsValid():
		return netip.AddrPortFrom(p.Addr, p.Port).String()
	}
	return fmt.Sprintf("%s:%d", to, p.Port)
}

// family is "ipv4" or "ipv6".
func (p Probe) family() string {
	if p.IPv6 || p.Addr.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// Job is what a pod is asked to do: some probes, several at a time.
type Job struct {
	Probes []Timed `json:"probes"`
	// Parallel bounds how many run at one time; 0 means one.
	Parallel int `json:"parallel,omitempty"`
}

// Timed is a probe with the time that it has.
type Timed struct {
	Probe
	// Timeout is how long silence lasts until a try counts as unanswered.
	Timeout time.Duration `json:"timeout"`
	// Tries is how often an unanswered probe is made in all; 0 means once.
	Tries int `json:"tries,omitempty"`
}

// Result is what became of a probe, as its sender saw it.
type Result string

// The results.
const (
	Answered    Result = "answered"
	Silent      Result = "no answer"   // nothing came back in time: what a policy's drop looks like
	Refused     Result = "refused"     // a TCP reset or "port unreachable": packets pass, nobody listens
	Unreachable Result = "unreachable" // "no route", "host unreachable", "prohibited"
	Unresolved  Result = "unresolved"  // the name server answered that there is no such name
	Failed      Result = "failed"      // anything else; Detail says what
)

// Outcome is the result of one probe with what was learned.
type Outcome struct {
	Index  int           `json:"index"` // in Job.Probes
	Result Result        `json:"result"`
	By     string        `json:"by,omitempty"`     // the pod that answered
	Source netip.Addr    `json:"source"`           // the sender's address as the answerer saw it, if it told
	Addrs  []netip.Addr  `json:"addrs,omitempty"`  // what Name led to
	Detail string        `json:"detail,omitempty"` // in words
	Took   time.Duration `json:"took"`
}

// Greeting is how a test pod's server answers: HTTP as the body, UDP as the datagram.
type Greeting struct {
	Name   string `json:"name"`   // of the pod
	Source string `json:"source"` // address and port of who asked
	Echo   string `json:"echo,omitempty"`
}

// FromOutside stands for the source of probes that no pod makes: the machine that runs the test.
var FromOutside = cluster.Name{Name: "outside"}

// Pod is a pod of the test.
type Pod struct {
	Name        cluster.Name
	Role        string
	Node        string
	IPs         []netip.Addr
	HostNetwork bool
	Ready       bool
	Problem     string // why it is not ready, as far as known
	Restarts    int    // of its container
}

// addr is the pod's address of a family.
func (p Pod) addr(v6 bool) (netip.Addr, bool) { return pick(p.IPs, v6) }

func pick(list []netip.Addr, v6 bool) (netip.Addr, bool) {
	for _, a := range list {
		if a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Service is a service as the cluster has it.
type Service struct {
	Name        cluster.Name
	Type        string // ClusterIP, NodePort, LoadBalancer
	ClusterIPs  []netip.Addr
	ExternalIPs []netip.Addr
	Ingress     []netip.Addr // of its status: what a load balancer gave it
	Ports       []ServicePort
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string
	Port     uint16
	NodePort uint16 // 0: none
}

// Node is a node of the cluster.
type Node struct {
	Name string
	// Addresses are its InternalIPs.
	Addresses []netip.Addr
	// Unfit says why no test pods can be put here: not ready, cordoned, a taint; empty if they can.
	Unfit string
}

// World is what a plan is made for.
type World struct {
	Namespace string
	Pods      []Pod // sorted by name
	Services  []Service
	Nodes     []Node
	// Outside are targets outside the cluster, at most one a family, and Other more such that no policy
	// names.
	Outside, Other []netip.AddrPort
	// APIServers are the addresses of the cluster's API servers. One that is a target outside is a part of
	// the world and of the cluster, as policies have it.
	APIServers []netip.Addr
	// NodePorts says that the agents serve node ports, HostPorts that they serve the pods' host ports.
	NodePorts, HostPorts bool
	// NoOutside says why nobody can ask from outside of the cluster; empty if somebody can.
	NoOutside string
	// Connections says that an earlier run has left connections to look at.
	Connections bool
	// FromOutside are the addresses by which nodes see who asks from there, at most one a family.
	FromOutside []netip.Addr
	// NoDNS says why names can't be looked up; empty if they can.
	NoDNS string
}

// byRole lists the pods of a role; a role that ends in * is a prefix.
func (w World) byRole(roles ...string) []Pod {
	var out []Pod
	for _, r := range roles {
		for _, p := range w.Pods {
			if fits(r, p.Role) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (w World) service(namespace, name string) (Service, bool) {
	for _, s := range w.Services {
		if s.Name.Namespace == namespace && s.Name.Name == name {
			return s, true
		}
	}
	return Service{}, false
}

// isNode says whether an address is a node's.
func (w World) isNode(a netip.Addr) bool {
	return slices.ContainsFunc(w.Nodes, func(n Node) bool { return slices.Contains(n.Addresses, a) })
}

// fits says whether a role is meant by a pattern.
func fits(pattern, role string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(role, prefix)
	}
	return pattern == role
}
