package kernel

import (
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// natRow is a row of the nat table: half of a connection that a service took from the network.
type natRow struct {
	to      datapath.Tuple
	reply   bool
	state   datapath.NATState
	here    bool // the backend is a pod of this node, or the node itself
	backend uint32
	ifindex uint32     // of the device that the client's first packet came by
	node    netip.Addr // that tunnelled it here; invalid: it came by a device
	expires time.Time
}

func (n *natRow) live(now time.Time) bool { return n != nil && now.Before(n.expires) }

// other is the row of the other direction of a connection with this row under the key.
func (n *natRow) other(key datapath.Tuple) *natRow {
	o := *n
	o.to, o.reply = key.Reverse(), !n.reply
	return &o
}

func (r *run) tuple() datapath.Tuple {
	return datapath.Tuple{Src: netip.AddrPortFrom(r.p.src, r.p.sport), Dst: netip.AddrPortFrom(r.p.dst, r.p.dport), Proto: r.p.proto}
}

// natOf looks a tuple up; nil if it has no row.
func (k *Kernel) natOf(t datapath.Tuple) *natRow {
	row, _ := k.nat.get(t)
	return row
}

// translation is the row that serves the packet, which may be made for it; nil if it is no service's, or the reason why
// there is none.
func (r *run) translation() (*natRow, datapath.Reason) {
	if !datapath.HasPorts(r.p.proto) {
		return nil, 0
	}
	t := r.tuple()
	if row := r.k.natOf(t); row.live(r.now) && r.serves(row) && r.use(t, row) {
		return row, 0
	}
	return r.choose(t)
}

// serves says whether a live row is still good for the packet.
func (r *run) serves(row *natRow) bool {
	if row.reply {
		return !row.here // what answers here does not come from the network
	}
	if r.p.opensTCP() {
		return false
	}
	if _, ok := r.k.backends.rows[row.backend]; !ok && r.p.proto != datapath.ProtoTCP {
		return false
	}
	_, here := r.k.endpoints.rows[row.to.Dst.Addr()]
	return here == row.here
}

// use renews a row and the one of the other direction; false if somebody else has that one.
func (r *run) use(t datapath.Tuple, row *natRow) bool {
	key := row.to.Reverse()
	pair := r.k.natOf(key)
	ours := pair != nil && pair.reply != row.reply && pair.to == t.Reverse()
	if !ours && pair.live(r.now) {
		return false
	}
	if row.reply && row.state == datapath.NATNew {
		row.state = datapath.NATAnswered
	}
	if r.p.proto == datapath.ProtoTCP && r.p.flags&(datapath.TCPFin|datapath.TCPRst) != 0 {
		row.state = datapath.NATClosing
	}
	row.expires = r.now.Add(datapath.NATLifetime(row.state, r.p.proto))
	if ours {
		pair.state, pair.expires = row.state, row.expires
	} else {
		r.k.nat.put(key, row.other(t))
	}
	return true
}

// external finds the service of a tuple from the network.
func (k *Kernel) external(t datapath.Tuple) (datapath.ServiceKey, datapath.Service, bool) {
	key := datapath.ServiceKey{Addr: t.Dst.Addr(), Port: t.Dst.Port(), Proto: t.Proto, Scope: datapath.External}
	if s, ok := k.services.rows[key]; ok {
		return key, s, true
	}
	key.Addr = anyLike(t.Dst.Addr())
	s, ok := k.services.rows[key]
	ep, here := k.endpoints.rows[t.Dst.Addr()]
	return key, s, ok && here && ep.Host
}

// clientOf is what affinity knows a client from the network as.
func clientOf(a netip.Addr) (client uint64) {
	for i, b := range a.As16() {
		client ^= uint64(b) << (8 * (7 - i%8))
	}
	return client
}

// pickByHash chooses the backend of a connection from the network.
func (r *run) pickByHash(t datapath.Tuple, s datapath.Service) (id uint32, b datapath.Backend, ok bool) {
	k, client := r.k, affinityKey{s.ID, clientOf(t.Src.Addr())}
	usable := func(id uint32) bool {
		b, ok = k.backends.rows[id]
		ok = ok && b.Addr.Is4() == t.Dst.Addr().Is4()
		return ok
	}
	if s.Count == 0 {
		return 0, b, false
	}
	timeout := time.Duration(s.AffinityTimeout) * time.Second
	if last, known := k.affinity.get(client); timeout > 0 && known && r.now.Sub(last.used) < timeout && usable(last.backend) {
		id = last.backend
	}
	for i := uint32(0); i < slotTries && !ok; i++ {
		var found bool
		if id, found = k.slots.rows[datapath.SlotKey{Service: s.ID, Slot: (t.Hash()+i)%s.Count + 1}]; found {
			usable(id)
		}
	}
	if ok && timeout > 0 {
		k.affinity.put(client, affinityRow{id, r.now})
	}
	return id, b, ok
}

// choose begins a connection.
func (r *run) choose(t datapath.Tuple) (*natRow, datapath.Reason) {
	_, service, ok := r.k.external(t)
	if !ok {
		return nil, 0
	}
	id, b, ok := r.pickByHash(t, service)
	switch {
	case !ok:
		return nil, datapath.ReasonNoBackend
	case t.Proto == datapath.ProtoSCTP && b.Port != t.Dst.Port():
		return nil, datapath.ReasonNATProtocol
	}
	_, here := r.k.endpoints.rows[b.Addr]
	n := &natRow{
		here: here, backend: id, ifindex: r.ifindex, expires: r.now.Add(datapath.NATLifetime(datapath.NATNew, t.Proto)),
		to: datapath.Tuple{Src: t.Src, Dst: netip.AddrPortFrom(b.Addr, b.Port), Proto: t.Proto},
	}
	if r.hook == FromOverlay {
		n.node = r.meta.Remote
	}
	if !here {
		own, ok := r.k.outside.address(t.Src.Addr())
		if !ok {
			return nil, datapath.ReasonNATNoMapping
		}
		n.to.Src = netip.AddrPortFrom(own, t.Src.Port())
	}
	for i := range uint32(datapath.NATTries) {
		if own := i == 0 && (here || t.Proto == datapath.ProtoSCTP); !own {
			if t.Proto == datapath.ProtoSCTP {
				break
			}
			port := datapath.NATPortFirst + (t.Hash()+i)%datapath.NATPortCount
			n.to.Src = netip.AddrPortFrom(n.to.Src.Addr(), uint16(port))
		}
		reply := n.to.Reverse()
		if taken := r.k.natOf(reply); taken.live(r.now) && !(taken.reply && taken.to == t.Reverse()) {
			continue
		}
		r.k.nat.put(reply, n.other(t))
		r.k.nat.put(t, n)
		return n, 0
	}
	return nil, datapath.ReasonNATNoMapping
}

// isTranslated says whether the flow's client was led to its pod by a service.
func (r *run) isTranslated(e *entry) bool {
	client, pod := &e.side[0], &e.side[1]
	if !r.k.outside.on() || !datapath.HasPorts(e.proto) || client.route.kind == toPod || pod.way != wayPod {
		return false
	}
	row := r.k.natOf(datapath.Tuple{Src: netip.AddrPortFrom(pod.addr, pod.port), Dst: netip.AddrPortFrom(client.addr, client.port), Proto: e.proto})
	return row.live(r.now) && row.reply
}

// aboutTranslated finds the live row under the reverse of the tuple that an error quotes, and what the error is to quote.
func (r *run) aboutTranslated() (row *natRow, quoted, sent datapath.Tuple) {
	inner, ok := r.complains()
	if !ok || !datapath.HasPorts(inner.proto) {
		return nil, quoted, sent
	}
	quoted = datapath.Tuple{
		Src: netip.AddrPortFrom(inner.src, inner.sport), Dst: netip.AddrPortFrom(inner.dst, inner.dport), Proto: inner.proto,
	}
	if row = r.k.natOf(quoted.Reverse()); !row.live(r.now) {
		return nil, quoted, sent
	}
	return row, quoted, row.to.Reverse()
}

// answer lets a pod's answer come from the frontend that the client knows, and names the way to it; false: the row is gone.
func (r *run) answer(to *route) bool {
	t := r.tuple()
	row := r.k.natOf(t)
	if !row.live(r.now) || !row.reply || !r.use(t, row) {
		return false
	}
	r.rewrite(row.to)
	if to.kind == toClient {
		to.ifindex = row.ifindex
	}
	return true
}

// Translations lists the nat table, most recently used first, expired rows included.
func (k *Kernel) Translations() ([]datapath.Translation, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("list", "nat", nil); err != nil {
		return nil, err
	}
	now := k.clock.Now()
	out := make([]datapath.Translation, 0, k.nat.len())
	k.nat.each(func(from datapath.Tuple, n *natRow) {
		out = append(out, datapath.Translation{
			From: from, To: n.to, Reply: n.reply, State: n.state, Here: n.here, Backend: n.backend, Ifindex: n.ifindex,
			Node: n.node, Expires: n.expires.Sub(now),
		})
	})
	return out, nil
}

// collectNAT removes expired rows; the caller holds the lock.
func (k *Kernel) collectNAT(now time.Time) {
	k.nat.each(func(t datapath.Tuple, n *natRow) {
		if !n.live(now) {
			k.nat.delete(t)
		}
	})
}
