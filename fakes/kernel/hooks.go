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
	FromNetwork
	ToNetwork
)

func (h Hook) String() string {
	return [...]string{"from_pod", "to_pod", "from_overlay", "from_host", "from_network", "to_network"}[h]
}

// Action is what becomes of a packet.
type Action uint8

// Actions.
const (
	Drop         Action = iota
	Pass                // on to where it was going: the stack, or for to_pod the pod
	RedirectPeer        // into the pod behind the veth Result.Ifindex
	Direct              // to the neighbour Result.Remote on the device Result.Ifindex; to the one that routes name if Remote is invalid
	Tunnel              // through the overlay device Result.Ifindex, with Result.VNI to Result.Remote
)

func (a Action) String() string {
	return [...]string{"drop", "pass", "redirect_peer", "direct", "tunnel"}[a]
}

// Meta is what comes with a packet besides its bytes.
type Meta struct {
	VLAN   bool       // a VLAN tag that the device took off
	VNI    uint32     // of the tunnel key
	Remote netip.Addr // underlay address of the sender; invalid: the packet has no tunnel key
	Stray  bool       // from_network: addressed to another machine, or to many
	Socket bool       // to_network: a local socket sends it
	Split  bool       // from_network: the headers do not lie in the first piece of the buffer
}

// Result is what a hook did with a packet.
type Result struct {
	Action  Action
	Ifindex uint32     // RedirectPeer, Direct, Tunnel
	VNI     uint32     // Tunnel
	Remote  netip.Addr // Direct, Tunnel
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
	case Direct:
		if !r.Remote.IsValid() {
			return fmt.Sprintf("direct by %d", r.Ifindex)
		}
		return fmt.Sprintf("direct to %s", r.Remote)
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
	lost    bool // a later fragment whose first was not seen

	vni     identity.ID // that the tunnel key tells, as read
	src     side        // of the packet, as far as known
	dst     side
	outcome outcome
	reply   bool
	res     Result
}

// Inject runs a hook on a frame that entered (from_pod, from_overlay, from_network) or is about to leave (to_pod,
// from_host) the interface. The frame is not changed; Result.Frame is a copy. The program runs whether
// or not AttachPod was called for the interface.
func (k *Kernel) Inject(h Hook, ifindex uint32, frame []byte, m Meta) Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	m.Remote = m.Remote.Unmap()
	r := &run{k: k, now: k.clock.Now(), hook: h, ifindex: ifindex, meta: m, frame: frame}
	switch h {
	case FromNetwork:
		r.fromNetwork()
	case ToNetwork:
		r.toNetwork()
	default:
		r.decide()
	}
	r.res.Egress, r.res.Ingress = r.outcome.egressCookie, r.outcome.ingressCookie
	return r.res
}

