package kernel

import (
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// overlaySource is the inner source address of everything tunnelled. It is not OverlayMAC: a VXLAN device
// takes a frame from its own address for a loop and drops it.
var overlaySource = datapath.MAC{0x02, 0x77, 0x65, 0x69, 0x72, 0x02}

// send lets the packet go where the route says; from_pod and from_host tell the overlay who sent it.
func (r *run) send(to route, sender identity.ID) {
	if r.hook == ToPod {
		r.pass()
		return
	}
	r.res.Frame = append([]byte(nil), r.frame...)
	switch to.kind {
	case toPod:
		r.res.Action, r.res.Ifindex = RedirectPeer, to.ifindex
		copy(r.res.Frame, to.mac[:])
		copy(r.res.Frame[6:], to.nodeMAC[:])
	case toOverlay:
		r.res.Action, r.res.Ifindex = Tunnel, r.k.overlay
		r.res.VNI, r.res.Remote = uint32(sender), to.remote
		copy(r.res.Frame, datapath.OverlayMAC[:])
		copy(r.res.Frame[6:], overlaySource[:])
	case toNeighbour:
		r.res.Action = Pass
		if r.k.direct != 0 {
			r.res.Action, r.res.Ifindex, r.res.Remote = Direct, r.k.direct, to.remote
		}
	case toClient:
		r.res.Action, r.res.Ifindex = Direct, to.ifindex
	default:
		r.res.Action = Pass
	}
	r.countForwarded()
}

// pass lets the packet go where it was going.
func (r *run) pass() {
	r.res.Action = Pass
	r.res.Frame = append([]byte(nil), r.frame...)
	r.countForwarded()
}

func (r *run) countForwarded() {
	d := datapath.Ingress
	if r.hook == FromHost || r.hook == FromPod && r.res.Action != RedirectPeer {
		d = datapath.Egress
	}
	r.k.count(datapath.ReasonNone, d, len(r.frame))
}

// drop refuses the packet for a reason that is not policy.
func (r *run) drop(reason datapath.Reason) {
	d := datapath.Ingress
	if r.hook == FromPod || r.hook == FromHost {
		d = datapath.Egress
	}
	r.dropAs(reason, d)
}

// dropRefused refuses the packet because policy does.
func (r *run) dropRefused() { r.dropAs(r.outcome.reason, r.outcome.direction) }

func (r *run) dropAs(reason datapath.Reason, d datapath.Direction) {
	r.res.Action, r.res.Reason, r.res.Frame = Drop, reason, nil
	r.k.count(reason, d, len(r.frame))
	e := r.event(datapath.EventDrop)
	e.Reason, e.Direction = reason, d
	switch r.hook {
	case FromPod:
		e.Point = datapath.PointFromEndpoint
	case FromOverlay:
		e.Point = datapath.PointFromOverlay
	case FromNetwork:
		e.Point = datapath.PointFromNetwork
	default:
		e.Point = datapath.PointFromStack
	}
	r.report(e)
}
