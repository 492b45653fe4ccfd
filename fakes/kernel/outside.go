package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// Outside says how packets for services come from the network. The zero value: not at all.
type Outside struct {
	ports.Outside

	// Route is the device to an address that the tables know no way to; 0: none. Nil: all by the first device. It must
	// not call the kernel.
	Route func(netip.Addr) uint32
}

func (o *Outside) on() bool { return len(o.Devices) > 0 || len(o.Addresses) > 0 }

// device is the first one; 0: there is none.
func (o *Outside) device() uint32 {
	if len(o.Devices) == 0 {
		return 0
	}
	return o.Devices[0]
}

// address is the node's own of a family.
func (o *Outside) address(like netip.Addr) (netip.Addr, bool) {
	i := slices.IndexFunc(o.Addresses, func(a netip.Addr) bool { return a.Is4() == like.Is4() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return o.Addresses[i], true
}

func (o *Outside) route(to netip.Addr) uint32 {
	if o.Route == nil {
		return o.device()
	}
	return o.Route(to)
}

// served is what came of a packet that may be a service's.
type served int

const (
	notServed  served = iota
	servedHere        // rewritten, and goes on
	servedAway        // dropped, or sent on its way
)

// serveOutside takes a packet to a service's backend, or a backend's answer to its client.
func (r *run) serveOutside() served {
	if !r.k.outside.on() || r.lost {
		return notServed
	}
	row, drop := r.translation()
	if drop != 0 {
		r.dropAs(drop, datapath.Ingress)
		return servedAway
	}
	client := r.p.src
	if row != nil {
		r.k.noteFragment(&r.p) // by the addresses of the wire the later ones are known
		r.rewrite(row.to)
	} else {
		var quoted, sent datapath.Tuple
		if row, quoted, sent = r.aboutTranslated(); row == nil {
			return notServed
		}
		r.rewriteError(row, quoted, sent)
	}
	if row.here && !row.reply {
		return servedHere
	}
	r.sendAway(row, client)
	return servedAway
}

// sendAway sends a rewritten packet to a backend elsewhere, or back to the client.
func (r *run) sendAway(row *natRow, client netip.Addr) {
	way, known := r.k.lookupIPCache(r.p.dst)
	if !known {
		way = datapath.IPCache{}
	}
	if way.NextHop.IsValid() && !row.reply && r.k.direct != 0 {
		r.res.Action, r.res.Ifindex, r.res.Remote = Direct, r.k.direct, way.NextHop
		r.sent()
		return
	}
	if !way.Tunnel.IsValid() && row.reply {
		way.Tunnel = row.node
	}
	if way.Tunnel.IsValid() {
		vni := identity.RemoteNode
		if !row.reply {
			vni = r.vniOf(client)
		}
		r.res.Action, r.res.Ifindex, r.res.VNI, r.res.Remote = Tunnel, r.k.overlay, uint32(vni), way.Tunnel
		copy(r.frame, datapath.OverlayMAC[:])
		copy(r.frame[6:], overlaySource[:])
		r.sent()
		return
	}
	ifindex := row.ifindex
	if !row.reply {
		ifindex = r.k.outside.route(r.p.dst)
	}
	if ifindex == 0 {
		r.dropAs(datapath.ReasonNoRoute, datapath.Ingress)
		return
	}
	r.res.Action, r.res.Ifindex = Direct, ifindex
	r.sent()
}

// sent counts a packet that leaves the node again.
func (r *run) sent() {
	r.res.Frame = slices.Clone(r.frame)
	r.k.count(datapath.ReasonNone, datapath.Egress, len(r.frame))
}

// vniOf is what the client is for another node.
func (r *run) vniOf(client netip.Addr) identity.ID {
	if r.hook == FromOverlay {
		return r.vni
	}
	row, known := r.k.lookupIPCache(client)
	if known && row.Identity != identity.Unknown && row.Identity <= identity.MaxCluster {
		return row.Identity
	}
	return worldOf(client)
}

// rewrite gives a copy of the frame other ends, and reads them.
func (r *run) rewrite(to datapath.Tuple) {
	r.frame = slices.Clone(r.frame)
	b := r.frame[ethernetLen:]
	end, addrs := 0, []byte(nil)
	if r.p.v6 {
		end, addrs = ipv6Len+int(binary.BigEndian.Uint16(b[4:])), b[8:40]
	} else {
		end, addrs = int(binary.BigEndian.Uint16(b[2:])), b[12:20]
	}
	was := slices.Clone(addrs)
	copy(addrs, to.Src.Addr().AsSlice())
	copy(addrs[len(addrs)/2:], to.Dst.Addr().AsSlice())
	if !r.p.v6 {
		mend(b[10:12], was, addrs)
	}
	if r.p.fragment != laterFragment && r.p.proto != datapath.ProtoSCTP {
		l4 := b[end-len(r.p.l4) : end]
		at := 16
		if r.p.proto == datapath.ProtoUDP {
			at = 6
		}
		sum := l4[at : at+2]
		oldPorts := slices.Clone(l4[:4])
		binary.BigEndian.PutUint16(l4, to.Src.Port())
		binary.BigEndian.PutUint16(l4[2:], to.Dst.Port())
		if none := r.p.proto == datapath.ProtoUDP && sum[0] == 0 && sum[1] == 0; !none {
			mend(sum, append(was, oldPorts...), append(slices.Clone(addrs), l4[:4]...))
			if r.p.proto == datapath.ProtoUDP && sum[0] == 0 && sum[1] == 0 {
				sum[0], sum[1] = 0xff, 0xff // 0 means that there is none
			}
		}
		r.p.l4 = l4
	}
	r.p.src, r.p.dst, r.p.sport, r.p.dport = to.Src.Addr(), to.Dst.Addr(), to.Src.Port(), to.Dst.Port()
	r.src.addr, r.dst.addr = r.p.src, r.p.dst
}

// mend changes an Internet checksum for words that changed (RFC 1624). The sum is never 0 before it is complemented: that is the
// one of the two zeros that the kernel's arithmetic cannot reach.
func mend(sum, was, is []byte) {
	s := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(was); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(is[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	if s == 0 {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}

// rewriteError gives a copy of an ICMP error, which quotes a packet as it was after its translation, other ends, and lets it quote
// the packet as it was sent.
func (r *run) rewriteError(row *natRow, quoted, sent datapath.Tuple) {
	inner, _ := r.p.quoted()
	r.frame = slices.Clone(r.frame)
	b := r.frame[ethernetLen:]
	src, dst := row.to.Src.Addr(), row.to.Dst.Addr()
	if !row.reply && row.here {
		src = r.p.src
	}
	addrsAt, headerSum, end := 12, true, int(binary.BigEndian.Uint16(b[2:]))
	if r.p.v6 {
		addrsAt, headerSum, end = 8, false, ipv6Len+int(binary.BigEndian.Uint16(b[4:]))
	}
	message := b[end-len(r.p.l4) : end]
	change := func(packet []byte, src, dst netip.Addr) (was, is []byte) {
		addrs := packet[addrsAt:]
		was = slices.Clone(addrs[:2*len(src.AsSlice())])
		is = append(src.AsSlice(), dst.AsSlice()...)
		copy(addrs, is)
		if headerSum {
			mend(packet[10:12], was, is)
		}
		return was, is
	}
	outerWas, outerIs := change(b, src, dst)
	innerWas, innerIs := change(message[8:], sent.Src.Addr(), sent.Dst.Addr())
	var was, is []byte
	if r.p.v6 { // IPv4's sums balance what changes in headers, and ICMP of IPv4 does not cover the ends
		was, is = append(outerWas, innerWas...), append(outerIs, innerIs...)
	}
	if inner.fragment != laterFragment {
		ports := message[inner.l4At(message[8:])+8:]
		was = append(was, ports[:4]...)
		binary.BigEndian.PutUint16(ports, sent.Src.Port())
		binary.BigEndian.PutUint16(ports[2:], sent.Dst.Port())
		is = append(is, ports[:4]...)
	}
	mend(message[2:4], was, is)
	r.p.l4, r.p.src, r.p.dst = message, src, dst
	r.src.addr, r.dst.addr = src, dst
}

// l4At is where the L4 header of a packet lies that begins with its IP header, and whose end may be cut off.
func (p *reading) l4At(b []byte) int {
	end := int(binary.BigEndian.Uint16(b[2:]))
	if p.v6 {
		end = ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	}
	return min(end, len(b)) - len(p.l4)
}

// toNetwork lets what the node itself answers to clients of services, or says of their packets, come from the frontend.
func (r *run) toNetwork() {
	r.leave()
	p, drop := parse(r.frame, r.meta.VLAN)
	if !r.meta.Socket || !r.k.outside.on() || drop != 0 || p.arp {
		return
	}
	r.lost = !r.k.completeFragment(&p)
	r.p = p
	if r.lost {
		return
	}
	if datapath.HasPorts(p.proto) {
		to := route{}
		if before := r.p; r.answer(&to) {
			r.k.noteFragment(&before)
		}
	} else if row, quoted, sent := r.aboutTranslated(); row != nil && row.reply {
		r.rewriteError(row, quoted, sent)
	}
	r.leave()
}

// takesStack says whether what goes that way is left to the kernel's routes.
func (k *Kernel) takesStack(to route) bool {
	return to.kind == toStack || to.kind == toNeighbour && k.direct == 0
}

// sendError lets an ICMP error of a pod here go to a side of the flow that it is about.
func (r *run) sendError(e *entry, to side, sender identity.ID) {
	way := to.route
	if !e.translated || to.addr != e.side[0].addr || to.port != e.side[0].port {
		r.send(way, sender)
		return
	}
	row, quoted, sent := r.aboutTranslated()
	if row == nil || !row.reply {
		r.drop(datapath.ReasonNATNoMapping)
		return
	}
	if r.k.takesStack(way) {
		way.kind, way.ifindex = toClient, row.ifindex
	}
	r.rewriteError(row, quoted, sent)
	r.send(way, sender)
}