// decide is what all hooks do but the one that leaves packets to the others.
func (r *run) decide() {
	var drop datapath.Reason
	r.p, drop = parse(r.frame, r.meta.VLAN)
	if drop == 0 {
		r.lost = !r.k.completeFragment(&r.p)
	}
	r.src.addr, r.dst.addr = r.p.src, r.p.dst
	switch {
	case drop != 0:
		r.drop(drop)
	case r.p.arp:
		r.pass()
	case r.hook == FromPod:
		r.fromPod()
	case r.hook == FromOverlay:
		r.fromOverlay()
	case r.hook == ToPod:
		r.toPod()
	default:
		r.fromHost()
	}
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
	if r.lost {
		r.drop(datapath.ReasonFragmentNotFound)
		return
	}
	if r.p.isError() {
		ep, ok := r.k.endpoints.rows[r.p.src]
		if !ok || ep.Host || ep.Ifindex != r.ifindex {
			r.drop(datapath.ReasonInvalidSource)
			return
		}
		if e, to, ok := r.related(); ok {
			r.sendError(e, to, ep.Identity)
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
	r.vni = identity.ID(r.meta.VNI)
	if r.vni == identity.Unknown || r.vni == identity.Host {
		r.vni = identity.RemoteNode
	}
	if r.lost || !r.senderKnown() {
		if _, ok := r.k.nodes.rows[r.meta.Remote]; !ok {
			r.drop(datapath.ReasonUnknownSender)
			return
		}
		ep, ok := r.k.endpoints.rows[r.p.dst]
		switch {
		case !ok:
			r.drop(datapath.ReasonUnknownTarget)
			return
		case ep.Host:
			switch r.serveOutside() {
			case notServed:
				r.pass()
			case servedHere:
				r.goOn()
			}
			return
		case r.lost:
			r.drop(datapath.ReasonFragmentNotFound)
			return
		}
	}
	if _, to, ok := r.related(); ok && to.route.kind == toPod {
		r.send(to.route, 0)
		return
	}
	r.serve()
}

// goOn takes a packet that was rewritten to whom it is for now.
func (r *run) goOn() {
	if _, known := r.k.endpoints.rows[r.p.dst]; !known { // the backend that an error is for
		r.drop(datapath.ReasonUnknownTarget)
		return
	}
	if !r.k.isPod(r.p.dst) {
		r.pass()
		return
	}
	if _, to, ok := r.related(); ok && to.route.kind == toPod {
		r.send(to.route, 0)
		return
	}
	r.serve()
}

// senderKnown says whether a current entry of the packet's flow answers its sender through the node that
// the packet came from.
func (r *run) senderKnown() bool {
	e, from := r.entry()
	return e != nil && r.k.current(e) && e.side[from].route.kind == toOverlay && e.side[from].route.remote == r.meta.Remote
}

func (r *run) toPod() {
	if r.p.neighbourMessage() == neighbourAllowed {
		r.pass()
		return
	}
	if r.lost {
		r.drop(datapath.ReasonFragmentNotFound)
		return
	}
	if _, to, ok := r.related(); ok && to.route.ifindex == r.ifindex {
		r.pass()
		return
	}
	r.serve()
}

// fromHost looks at the addresses only: the node's own packets are not judged.
func (r *run) fromHost() {
	if ep, ok := r.k.endpoints.rows[r.p.src]; !ok || !ep.Host {
		r.drop(datapath.ReasonInvalidSource)
		return
	}
	row, _ := r.k.lookupIPCache(r.p.dst)
	if !row.Tunnel.IsValid() {
		r.pass()
		return
	}
	r.send(route{kind: toOverlay, remote: row.Tunnel}, identity.RemoteNode)
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

func (r *run) key() (datapath.FlowKey, bool) {
	return datapath.NewFlowKey(r.p.src, r.p.dst, r.p.sport, r.p.dport, r.p.proto)
}

// entry finds the live entry of the packet's flow and the side that sent the packet; nil if there is none.
func (r *run) entry() (*entry, int) {
	key, fromB := r.key()
	e, ok := r.k.flows.get(key)
	if !ok || e.expired(r.now) {
		return nil, 0
	}
	return e, e.senderOf(fromB)
}

// serve takes the packet through its flow entry, or opens one.
func (r *run) serve() {
	e, from := r.entry()
	if e == nil {
		r.open()
		return
	}
	r.reply = from == 1
	sender, receiver := &e.side[from], &e.side[1-from]
	opens, entered := r.p.opensTCP(), sender.in == r.in()
	switch {
	case e.state == stateClosing && opens, from == 1 && r.p.asksICMP():
		r.open()
	case !r.k.current(e):
		r.renew(e, from)
	case e.denied && opens && entered:
		r.open()
	case e.denied:
		r.recall(e, from)
		r.dropRefused()
	case !entered && r.hook != FromPod && sender.way == wayPod:
		r.open() // what does not come from the pod has no say in the pod's flow
	case !entered,
		r.hook == FromOverlay && (sender.vni != r.vni || receiver.route.kind != toPod),
		r.hook == ToPod && receiver.route.ifindex != r.ifindex:
		r.renew(e, from)
	default:
		r.forward(e, from)
	}
}

// recall takes what the entry knows about the packet's ends.
func (r *run) recall(e *entry, from int) {
	r.src, r.dst, r.outcome = e.side[from], e.side[1-from], e.outcome
}

// open judges the first packet of a flow.
func (r *run) open() {
	key, e, drop := r.judgeNew()
	r.outcome = e.outcome
	switch {
	case drop != 0:
		r.drop(drop)
	case e.outcome.refused:
		r.dropRefused()
	case !r.k.insertFlow(key, e):
		r.drop(datapath.ReasonFlowInsert)
	default:
		r.forward(e, 0, datapath.EventNew)
	}
}

// judgeNew makes an entry for the first packet of a flow, with what policy says; the reason is why there is
// nothing to judge. It changes nothing but r.src and r.dst.
func (r *run) judgeNew() (key datapath.FlowKey, e *entry, drop datapath.Reason) {
	r.reply = false
	key, fromB := r.key()
	e = &entry{
		proto: r.p.proto, policyPort: r.p.policyPort(), initiatorB: fromB,
		seenNonSYN: r.p.proto == datapath.ProtoTCP && r.p.flags&datapath.TCPSyn == 0 && r.p.fragment != laterFragment,
	}
	if e.proto == datapath.ProtoTCP {
		e.state = stateSyn
	}
	if r.src, drop = r.resolve(seat{addr: r.p.src, port: r.p.sport, initiator: true, sender: true}); drop == 0 {
		r.dst, drop = r.resolve(seat{addr: r.p.dst, port: r.p.dport, receiver: true})
	}
	if drop != 0 {
		return key, e, drop
	}
	e.side = [2]side{r.src, r.dst}
	r.k.stamp(e)
	e.outcome = r.k.judgeFlow(e)
	e.translated = !e.outcome.refused && r.isTranslated(e)
	return key, e, 0
}

// renew judges a flow again whose recorded decision may not hold any more.
func (r *run) renew(e *entry, from int) {
	key, _ := r.key()
	changed, drop := r.rejudge(key, e, from)
	if drop != 0 {
		r.drop(drop)
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

// nobody is the sender when a flow is judged again for the sake of an ICMP error.
const nobody = -1

// rejudge decides about an entry anew, in the orientation of the side that opened it; from is the side
// that sent the packet. changed: other rules decide than before. The reason is why the flow cannot be
// judged at all; if that is so because the pod that opened it is gone, so is the entry.
func (r *run) rejudge(key datapath.FlowKey, e *entry, from int) (changed bool, drop datapath.Reason) {
	ends := [2]side{{addr: e.side[0].addr}, {addr: e.side[1].addr}}
	first := max(from, 0)
	for _, i := range []int{first, 1 - first} {
		was := &e.side[i]
		ends[i], drop = r.resolve(seat{
			addr: was.addr, port: was.port, was: was,
			initiator: i == 0, sender: i == from, receiver: from != nobody && i != from,
		})
		if drop != 0 {
			break
		}
		ends[i].flags, ends[i].packets, ends[i].bytes = was.flags, was.packets, was.bytes
	}
	if drop == 0 && ends[0].way != wayPod && ends[1].way != wayPod {
		drop = datapath.ReasonUnknownTarget // nobody here answers for it
	}
	if drop != 0 {
		r.src, r.dst = ends[first], ends[1-first]
		if drop == datapath.ReasonUnknownTarget && e.side[0].way == wayPod && !r.k.isPod(e.side[0].addr) {
			r.k.flows.delete(key)
		}
		return false, drop
	}
	before := e.outcome
	e.side = ends
	r.k.stamp(e)
	e.outcome = r.k.judgeFlow(e)
	if e.outcome.refused {
		if !e.denied {
			e.denied, e.expires = true, r.now.Add(datapath.LifetimeDenied*time.Second)
		}
		return false, 0
	}
	e.translated = e.translated || r.isTranslated(e)
	denied := e.denied
	e.denied = false
	return denied || e.outcome.egressCookie != before.egressCookie || e.outcome.ingressCookie != before.ingressCookie, 0
}

// forward lets a packet of an entry through, and reports what is worth it.
func (r *run) forward(e *entry, from int, report ...datapath.EventType) {
	closed := e.note(from, &r.p, len(r.frame), r.now)
	r.recall(e, from)
	r.k.noteFragment(&r.p)
	to := e.side[1-from].route
	answers := r.hook == FromPod && e.translated && from == 1
	if answers && r.k.takesStack(to) {
		to.kind = toClient
	}
	for _, t := range report {
		r.reportFlow(t, e, to)
	}
	if closed {
		r.reportFlow(datapath.EventClose, e, to)
	}
	if answers && !r.answer(&to) {
		r.drop(datapath.ReasonNATNoMapping)
		return
	}
	r.send(to, e.side[from].identity)
}
