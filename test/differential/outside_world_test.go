package differential_test

import (
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

// Addresses of load balancers, besides those of the node, by family.
var balancers = [2][]netip.Addr{addrs("203.0.113.80", "10.96.0.1"), addrs("2001:db8:80::1", "fd00:96::1")}

const outsideBackends = 12

// shadow is a fake that lives through what is being generated: it knows which backend a connection has got, so that its
// answers can be made. Its interfaces have the numbers of their slots.
type shadow struct {
	k *kernel.Kernel
	c *clock.Clock
}

func newShadow() *shadow {
	c := clock.New(clock.Epoch)
	return &shadow{c: c, k: kernel.New(kernel.Options{
		Clock: c, Overlay: slotOverlay, Direct: slotNetwork,
		Outside: kernel.Outside{
			Outside: ports.Outside{Devices: []uint32{slotNetwork}, Addresses: outsideAddrs},
			Route:   func(netip.Addr) uint32 { return slotHost },
		},
	})}
}

func shadowWrite[K comparable, V any](t ports.Table[K, V], c *change[K, V]) {
	if c.Value == nil {
		_ = t.Delete(c.Key)
		return
	}
	_ = t.Put(c.Key, *c.Value)
}

// live lets an op happen. Whether it works does not matter: the datapaths under test are asked again.
func (s *shadow) live(o op) {
	t := s.k.Tables()
	switch {
	case o.Endpoint != nil:
		shadowWrite(t.Endpoints, o.Endpoint)
	case o.Word != nil:
		shadowWrite(t.EndpointPolicy, o.Word)
	case o.IPCache != nil:
		shadowWrite(t.IPCache, o.IPCache)
	case o.Class != nil:
		shadowWrite(t.Classes, o.Class)
	case o.Policy != nil:
		shadowWrite(t.Policy, o.Policy)
	case o.Node != nil:
		shadowWrite(t.Nodes, o.Node)
	case o.Service != nil:
		shadowWrite(t.Services, o.Service)
	case o.SlotRow != nil:
		shadowWrite(t.Slots, o.SlotRow)
	case o.Backend != nil:
		shadowWrite(t.Backends, o.Backend)
	case o.BumpAddr != nil:
		_ = s.k.BumpAddr(*o.BumpAddr)
	case o.BumpAll:
		_ = s.k.BumpAll()
	case o.Advance != 0:
		s.c.Advance(secondsOf(o.Advance))
	case o.Collect:
		_, _ = s.k.CollectFlows()
	case o.Flush:
		_, _ = s.k.FlushFlows()
	case o.Packet != nil:
		i := o.Packet
		frame, vlan := i.asSeen()
		s.k.Inject(i.Hook, uint32(i.Slot), frame, kernel.Meta{VNI: i.VNI, Remote: i.Remote, VLAN: vlan, Stray: i.stray(), Split: i.split(), Socket: true})
	}
}

var outsideProtos = []uint8{datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoUDP, datapath.ProtoSCTP}

// frontends are the ports that services have here.
var outsidePorts = []uint16{30080, 80, 53}

// services fills the tables of services for packets from the network.
func (g *gen) services() {
	for id := range uint32(outsideBackends) {
		if g.mostly(92) {
			g.outsideBackend(id + 1)
		}
	}
	for range 6 + g.IntN(6) {
		g.outsideService()
	}
}

// outsideBackend writes a backend: even ones are of IPv6.
func (g *gen) outsideBackend(id uint32) {
	f := 1 - int(id)%2
	p := g.anyOf(f, oneOf(g, localPod, localPod, localPod, remotePod, remotePod, host, outside, remoteHost, nobody))
	g.add(op{Backend: put(id, datapath.Backend{Addr: p.addr, Port: oneOf[uint16](g, 80, 80, 53, 8080, 30080), Proto: datapath.ProtoTCP})})
}

func (g *gen) outsideService() {
	f := g.IntN(2)
	key := datapath.ServiceKey{Port: oneOf(g, outsidePorts...), Proto: oneOf(g, outsideProtos...), Scope: datapath.External}
	switch {
	case g.chance(60):
		key.Addr = anyAddrs[f]
	case g.chance(30):
		key.Addr = g.anyOf(f, host).addr
	default:
		key.Addr = oneOf(g, balancers[f]...)
	}
	if g.chance(6) {
		key.Scope = datapath.Internal // not for the network
	}
	row := datapath.Service{
		ID: uint32(1 + g.IntN(12)), Count: uint32(1 + g.IntN(4)), AffinityTimeout: oneOf[uint32](g, 0, 0, 0, 5, 60, 10800), Local: g.chance(10),
	}
	if g.rarely(10) {
		row.Count = 0
	}
	for n := range row.Count {
		if !g.mostly(85) {
			continue
		}
		id := uint32(1 + g.IntN(outsideBackends/2)*2 + f)
		if g.rarely(10) {
			id = uint32(1 + g.IntN(outsideBackends+2))
		}
		g.add(op{SlotRow: put(datapath.SlotKey{Service: row.ID, Slot: n + 1}, id)})
	}
	g.add(op{Service: put(key, row)})
}

// serviceEvent changes something about services.
func (g *gen) serviceEvent() {
	switch n := g.IntN(10); {
	case n < 3:
		g.outsideService()
	case n < 6:
		g.outsideBackend(uint32(1 + g.IntN(outsideBackends)))
	case n < 9:
		g.add(op{Backend: remove[uint32, datapath.Backend](uint32(1 + g.IntN(outsideBackends)))})
	default:
		rows, _ := g.shadow.k.Tables().Services.Dump()
		if len(rows) > 0 {
			g.add(op{Service: remove[datapath.ServiceKey, datapath.Service](rows[g.IntN(len(rows))].Key)})
		}
	}
}

// fromOutside is a packet of a connection that a service takes, or may take, from the network.
func (g *gen) fromOutside() {
	rows, _ := g.shadow.k.Translations() // most recently used first
	if len(rows) == 0 || g.chance(30) {
		g.newClient()
		return
	}
	row := rows[g.IntN(min(len(rows), 1+g.IntN(len(rows))))]
	f := familyOf(row.From.Src.Addr())
	from, to := g.party(f, row.From.Src.Addr()), g.party(f, row.To.Dst.Addr())
	switch {
	case g.chance(15):
		g.complain(row)
	case row.Reply && from.kind == host:
		g.emit(row.From, kernel.ToNetwork, &from, g.answerFlags())
	case row.Reply:
		hook := g.hookOf(&from, &to)
		if from.kind == outside || hook == kernel.ToPod || hook == kernel.FromHost {
			hook = kernel.FromNetwork
		}
		g.emit(row.From, hook, &from, g.answerFlags())
	case row.Here && to.kind == localPod && g.chance(50): // what from_network has left to the stack
		g.emit(row.To, kernel.ToPod, &to, g.tcpFlags(false))
	default:
		hook := kernel.FromNetwork
		if row.Node.IsValid() {
			hook = kernel.FromOverlay
		}
		g.emit(row.From, hook, &from, g.tcpFlags(false))
	}
}

// complain sends an ICMP error about a packet as it was after its translation, from where it went or from a router on the way.
func (g *gen) complain(row datapath.Translation) {
	t := row.To
	f := familyOf(t.Src.Addr())
	quoted := packet.Packet{Src: t.Src.Addr(), Dst: t.Dst.Addr(), SPort: t.Src.Port(), DPort: t.Dst.Port(), Proto: t.Proto, Payload: make([]byte, 30)}
	g.decorate(&quoted)
	head := g.ethernet(quoted)[packet.EthernetLen:]
	if len(head) > 1200 || g.chance(60) {
		head = head[:min(len(head), oneOf(g, 28, 27, 40, 48, 47, 60, 68, 100))]
	}
	typ := oneOf[uint8](g, 3, 3, 3, 11, 12)
	if f == 1 {
		typ = oneOf[uint8](g, 1, 2, 2, 3, 4)
	}
	from, to := g.party(f, t.Dst.Addr()), g.party(f, t.Src.Addr())
	hook := kernel.FromNetwork
	switch {
	case from.kind == localPod && g.chance(60):
		hook = kernel.FromPod
	case row.Here && !row.Reply:
		from, hook = *g.anyOf(f, host), kernel.ToNetwork
	case from.kind == remotePod && g.chance(50):
		hook = kernel.FromOverlay
	}
	if g.chance(20) { // a router on the way
		from = *g.any(f)
	}
	p := packet.ICMP(from.addr, to.addr, typ, uint8(g.IntN(6)))
	p.Payload = head
	if g.chance(10) {
		g.decorate(&p)
	}
	i := injection{Hook: hook, Note: "ICMP error about a service"}
	place := from
	if hook == kernel.FromPod {
		place = g.party(f, t.Dst.Addr())
	}
	g.place(&i, &place, &to)
	i.Frame = g.ethernet(p)
	if g.rarely(5) {
		g.spoil(&i, p)
	}
	g.send(i)
}

func (g *gen) answerFlags() uint8 { return g.tcpFlags(true) }

// newClient begins a connection, now and then under ports that are in use.
func (g *gen) newClient() {
	f := g.IntN(2)
	from := g.anyOf(f, oneOf(g, outside, outside, outside, remotePod, remoteHost, localPod))
	to := g.anyOf(f, host).addr
	if g.chance(35) {
		to = oneOf(g, balancers[f]...)
	}
	if g.chance(4) {
		to = g.any(f).addr
	}
	t := datapath.Tuple{
		Src:   netip.AddrPortFrom(from.addr, oneOf[uint16](g, 4000, 4001, 80, 30080)),
		Dst:   netip.AddrPortFrom(to, oneOf(g, outsidePorts...)),
		Proto: oneOf(g, outsideProtos...),
	}
	hook := kernel.FromNetwork
	if from.kind != outside && g.chance(70) {
		hook = kernel.FromOverlay
	}
	flags := datapath.TCPSyn
	if g.chance(30) {
		flags = g.tcpFlags(false)
	}
	g.emit(t, hook, from, flags)
}

// emit sends a packet with a tuple.
func (g *gen) emit(t datapath.Tuple, hook kernel.Hook, who *party, flags uint8) {
	p := packet.Packet{Src: t.Src.Addr(), Dst: t.Dst.Addr(), SPort: t.Src.Port(), DPort: t.Dst.Port(), Proto: t.Proto}
	if t.Proto == datapath.ProtoTCP {
		p.Flags = flags
	}
	p.Payload = make([]byte, oneOf(g, 0, 0, 4, 9, 20, 100))
	for i := range p.Payload {
		p.Payload[i] = byte(g.Uint32())
	}
	if hook == kernel.FromNetwork && g.chance(5) {
		p.TTL = 1
	}
	g.decorate(&p)
	i := injection{Hook: hook, Note: "service"}
	g.place(&i, who, who)
	if len(p.Payload) >= 8 && g.chance(20) {
		g.fragments(p, i)
		return
	}
	i.Frame = g.ethernet(p)
	if t.Proto == datapath.ProtoUDP && g.chance(15) {
		noChecksum(i.Frame, p)
	}
	if g.rarely(5) {
		g.spoil(&i, p)
	}
	if g.rarely(4) {
		g.misdirect(&i)
	}
	g.send(i)
}

// noChecksum takes the checksum out of a whole UDP datagram.
func noChecksum(frame []byte, p packet.Packet) {
	at := packet.EthernetLen + packet.IPv4Len + len(p.Options)
	if p.Src.Is6() {
		at = packet.EthernetLen + packet.IPv6Len
	}
	if len(p.Ext) == 0 && p.Frag == nil && len(frame) >= at+8 {
		frame[at+6], frame[at+7] = 0, 0
	}
}
