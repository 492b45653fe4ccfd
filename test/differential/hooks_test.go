package differential_test

import (
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// hookOf is where packets of somebody meet a program.
func (g *gen) hookOf(from, to *party) kernel.Hook {
	switch {
	case from.kind == localPod:
		return kernel.FromPod
	case from.hop.IsValid() && g.chance(90):
		if to.kind == localPod && g.chance(50) {
			return kernel.ToPod
		}
		return kernel.FromNetwork
	case from.kind == remotePod || from.kind == remoteHost:
		if to.kind == localPod && g.chance(12) {
			return kernel.ToPod
		}
		return kernel.FromOverlay
	case to.kind == localPod:
		switch {
		case from.kind == outside && g.chance(25):
			return kernel.FromOverlay
		case g.near && g.chance(15):
			return kernel.FromNetwork
		}
		return kernel.ToPod
	case from.kind == host:
		return kernel.FromHost
	}
	return g.hook()
}

// hook is any.
func (g *gen) hook() kernel.Hook { return kernel.Hook(g.IntN(int(kernel.FromNetwork) + 1)) }

// place finds the interface of a hook, and the tunnel key.
func (g *gen) place(i *injection, from, to *party) {
	switch i.Hook {
	case kernel.FromPod:
		i.Slot = from.slot
	case kernel.ToPod:
		i.Slot = to.slot
	case kernel.FromHost:
		i.Slot = slotHost
	case kernel.FromNetwork:
		i.Slot = slotNetwork
	case kernel.FromOverlay:
		i.Slot, i.VNI, i.Remote = slotOverlay, uint32(from.ident), from.tunnel
		if !i.Remote.Is4() {
			i.Remote = nodeA
		}
		if from.ident == 0 {
			i.VNI = oneOf[uint32](g, 0, 1, 6, 9, 2001)
		}
	}
}

// misdirect lets a packet come from where it should not.
func (g *gen) misdirect(i *injection) {
	switch g.IntN(4) {
	case 0:
		i.Hook = g.hook()
		i.Slot = g.IntN(podSlots)
		switch i.Hook {
		case kernel.FromOverlay:
			i.Slot, i.Remote = slotOverlay, oneOf(g, nodeA, nodeB)
			i.VNI = uint32(g.identity())
		case kernel.FromNetwork:
			i.Slot = slotNetwork
		}
	case 1:
		if i.Hook != kernel.FromOverlay {
			i.Slot = g.IntN(slots)
		}
	case 2:
		i.VNI = uint32(g.identity())
		if g.chance(20) {
			i.VNI = g.Uint32N(1 << 24)
		}
	case 3:
		i.Remote = oneOf(g, nodeA, nodeB, nodeB, stranger, netip.Addr{})
	}
}

// neighbourly is a conversation with somebody on a node that is a neighbour, as it mostly goes: whole packets, opened
// by one side, answered by the other, and perhaps ended.
func (g *gen) neighbourly() {
	f := g.IntN(2)
	pod, far := g.anyOf(f, localPod), g.anyOf(f, remotePod)
	if !far.hop.IsValid() {
		return
	}
	tcp, sport, dport := g.chance(70), 2000+uint16(g.IntN(4)), g.port()
	opener := g.chance(50) // the pod
	for n := range 3 + g.IntN(5) {
		out := g.chance(40)
		if n < 2 { // there and back
			out = opener == (n == 0)
		}
		from, to, i := far, pod, injection{Hook: kernel.FromNetwork, Note: "from a neighbour"}
		switch {
		case out:
			from, to, i.Hook, i.Note = pod, far, kernel.FromPod, "to a neighbour"
		case n == 0 || g.chance(20):
			i.Hook = kernel.ToPod
		}
		g.place(&i, from, to)
		src, dst := netip.AddrPortFrom(from.addr, sport), netip.AddrPortFrom(to.addr, dport)
		if out != opener {
			src, dst = netip.AddrPortFrom(from.addr, dport), netip.AddrPortFrom(to.addr, sport)
		}
		p := packet.UDP(src, dst, "12345678")
		if tcp {
			p = packet.TCP(src, dst, datapath.TCPAck)
			switch {
			case n == 0:
				p.Flags = datapath.TCPSyn
			case n == 1:
				p.Flags |= datapath.TCPSyn
			case g.chance(30):
				p.Flags |= oneOf(g, datapath.TCPFin, datapath.TCPFin, datapath.TCPRst)
			}
		}
		i.Frame = g.ethernet(p)
		g.send(i)
	}
}
