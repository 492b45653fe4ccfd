package kernel

import (
	"github.com/weirnet/weir/core/datapath"
)

type neighbour uint8

const (
	notNeighbour neighbour = iota
	neighbourAllowed
	neighbourForbidden
)

// neighbourMessage sorts out the ICMPv6 messages that only mean something on one link.
func (p *reading) neighbourMessage() neighbour {
	if p.proto != datapath.ProtoICMPv6 || p.fragment == laterFragment {
		return notNeighbour
	}
	switch t := p.icmpType; {
	case (t == 135 || t == 136) && p.hopLimit == 255:
		return neighbourAllowed
	case t >= 130 && t <= 134, t == 137, t == 143:
		return neighbourForbidden
	}
	return notNeighbour
}

// isError says whether the packet is a message about another packet.
func (p *reading) isError() bool {
	switch p.proto {
	case datapath.ProtoICMP:
		switch p.icmpType {
		case 3, 4, 5, 11, 12:
			return true
		}
	case datapath.ProtoICMPv6:
		return p.icmpType >= 1 && p.icmpType <= 4
	}
	return false
}

// quoted reads the packet that an error is about.
func (p *reading) quoted() (reading, bool) {
	inner := reading{v6: p.v6}
	var drop datapath.Reason
	if p.v6 {
		drop = inner.readIPv6(p.l4[8:], true)
	} else {
		drop = inner.readIPv4(p.l4[8:], true)
	}
	return inner, drop == 0 && inner.readL4(true) == 0
}

// related finds the side that an error is for, if the packet is an error and belongs to a flow that is
// allowed. A stale decision about that flow is renewed for it.
func (r *run) related() (side, bool) {
	if r.p.fragment != whole || !r.p.isError() {
		return side{}, false
	}
	inner, ok := r.p.quoted()
	if !ok || inner.src != r.p.dst || r.hook == FromPod && inner.dst != r.p.src || !r.k.completeFragment(&inner) {
		return side{}, false
	}
	key, fromB := datapath.NewFlowKey(inner.src, inner.dst, inner.sport, inner.dport, inner.proto)
	e, ok := r.k.flows.get(key)
	if !ok || e.expired(r.now) {
		return side{}, false
	}
	if !r.k.current(e) {
		if _, drop := r.rejudge(key, e, nobody); drop != 0 {
			return side{}, false
		}
	}
	return e.side[e.senderOf(fromB)], !e.denied
}
