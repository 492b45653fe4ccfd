package kernel

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// Hook is a place where packets meet a program.
type Hook uint8

// The hooks of docs/datapath.md.
const (
	FromPod Hook = iota
	ToPod
	FromOverlay
	FromHost
)

func (h Hook) String() string {
	return [...]string{"from_pod", "to_pod", "from_overlay", "from_host"}[h]
}

// Action is what becomes of a packet.
type Action uint8

// Actions.
const (
	Drop         Action = iota
	Pass                // on to where it was going: the stack, or for to_pod the pod
	RedirectPeer        // into the pod behind the veth Result.Ifindex
	Tunnel              // through the overlay device Result.Ifindex, with Result.VNI to Result.Remote
)

func (a Action) String() string {
	return [...]string{"drop", "pass", "redirect_peer", "tunnel"}[a]
}

// Meta is what comes with a packet besides its bytes.
type Meta struct {
	VLAN   bool       // a VLAN tag that the device took off
	VNI    uint32     // of the tunnel key
	Remote netip.Addr // underlay address of the sender; invalid: the packet has no tunnel key
}

// Result is what a hook did with a packet.
type Result struct {
	Action  Action
	Ifindex uint32     // RedirectPeer, Tunnel
	VNI     uint32     // Tunnel
	Remote  netip.Addr // Tunnel
	Frame   []byte     // as it goes on; nil when dropped

	Reason          datapath.Reason // Drop
	Egress, Ingress datapath.Cookie // of the rules that decided, as far as policy was asked
	Events          []datapath.Event
}

func (r Result) String() string {
	switch r.Action {
	case Drop:
		return fmt.Sprintf("drop, reason %d", r.Reason)
	case RedirectPeer:
		return fmt.Sprintf("redirect_peer to %d", r.Ifindex)
	case Tunnel:
		return fmt.Sprintf("tunnel to %s, VNI %d", r.Remote, r.VNI)
	}
	return r.Action.String()
}

// run is one packet on its way through one hook.
type run struct {
	k       *Kernel
	now     time.Time
	hook    Hook
	ifindex uint32
	meta    Meta
	frame   []byte
	p       reading

	vni     identity.ID // source identity that the tunnel key tells
	src     side        // of the packet, as far as known
	dst     side
	outcome outcome
	reply   bool
	res     Result
}

// Inject runs a hook on a frame that entered (from_pod, from_overlay) or is about to leave (to_pod,
// from_host) the interface. The frame is not changed; Result.Frame is a copy. The program runs whether
// or not AttachPod was called for the interface.
func (k *Kernel) Inject(h Hook, ifindex uint32, frame []byte, m Meta) Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	m.Remote = m.Remote.Unmap()
	r := &run{k: k, now: k.clock.Now(), hook: h, ifindex: ifindex, meta: m, frame: frame}
	if h == FromHost {
		r.fromHost()
		return r.res
	}
	var drop datapath.Reason
	r.p, drop = parse(frame, m.VLAN)
	r.src.addr, r.dst.addr = r.p.src, r.p.dst
	switch {
	case drop != 0:
		r.drop(drop)
	case r.p.arp:
		r.pass()
	case !k.completeFragment(&r.p):
		r.drop(datapath.ReasonFragmentNotFound)
	case h == FromPod:
		r.fromPod()
	case h == FromOverlay:
		r.fromOverlay()
	default:
		r.toPod()
	}
	if r.res.Action != Drop && !r.p.arp {
		k.noteFragment(&r.p)
	}
	r.res.Egress, r.res.Ingress = r.outcome.egressCookie, r.outcome.ingressCookie
	return r.res
}

func (r *run) fromPod() {
	switch r.p.neighbourMessage() {
	case neighbourAllowed:
		r.pass()
		return
	case neighbourForbidden:
		r.drop(datapath.ReasonForbiddenICMPv6)
		return
	}
	if r.p.isError() {
		if drop := r.checkHook(); drop != 0 {
			r.drop(drop)
			return
		}
		if r.related() {
			r.send(r.k.resolve(r.p.dst, 0).route, r.src.identity)
			return
		}
	}
	r.serve()
}

