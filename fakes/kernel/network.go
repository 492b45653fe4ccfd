package kernel

import "github.com/weirnet/weir/core/datapath"

// fromNetwork takes a shortcut past the stack where a flow leads from a neighbour to a pod, takes packets of services
// to their backends and clients, and leaves everything else alone: not counted, not reported.
func (r *run) fromNetwork() {
	r.leave()
	p, drop := parse(r.frame, r.meta.VLAN)
	if r.meta.Stray || drop != 0 || p.arp {
		return
	}
	r.lost = !r.k.completeFragment(&p)
	r.p = p
	if r.ifindex == r.k.direct && !r.meta.Split && p.plain() && p.hopLimit > 1 && r.shortcut() {
		return
	}
	*r = run{k: r.k, now: r.now, hook: r.hook, ifindex: r.ifindex, meta: r.meta, frame: r.frame, p: p, lost: r.lost, res: r.res}
	if r.serveOutside() == servedHere {
		r.leave()
	}
}

// leave lets the packet go on as it is.
func (r *run) leave() { r.res.Action, r.res.Frame = Pass, append([]byte(nil), r.frame...) }

// shortcut sends a packet of a flow from a neighbour's pod to a pod here; false: it leaves it.
func (r *run) shortcut() bool {
	e, from := r.entry()
	if e == nil || e.state == stateClosing && r.p.opensTCP() {
		return r.openFromNeighbour()
	}
	if e.denied || !r.k.current(e) {
		return false
	}
	sender, receiver := &e.side[from], &e.side[1-from]
	if sender.in != 0 || sender.route.kind != toNeighbour || receiver.route.kind != toPod {
		return false
	}
	r.reply = from == 1
	r.forward(e, from)
	return true
}

// openFromNeighbour judges the first packet of a flow that comes from a pod of a neighbour. What to_pod would drop is
// left to it.
func (r *run) openFromNeighbour() bool {
	_, here := r.k.endpoints.rows[r.p.src]
	row, _ := r.k.lookupIPCache(r.p.src)
	if here || !row.NextHop.IsValid() {
		return false
	}
	key, e, drop := r.judgeNew()
	if drop != 0 || e.outcome.refused || !r.k.insertFlow(key, e) {
		return false
	}
	r.forward(e, 0, datapath.EventNew)
	return true
}
