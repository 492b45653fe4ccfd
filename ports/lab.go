package ports

import (
	"context"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
)

// Lab is a small cluster on one machine: of network namespaces with real packets, or of fakes.
type Lab interface {
	// Datapath says what forwards the packets: "ebpf" or "fake".
	Datapath() string
	// Nodes and Pods describe the lab, sorted by name.
	Nodes(ctx context.Context) ([]LabNode, error)
	Pods(ctx context.Context) ([]LabPod, error)
	// Apply makes objects part of the cluster and returns once every agent has taken them in. Findings
	// are the complaints about single objects; what has one (other than a warning) does not take
	// effect, and its last good version stays. The error is for everything else.
	Apply(ctx context.Context, files []LabManifest) ([]cluster.Finding, error)
	// Delete removes the objects that the files name; absent is no error.
	Delete(ctx context.Context, files []LabManifest) ([]cluster.Finding, error)
	// Probe measures who can reach whom, sorted as asked for by LabProbe.
	Probe(ctx context.Context, q LabProbe) ([]LabResult, error)
	// Connects opens n TCP connections from a pod to a service, its addresses in turn, and counts them
	// by the pod that answered. Failed ones count under the zero Name.
	Connects(ctx context.Context, from, service cluster.Name, n int) (map[cluster.Name]int, error)
	// LastDrops returns the latest n drops of all nodes, oldest first.
	LastDrops(ctx context.Context, n int) ([]flow.Flow, error)
	// StartTraffic keeps traffic running between pods until StopTraffic, which counts what was lost.
	// One run at a time: ErrConflict.
	StartTraffic(ctx context.Context, streams []LabStream) error
	StopTraffic(ctx context.Context) ([]LabTraffic, error)
	// KillAgent ends a node's agent without warning; StartAgent starts it and waits until it is ready.
	KillAgent(ctx context.Context, node string) error
	StartAgent(ctx context.Context, node string) error
	// Down removes every trace of the lab. Idempotent.
	Down(ctx context.Context) error
}

// LabManifest is the content of a file of Kubernetes objects.
type LabManifest struct {
	File    string // for findings
	Content []byte // YAML or JSON, any number of documents
}

// LabNode is a node of a lab.
type LabNode struct {
	Name      string         `json:"name"`
	Addresses []netip.Addr   `json:"addresses"`
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
	PID       int            `json:"pid,omitempty"` // of the agent; 0: it does not run
	Ready     bool           `json:"ready"`
	Problem   string         `json:"problem,omitempty"` // why it is not ready
}

// LabPod is a pod of a lab.
type LabPod struct {
	Name        cluster.Name `json:"name"`
	Node        string       `json:"node"`
	IPs         []netip.Addr `json:"ips"`
	Ports       []uint16     `json:"ports"`
	HostNetwork bool         `json:"hostNetwork,omitempty"`
	Identity    identity.ID  `json:"identity,omitempty"` // 0: not known
	PID         int          `json:"pid,omitempty"`      // of its server; 0: it does not run
}

// LabProbe says what to measure. The zero value: every ordered pair of distinct pods, every
// containerPort of the destination, TCP and UDP.
type LabProbe struct {
	From, To  []cluster.Name // only these sources, destinations
	Service   cluster.Name   // instead of pods: this service's addresses and ports
	Port      uint16         // instead of the containerPorts
	Protocols []string       // TCP, UDP, ICMP
	Patience  time.Duration  // how long silence lasts until it means "denied"; 0: 1.6 seconds
	Rules     bool           // look for the deciding rules in the recorded flows
}

// LabResult is what became of one pair, port and protocol.
type LabResult struct {
	From        string `json:"from"`     // namespace/name
	To          string `json:"to"`       // namespace/name
	Port        uint16 `json:"port"`     // 0 for ICMP
	Protocol    string `json:"protocol"` // TCP, UDP, ICMP
	Verdict     string `json:"verdict"`  // "allowed" or "denied", by what happened on the wire
	EgressRule  string `json:"egress_rule"`
	IngressRule string `json:"ingress_rule"`
	// Note says what was not as it should be: the two families differ, another pod answered.
	Note string `json:"note,omitempty"`
}

// Verdicts of a LabResult.
const (
	LabAllowed = "allowed"
	LabDenied  = "denied"
)

// LabStream asks for traffic between two pods: a TCP connection and a UDP flow that carry numbered
// messages, and new TCP connections, on every address of the destination.
type LabStream struct {
	From, To  cluster.Name
	Port      uint16
	Protocols []string      // only these of TCP (with the new connections) and UDP
	Interval  time.Duration // between two messages; 0: 5 ms
}

// LabTraffic is what one stream came to.
type LabTraffic struct {
	From, To cluster.Name
	Addr     netip.Addr
	Protocol string        // TCP, UDP; CONNECT for new TCP connections
	Sent     int           // messages sent, connections tried
	Lost     int           // of these, never answered
	Broken   int           // connections that broke or could not be opened
	Gap      time.Duration // the longest time without an answer
	Error    string        // the last one
}