func (r *run) fromOverlay() {
	if !r.meta.Remote.IsValid() {
		r.drop(datapath.ReasonTunnelKey)
		return
	}
	if _, ok := r.k.nodes.rows[r.meta.Remote]; !ok {
		r.drop(datapath.ReasonUnknownSender)
		return
	}
	r.vni = r.k.tunnelIdentity(r.meta.VNI, r.p.src)
	r.src.identity = r.vni
	if ep, ok := r.k.endpoints.rows[r.p.dst]; ok && ep.Host {
		r.pass()
		return
	}
	r.inbound()
}

func (r *run) toPod() {
	if r.p.neighbourMessage() == neighbourAllowed {
		r.pass()
		return
	}
	r.inbound()
}

// inbound is what to_pod and from_overlay have in common.
func (r *run) inbound() {
	if r.p.isError() {
		if drop := r.checkHook(); drop != 0 {
			r.drop(drop)
			return
		}
		if r.related() {
			r.send(r.dst.route, 0)
			return
		}
	}
	r.serve()
}

// fromHost looks at addresses only: the node's own packets are not judged.
func (r *run) fromHost() {
	p, drop := parse(r.frame, r.meta.VLAN)
	// Behind the addresses the packet may be as it likes.
	if p.dst.IsValid() && drop != datapath.ReasonInvalidSource {
		r.p = p
		if row, ok := r.k.lookupIPCache(r.p.dst); ok && row.Tunnel.IsValid() {
			r.send(route{kind: toOverlay, remote: row.Tunnel}, identity.RemoteNode)
			return
		}
	}
	r.pass()
}

// tunnelIdentity reads a VNI. A node sends its own packets as remote-node; that it is an API server is
// known from its address.
func (k *Kernel) tunnelIdentity(vni uint32, src netip.Addr) identity.ID {
	id := identity.ID(vni)
	if id == identity.Unknown || id == identity.Host {
		id = identity.RemoteNode
	}
	if id == identity.RemoteNode {
		if row, _ := k.lookupIPCache(src); row.Identity == identity.KubeAPIServer {
			return identity.KubeAPIServer
		}
	}
	return id
}

// in is where the packet entered, as entries record it.
func (r *run) in() uint32 {
	switch r.hook {
	case FromPod:
		return r.ifindex
	case FromOverlay:
		return r.k.overlay
	}
	return 0
}

// serve takes the packet through its flow entry, or opens one.
func (r *run) serve() {
	key, fromB := datapath.NewFlowKey(r.p.src, r.p.dst, r.p.sport, r.p.dport, r.p.proto)
	e, ok := r.k.flows.get(key)
	if !ok || e.expired(r.now) {
		r.open(key, fromB)
		return
	}
	from := e.senderOf(fromB)
	sameDoor := e.side[from].in == r.in()
	current := r.k.current(e)
	r.reply = from == 1
	switch {
	case e.denied && current && r.p.opensTCP() && sameDoor, !e.denied && e.state == stateClosing && r.p.opensTCP():
		r.reply = false
		r.open(key, fromB)
	case !current:
		r.renew(key, e, from)
	case e.denied:
		r.recall(e, from)
		r.dropRefused()
	case !sameDoor && r.hook == FromPod:
		r.drop(datapath.ReasonInvalidSource)
	case !sameDoor, r.hook == FromOverlay && r.vni != e.side[from].identity:
		r.renew(key, e, from)
	default:
		r.recall(e, from)
		r.forward(e, from)
	}
}

// recall takes what the entry knows about the packet's ends.
func (r *run) recall(e *entry, from int) {
	r.src, r.dst, r.outcome = e.side[from], e.side[1-from], e.outcome
}

