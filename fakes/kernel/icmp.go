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

// complains reads what an error quotes; false: the packet is none, or it quotes nothing that was sent by whom it is for.
func (r *run) complains() (inner reading, ok bool) {
	if r.p.fragment != whole || !r.p.isError() {
		return inner, false
	}
	inner, ok = r.p.quoted()
	return inner, ok && inner.src == r.p.dst && r.k.completeFragment(&inner)
}

// related finds the flow and the side of it that an error is for, if the packet is an error and belongs to a flow that is
// allowed. A stale decision about that flow is renewed for it.
func (r *run) related() (*entry, side, bool) {
	inner, ok := r.complains()
	if !ok || r.hook == FromPod && inner.dst != r.p.src {
		return nil, side{}, false
	}
	key, fromB := datapath.NewFlowKey(inner.src, inner.dst, inner.sport, inner.dport, inner.proto)
	e, ok := r.k.flows.get(key)
	if !ok || e.expired(r.now) {
		return nil, side{}, false
	}
	if !r.k.current(e) {
		if _, drop := r.rejudge(key, e, nobody); drop != 0 {
			return nil, side{}, false
		}
	}
	return e, e.side[e.senderOf(fromB)], !e.denied
}
