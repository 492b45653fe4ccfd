package datapath

import "net/netip"

// FlowKey identifies a flow independent of the packet's direction: A is the side with the smaller
// (16-byte address, port).
type FlowKey struct {
	A, B         netip.Addr
	APort, BPort uint16
	Proto        uint8
}

// NewFlowKey normalizes a packet's addresses and ports. fromB says whether the packet's source
// became side B.
//
// Ports of ICMP: an echo request has its identifier as source port and 0 as destination port, an
// echo reply the reverse; all other messages have type<<8|code in both. Protocols without ports
// have 0.
func NewFlowKey(src, dst netip.Addr, sport, dport uint16, proto uint8) (key FlowKey, fromB bool) {
	s, d := src.As16(), dst.As16()
	for i := range s {
		if s[i] != d[i] {
			fromB = s[i] > d[i]
			goto decided
		}
	}
	fromB = sport > dport
decided:
	if fromB {
		return FlowKey{A: dst, B: src, APort: dport, BPort: sport, Proto: proto}, true
	}
	return FlowKey{A: src, B: dst, APort: sport, BPort: dport, Proto: proto}, false
}

// Lifetimes of flow entries without traffic.
const (
	LifetimeTCPSyn         = 60   // seconds; no answer seen yet
	LifetimeTCPEstablished = 8000 // seconds
	LifetimeTCPClosing     = 10   // seconds, after FIN from both sides or RST
	LifetimeOther          = 60   // seconds
	LifetimeDenied         = 60   // seconds; not extended by the packets that are refused
)