// checkHook makes the slow path's checks of the hook and finds out who sent the packet and to whom.
func (r *run) checkHook() datapath.Reason {
	r.src = r.k.resolve(r.p.src, r.p.sport)
	r.dst = r.k.resolve(r.p.dst, r.p.dport)
	switch r.hook {
	case FromPod:
		if r.src.route.kind != toPod || r.src.in != r.ifindex {
			r.src = side{addr: r.p.src}
			return datapath.ReasonInvalidSource
		}
		if r.p.dst.IsMulticast() || r.p.dst == broadcast {
			return datapath.ReasonUnknownTarget
		}
	case FromOverlay:
		r.arrived(&r.src, r.vni)
		if r.dst.route.kind != toPod {
			return datapath.ReasonUnknownTarget
		}
	case ToPod:
		id := r.src.identity
		if r.src.route.kind == toPod {
			row, _ := r.k.lookupIPCache(r.p.src)
			id = row.Identity
		}
		r.arrived(&r.src, id)
		if r.dst.route.kind != toPod || r.dst.in != r.ifindex {
			return datapath.ReasonUnknownTarget
		}
	}
	return 0
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// arrived marks a side whose packets do not come from a local pod's veth.
func (r *run) arrived(s *side, id identity.ID) {
	s.identity, s.endpoint, s.in = id, 0, r.in()
}

// open judges the first packet of a flow.
func (r *run) open(key datapath.FlowKey, fromB bool) {
	if drop := r.checkHook(); drop != 0 {
		r.drop(drop)
		return
	}
	e := &entry{
		proto: r.p.proto, policyPort: r.p.policyPort(), initiatorB: fromB,
		side:       [2]side{r.src, r.dst},
		seenNonSYN: r.p.proto == datapath.ProtoTCP && r.p.flags&datapath.TCPSyn == 0 && r.p.fragment != laterFragment,
	}
	if e.proto == datapath.ProtoTCP {
		e.state = stateSyn
	}
	r.k.stamp(e)
	r.outcome = r.k.judgeFlow(r.src, r.dst, e.proto, e.policyPort, r.hook == FromPod, r.hook != FromPod || r.dst.route.kind == toPod)
	e.outcome = r.outcome
	if r.outcome.refused {
		r.dropRefused()
		return
	}
	if !r.k.insertFlow(key, e) {
		r.drop(datapath.ReasonFlowInsert)
		return
	}
	r.forward(e, 0, datapath.EventNew)
}

// renew judges a flow again whose recorded decision may not hold any more.
func (r *run) renew(key datapath.FlowKey, e *entry, from int) {
	if drop := r.checkHook(); drop != 0 {
		r.drop(drop)
		return
	}
	ends := [2]side{r.src, r.dst}
	if from == 1 {
		ends = [2]side{r.dst, r.src}
	}
	// A local pod is one by its address, wherever the packet came from.
	if s := r.k.resolve(r.p.src, r.p.sport); s.route.kind == toPod {
		ends[from] = s
	}
	changed, gone := r.k.rejudge(key, e, ends, r.now)
	if gone {
		r.drop(datapath.ReasonUnknownTarget)
		return
	}
	r.recall(e, from)
	switch {
	case e.denied:
		r.dropRefused()
	case changed:
		r.forward(e, from, datapath.EventNew)
	default:
		r.forward(e, from)
	}
}

// rejudge decides about an entry anew, with its ends as they are now. changed: another rule decides than
// before. gone: the pod that opened the flow does not exist any more, and so does not the entry.
func (k *Kernel) rejudge(key datapath.FlowKey, e *entry, ends [2]side, now time.Time) (changed, gone bool) {
	if e.side[0].endpoint != 0 && ends[0].route.kind != toPod {
		k.flows.delete(key)
		return false, true
	}
	for i := range ends {
		ends[i].port = e.side[i].port
		ends[i].flags, ends[i].packets, ends[i].bytes = e.side[i].flags, e.side[i].packets, e.side[i].bytes
	}
	e.side = ends
	k.stamp(e)
	o := k.judgeFlow(ends[0], ends[1], e.proto, e.policyPort, ends[0].local(), ends[1].local())
	if o.refused {
		e.deny(o, now)
		return false, false
	}
	changed = e.denied || o.egressCookie != e.outcome.egressCookie || o.ingressCookie != e.outcome.ingressCookie
	e.denied, e.outcome = false, o
	return changed, false
}

// forward lets a packet of an entry through, and reports what is worth it.
func (r *run) forward(e *entry, from int, report ...datapath.EventType) {
	closed := e.note(from, &r.p, len(r.frame), r.now)
	r.send(e.side[1-from].route, e.side[from].identity)
	for _, t := range report {
		r.reportFlow(t, e)
	}
	if closed {
		r.reportFlow(datapath.EventClose, e)
	}
}
