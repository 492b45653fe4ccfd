package datapath

import (
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/identity"
)

// Reason says why a packet was dropped. The numbers are Hubble's DropReason; they are never reused.
type Reason uint8

// Reasons that the datapath gives.
const (
	ReasonNone             Reason = 0
	ReasonInvalidSource    Reason = 132 // source address is not the sender's
	ReasonPolicyDenied     Reason = 133 // no rule allows it
	ReasonInvalidPacket    Reason = 134 // malformed L3 header
	ReasonTruncatedL4      Reason = 135 // L4 header truncated or invalid
	ReasonUnsupportedL3    Reason = 139 // not IPv4, IPv6 or ARP
	ReasonTunnelKey        Reason = 147 // no tunnel metadata on the overlay device
	ReasonUnknownTarget    Reason = 150 // no such local address
	ReasonFlowInsert       Reason = 155 // flow table refused the entry
	ReasonExtensionHeader  Reason = 156 // IPv6 extension headers too many, too long or forbidden
	ReasonNoBackend        Reason = 158 // the service has no usable backend
	ReasonNoTunnelEndpoint Reason = 160 // encapsulation failed
	ReasonNATNoMapping     Reason = 167 // a service's packet has no translation, and none can be made
	ReasonNATProtocol      Reason = 168 // a translation would change what the protocol does not allow
	ReasonNoRoute          Reason = 169 // the kernel has no route to a backend
	ReasonUnknownSender    Reason = 172 // tunnelled by a node that is not known
	ReasonFragmentNotFound Reason = 175 // later fragment without its first
	ReasonForbiddenICMPv6  Reason = 176 // router or multicast-listener messages from a pod
	ReasonPolicyDeny       Reason = 181 // a deny rule matches
	ReasonVLAN             Reason = 182 // VLAN tag from a pod
	ReasonNotReady         Reason = 203 // the endpoint has no policy in force yet
)

// EventType is the kind of a datapath event.
type EventType uint8

// Event types. The numbers are part of the ring buffer's format.
const (
	EventDrop  EventType = 1
	EventNew   EventType = 2 // first packet of a flow, or first after its decision went stale and was renewed with another rule
	EventClose EventType = 3 // TCP flow ended; carries counters
)

// Point is where the packet went (or, for drops, which hook saw it). Numbers are Hubble's
// TraceObservationPoint.
type Point uint8

// Observation points.
const (
	PointUnknown      Point = 0
	PointToStack      Point = 3
	PointToOverlay    Point = 4
	PointFromEndpoint Point = 5
	PointFromOverlay  Point = 9
	PointFromStack    Point = 8
	PointFromNetwork  Point = 10
	PointToNetwork    Point = 11
	PointToEndpoint   Point = 101
)

// TCP flags as on the wire.
const (
	TCPFin uint8 = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// Event is one thing the datapath reports.
type Event struct {
	Type      EventType
	Reason    Reason    // EventDrop only
	Point     Point     // where the packet went; for drops, the hook: FromEndpoint, FromOverlay, FromStack, FromNetwork
	Direction Direction // which side's policy the verdict concerns; for same-node flows that passed both: Ingress
	Reply     bool      // the packet runs against the direction in which the flow was opened
	Time      time.Time // filled by the reader
	Timestamp uint64    // nanoseconds since boot

	// Source and destination of the packet as it was judged. Ports are 0 for protocols without.
	Src, Dst           netip.AddrPort
	Proto              uint8
	TCPFlags           uint8
	ICMPType, ICMPCode uint8

	SrcIdentity, DstIdentity identity.ID
	SrcEndpoint, DstEndpoint EndpointID // 0: not on this node
	EgressCookie             Cookie     // rule of the source's egress policy, when judged here
	IngressCookie            Cookie     // rule of the destination's ingress policy, when judged here
	EgressJudged             bool
	IngressJudged            bool

	Ifindex uint32
	Length  uint32

	// EventClose: packets and bytes sent by the side that opened the flow, and by the other.
	Packets, Bytes [2]uint64
}

// Flow is a row of the flow table as `weir bpf ct list` shows it. Side 0 opened the flow.
type Flow struct {
	Src, Dst                    netip.AddrPort // as opened
	Proto                       uint8
	SrcIdentity, DstIdentity    identity.ID
	SrcEndpoint, DstEndpoint    EndpointID
	EgressCookie, IngressCookie Cookie
	Denied                      bool          // an established flow that policy has cut
	Closing                     bool          // FIN or RST seen
	SeenNonSYN                  bool          // opened by a packet without SYN
	TCPFlags                    [2]uint8      // flags seen from each side
	Packets, Bytes              [2]uint64     // sent by each side
	Expires                     time.Duration // from now; negative: expired, not collected yet
}
