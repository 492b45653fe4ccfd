// Package flow holds the record of what the datapath did with packets: one Flow for each event, in
// Hubble's terms, filters over them, and the bounded ring that keeps the latest and counts what it
// loses.
package flow

import (
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// Verdict of a flow; the numbers are Hubble's.
type Verdict int32

// Verdicts.
const (
	VerdictUnknown    Verdict = 0
	VerdictForwarded  Verdict = 1
	VerdictDropped    Verdict = 2
	VerdictError      Verdict = 3
	VerdictAudit      Verdict = 4
	VerdictRedirected Verdict = 5
	VerdictTraced     Verdict = 6
	VerdictTranslated Verdict = 7
)

// Endpoint is one end of a flow.
type Endpoint struct {
	ID        uint32      // endpoint id on the reporting node; 0: not local
	Identity  identity.ID //
	Namespace string
	Pod       string
	Labels    []string // "k8s:app=web", sorted
}

// Service is a service that an address belongs to.
type Service struct {
	Name, Namespace string
}

// Flow is one observed event.
type Flow struct {
	Time      time.Time
	UUID      string
	Node      string
	Verdict   Verdict
	Event     datapath.Event // the event as the datapath reported it; addresses, ports, reason, points
	Source    Endpoint
	Dest      Endpoint
	SourceSvc *Service
	DestSvc   *Service
	Egress    *policy.Verdict // who decided on egress, when judged here
	Ingress   *policy.Verdict // who decided on ingress, when judged here
}

// Entry is what an observer receives: a flow, or news of loss. Exactly one of the two is set.
type Entry struct {
	Flow *Flow
	Lost *Lost
}

// Where events are lost; the names are Hubble's LostEventSource.
const (
	LostKernel = "PERF_EVENT_RING_BUFFER" // the kernel's ring buffer was full
	LostQueue  = "OBSERVER_EVENTS_QUEUE"  // the agent did not keep up
	LostRing   = "HUBBLE_RING_BUFFER"     // a reader did not keep up
)

// Lost says that events were lost.
type Lost struct {
	Source string // LostKernel, LostQueue or LostRing
	Count  uint64
	First  time.Time
	Last   time.Time
}

// Query selects flows. Zero value: the last 20. Following, and with neither a number nor a time:
// only flows that are yet to come.
type Query struct {
	Last   uint64 // at most this many, the latest; 0: see All
	First  uint64 // at most this many, the earliest
	All    bool
	Follow bool
	Since  time.Time
	Until  time.Time
	Allow  []Filter // a flow must match one, if there are any
	Deny   []Filter // and none of these
}

// Filter is a conjunction over fields; within a field one value must match. Empty fields do not
// restrict. The values are texts as the user gave them; Compile checks them.
type Filter struct {
	SourceNamespace []string
	DestNamespace   []string

	SourcePod      []string // namespace/prefix of the name, namespace/ or, for namespace default, prefix
	DestPod        []string
	Verdict        []string // Hubble's names, and POLICY_DENIED
	DropReason     []string // Hubble's names
	Protocol       []string // tcp, udp, icmp (both families), icmpv4, icmpv6, sctp
	SourcePort     []string
	DestPort       []string
	SourceIdentity []uint32
	DestIdentity   []uint32
	SourceIP       []string // address or prefix
	DestIP         []string
	SourceLabel    []string // selectors as Kubernetes writes them: "app=web,tier in (a,b),!debug"
	DestLabel      []string
	SourceService  []string // like SourcePod
	DestService    []string
	Node           []string // name, cluster/name, or a pattern with *
	Reply          []bool
	Direction      []string // ingress, egress
	IPVersion      []int    // 4, 6
}
