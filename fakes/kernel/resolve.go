package kernel

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// way is how the packets of a side enter.
type way uint8

const (
	wayStack way = iota
	wayPod
	wayOverlay
)

// route is how packets to a side leave.
type route struct {
	kind    routeKind
	ifindex uint32 // toPod, toClient
	mac     datapath.MAC
	nodeMAC datapath.MAC
	remote  netip.Addr // toOverlay, toNeighbour
}

type routeKind uint8

const (
	toStack routeKind = iota
	toPod
	toOverlay
	toNeighbour
	toClient // by a device to the neighbour that the kernel's routes name; no entry records it
)

func (k routeKind) String() string {
	switch k {
	case toStack:
		return "stack"
	case toPod:
		return "pod"
	case toOverlay:
		return "overlay"
	case toNeighbour:
		return "neighbour"
	case toClient:
		return "client"
	}
	return fmt.Sprint(uint8(k))
}

// side is one end of a flow.
type side struct {
	addr     netip.Addr
	port     uint16
	identity identity.ID // as judged
	vni      identity.ID // that its tunnelled packets carry
	endpoint datapath.EndpointID
	way      way
	in       uint32 // where its packets enter: ifindex of the veth or of the overlay; 0: the stack
	route    route
	epoch    datapath.Epoch

	flags          uint8
	packets, bytes uint64
}

// seat is a place in a flow that somebody is to be found for.
type seat struct {
	addr      netip.Addr
	port      uint16
	initiator bool
	sender    bool  // of the packet at hand
	receiver  bool  // of the packet at hand
	was       *side // what the entry recorded; nil: there is no entry
}

// hookWay is how a packet at this hook entered.
func (r *run) hookWay() way {
	switch r.hook {
	case FromPod:
		return wayPod
	case FromOverlay:
		return wayOverlay
	}
	return wayStack
}

func (k *Kernel) isPod(a netip.Addr) bool {
	ep, ok := k.endpoints.rows[a]
	return ok && !ep.Host
}

// resolve finds out who sits there, or why the hook cannot let the packet pass.
func (r *run) resolve(c seat) (side, datapath.Reason) {
	pod, known := r.k.isPod(c.addr), true
	w := wayStack
	switch {
	case c.sender:
		w = r.hookWay()
	case c.receiver && r.hook != FromPod:
		w = wayPod
	case c.initiator && c.was != nil:
		w = c.was.way
	default:
		known = false
	}
	// Whoever is talked to at the address of a pod of this node is that pod.
	if pod && (!c.initiator || !known) {
		w = wayPod
	}
	if w == wayPod {
		return r.resolvePod(c)
	}
	if c.receiver && r.hook == FromPod && (c.addr.IsMulticast() || c.addr == broadcast) {
		return side{addr: c.addr}, datapath.ReasonUnknownTarget
	}
	return r.resolveOther(c, w, known), 0
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (r *run) resolvePod(c seat) (side, datapath.Reason) {
	ep, ok := r.k.endpoints.rows[c.addr]
	fromIt := c.sender && r.hook == FromPod
	switch {
	case (!ok || ep.Host) && fromIt && !(c.initiator && c.was != nil && c.was.way == wayPod):
		return side{addr: c.addr}, datapath.ReasonInvalidSource
	case !ok || ep.Host:
		return side{addr: c.addr}, datapath.ReasonUnknownTarget
	case fromIt && ep.Ifindex != r.ifindex:
		return side{addr: c.addr}, datapath.ReasonInvalidSource
	case c.receiver && r.hook == ToPod && ep.Ifindex != r.ifindex:
		return side{addr: c.addr}, datapath.ReasonUnknownTarget
	}
	return side{
		addr: c.addr, port: c.port, way: wayPod, endpoint: ep.ID, identity: ep.Identity, vni: ep.Identity, in: ep.Ifindex,
		route: route{kind: toPod, ifindex: ep.Ifindex, mac: ep.MAC, nodeMAC: ep.NodeMAC},
	}, 0
}

func otherNode(id identity.ID) bool { return id == identity.RemoteNode || id == identity.KubeAPIServer }

// resolveOther finds out about the node itself, pods and nodes elsewhere, and the world. known: w is how its
// packets enter; otherwise the tables tell.
func (r *run) resolveOther(c seat, w way, known bool) side {
	s := side{addr: c.addr, port: c.port}
	row, _ := r.k.lookupIPCache(c.addr)
	if ep, ok := r.k.endpoints.rows[c.addr]; ok && ep.Host {
		row = datapath.IPCache{Identity: ep.Identity}
	}
	s.identity = row.Identity
	tunnel := row.Tunnel
	if !known && tunnel.IsValid() {
		w = wayOverlay
	}
	s.way = w
	if w == wayStack && row.NextHop.IsValid() {
		s.vni = s.identity
		s.route = route{kind: toNeighbour, remote: row.NextHop}
		return s
	}
	if !tunnel.IsValid() {
		tunnel = row.NextHop // what came through the overlay is answered there
	}
	// The way on which a flow was opened is the way back.
	if c.initiator && w == wayOverlay {
		// All nodes send one VNI: which of them serve the API is known by address.
		known := func(said identity.ID) identity.ID {
			if otherNode(said) && otherNode(row.Identity) {
				return row.Identity
			}
			return said
		}
		switch {
		case c.sender:
			s.identity = known(r.vni)
			if !tunnel.IsValid() {
				tunnel = r.meta.Remote
			}
		case c.was != nil:
			s.identity = known(c.was.identity)
			if !tunnel.IsValid() {
				tunnel = c.was.route.remote
			}
		}
	}
	s.vni = s.identity
	if w == wayOverlay {
		s.in = r.k.overlay
		switch {
		case c.sender:
			s.vni = r.vni
		case c.was != nil && c.was.way == wayOverlay:
			s.vni = c.was.vni
		}
	}
	if tunnel.IsValid() && !(c.initiator && w == wayStack) {
		s.route = route{kind: toOverlay, remote: tunnel}
	}
	return s
}
