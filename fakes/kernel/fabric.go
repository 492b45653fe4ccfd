package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/packet"
)

// Fabric joins kernels into a cluster: an underlay between nodes, pods behind their veths, machines
// outside. Pods, nodes and machines have a small network stack of their own: it answers pings, and on
// ports that it listens on it answers every message with "NAME: MESSAGE". Everything happens inside the
// call that causes it, in a fixed order. Safe for concurrent use; one operation runs at a time.
//
// Names of pods, nodes and machines share one space. Configuration errors (a name used twice, an unknown
// one) are mistakes of the test and panic.
type Fabric struct {
	mu        sync.Mutex
	parties   map[string]*party
	order     []*party // as added: addresses are looked up in this order
	nodes     map[string]*fabricNode
	underlay  map[netip.Addr]*fabricNode
	announced map[netip.Addr]*fabricNode

	queue    []func()
	trace    Trace
	nextPort uint16
	cookies  uint64
}

// NodeConfig describes a node of a fabric.
type NodeConfig struct {
	Name     string
	Kernel   *Kernel
	Underlay []netip.Addr // the machine's addresses; tunnelled packets come from the one of the remote's family
	Routers  []netip.Addr // the node's addresses inside its pod CIDRs; it talks to other nodes' pods from these
}

// PodConfig describes a pod of a fabric.
type PodConfig struct {
	Name    string
	Node    string
	Ifindex uint32 // host side of its veth
	MAC     datapath.MAC
	NodeMAC datapath.MAC
	Addrs   []netip.Addr
}

type fabricNode struct {
	name     string
	k        *Kernel
	underlay []netip.Addr
	host     *party
	pods     map[uint32]*party
}

// NewFabric makes an empty fabric.
func NewFabric() *Fabric {
	return &Fabric{
		parties: make(map[string]*party), nodes: make(map[string]*fabricNode),
		underlay: make(map[netip.Addr]*fabricNode), announced: make(map[netip.Addr]*fabricNode), nextPort: 40000,
	}
}

func (f *Fabric) add(p *party) {
	if f.parties[p.name] != nil {
		panic(fmt.Sprintf("fabric: %q exists already", p.name))
	}
	f.cookies++
	p.f, p.netns = f, f.cookies
	p.listening = make(map[listener]bool)
	p.sockets = make(map[socketKey]*socket)
	f.parties[p.name] = p
	f.order = append(f.order, p)
}

// AddNode adds a node. Its own stack answers at Underlay and Routers.
func (f *Fabric) AddNode(c NodeConfig) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &fabricNode{name: c.Name, k: c.Kernel, underlay: c.Underlay, pods: make(map[uint32]*party)}
	n.host = &party{name: c.Name, node: n, addrs: append(append([]netip.Addr(nil), c.Underlay...), c.Routers...), routers: c.Routers}
	f.add(n.host)
	n.k.inNetns(n.host.netns)
	f.nodes[c.Name] = n
	for _, a := range c.Underlay {
		f.underlay[a] = n
	}
}

// AddPod adds a pod to a node. Its packets go nowhere until AttachPod was called for its interface.
func (f *Fabric) AddPod(c PodConfig) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[c.Node]
	if n == nil {
		panic(fmt.Sprintf("fabric: pod %q: no node %q", c.Name, c.Node))
	}
	p := &party{name: c.Name, node: n, pod: true, ifindex: c.Ifindex, mac: c.MAC, nodeMAC: c.NodeMAC, addrs: c.Addrs}
	f.add(p)
	n.pods[c.Ifindex] = p
}

// RemovePod takes a pod away with its veth; a pod that is not there is no mistake.
func (f *Fabric) RemovePod(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parties[name]
	if p == nil || !p.pod {
		return
	}
	delete(p.node.pods, p.ifindex)
	delete(f.parties, name)
	for i, q := range f.order {
		if q == p {
			f.order = append(f.order[:i], f.order[i+1:]...)
			break
		}
	}
}

// RemoveNode takes a node away with its pods, like a machine that is switched off; one that is not there
// is no mistake. A node of the same name can be added again, with another kernel.
func (f *Fabric) RemoveNode(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	if n == nil {
		return
	}
	f.order = slices.DeleteFunc(f.order, func(p *party) bool {
		if p.node != n {
			return false
		}
		delete(f.parties, p.name)
		return true
	})
	n.pods = map[uint32]*party{}
	delete(f.nodes, name)
	for _, a := range n.underlay {
		if f.underlay[a] == n {
			delete(f.underlay, a)
		}
	}
}

// AddMachine adds a machine outside the cluster. It reaches pods through their nodes.
func (f *Fabric) AddMachine(name string, addrs ...netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(&party{name: name, addrs: addrs})
}

// Listen makes a pod, node or machine answer on a port. Protocols: TCP and UDP.
func (f *Fabric) Listen(name string, proto uint8, port uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.party(name).listening[listener{proto, port}] = true
}

func (f *Fabric) party(name string) *party {
	p := f.parties[name]
	if p == nil {
		panic(fmt.Sprintf("fabric: no pod, node or machine %q", name))
	}
	return p
}

func (f *Fabric) at(a netip.Addr) *party {
	for _, p := range f.order {
		if p.has(a) {
			return p
		}
	}
	return nil
}

// run does something and everything that follows from it, and returns the trace.
func (f *Fabric) run(start func()) Trace {
	f.trace = Trace{}
	f.queue = append(f.queue, start)
	for len(f.queue) > 0 {
		next := f.queue[0]
		f.queue = f.queue[1:]
		next()
		if len(f.trace.Steps) > maxSteps {
			f.queue = nil
			f.trace.add(Step{Note: "packets go in circles"})
		}
	}
	return f.trace
}

const maxSteps = 1000

func (f *Fabric) later(what func()) { f.queue = append(f.queue, what) }

// inject runs a hook and notes the step.
func (f *Fabric) inject(n *fabricNode, h Hook, ifindex uint32, frame []byte, m Meta) Result {
	res := n.k.Inject(h, ifindex, frame, m)
	f.trace.add(Step{Node: n.name, Hook: h, Ifindex: ifindex, Packet: describe(frame), Frame: frame, Meta: m, Result: &res})
	return res
}

// fromPod takes a frame that a pod sends.
func (f *Fabric) fromPod(p *party, frame []byte) {
	n := p.node
	if n.pods[p.ifindex] != p || !n.k.isAttached(p.ifindex) {
		f.lost(n.name, frame, fmt.Sprintf("interface %d carries no pod programs", p.ifindex))
		return
	}
	f.carry(n, f.inject(n, FromPod, p.ifindex, frame, Meta{}))
}

// inNetns says which network namespace is the node's own.
func (k *Kernel) inNetns(cookie uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.netns = cookie
}

func (k *Kernel) isAttached(ifindex uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.attached[ifindex]
}

// carry does what a hook decided.
func (f *Fabric) carry(n *fabricNode, res Result) {
	switch res.Action {
	case Pass:
		f.later(func() { f.stack(n, res.Frame) })
	case RedirectPeer:
		f.deliver(n, res.Ifindex, res.Frame)
	case Direct:
		f.direct(n, res)
	case Tunnel:
		f.tunnel(n, res)
	}
}

// direct takes a frame to a neighbour as it is.
func (f *Fabric) direct(from *fabricNode, res Result) {
	if !res.Remote.IsValid() {
		f.routed(from, res.Frame)
		return
	}
	to := f.underlay[res.Remote]
	if to == nil {
		f.lost(from.name, res.Frame, fmt.Sprintf("%s is no neighbour", res.Remote))
		return
	}
	f.later(func() { f.arrive(to, res.Frame) })
}

// routed takes a frame to whoever has its address, or is said to, past the node's own stack.
func (f *Fabric) routed(from *fabricNode, frame []byte) {
	p, err := packet.Read(frame)
	if err != nil {
		f.lost(from.name, frame, err.Error())
		return
	}
	to := f.at(p.Dst)
	switch n := f.announced[p.Dst]; {
	case n != nil:
		f.later(func() { f.arrive(n, frame) })
	case to == nil:
		f.lost(from.name, frame, "nobody has the address "+p.Dst.String())
	case to.node != nil:
		f.later(func() { f.arrive(to.node, frame) })
	default:
		f.later(func() { to.receive(frame) })
	}
}

// Announce lets the network bring packets to an address that no party has to a node, as for a load balancer's; a node that
// does not exist takes that back.
func (f *Fabric) Announce(a netip.Addr, node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.announced[a] = f.nodes[node]
}

// arrive takes a frame that reached a node through the underlay, for whomever it is.
func (f *Fabric) arrive(n *fabricNode, frame []byte) {
	device := n.k.direct
	if device == 0 && n.k.outside.on() {
		device = n.k.outside.device()
	}
	if device == 0 {
		f.stack(n, frame)
		return
	}
	f.carry(n, f.inject(n, FromNetwork, device, frame, Meta{}))
}

func (f *Fabric) deliver(n *fabricNode, ifindex uint32, frame []byte) {
	pod := n.pods[ifindex]
	if pod == nil {
		f.lost(n.name, frame, fmt.Sprintf("no pod behind interface %d", ifindex))
		return
	}
	f.later(func() { pod.receive(frame) })
}

func (f *Fabric) tunnel(from *fabricNode, res Result) {
	to := f.underlay[res.Remote]
	var sender netip.Addr
	for _, a := range from.underlay {
		if a.Is4() == res.Remote.Is4() {
			sender = a
			break
		}
	}
	if to == nil || !sender.IsValid() {
		f.lost(from.name, res.Frame, fmt.Sprintf("no way through the underlay to %s", res.Remote))
		return
	}
	f.later(func() {
		f.carry(to, f.inject(to, FromOverlay, to.k.overlay, res.Frame, Meta{VNI: res.VNI, Remote: sender}))
	})
}

// stack is a node's routing: to itself, to its pods, to other nodes, into the overlay, to the world.
func (f *Fabric) stack(n *fabricNode, frame []byte) {
	p, err := packet.Read(frame)
	if err != nil {
		f.lost(n.name, frame, err.Error())
		return
	}
	to := f.at(p.Dst)
	switch {
	case to == nil:
		f.lost(n.name, frame, "nobody has the address "+p.Dst.String())
	case to == n.host || to.node == nil:
		f.later(func() { to.receive(frame) })
	case to.node == n:
		framed := p.With(func(p *packet.Packet) { p.SrcMAC, p.DstMAC = to.nodeMAC, to.mac }).Bytes()
		if !n.k.isAttached(to.ifindex) {
			f.lost(n.name, frame, fmt.Sprintf("interface %d carries no pod programs", to.ifindex))
			return
		}
		if res := f.inject(n, ToPod, to.ifindex, framed, Meta{}); res.Action == Pass {
			f.deliver(n, to.ifindex, res.Frame)
		}
	case !to.pod && f.underlay[p.Dst] != nil:
		f.later(func() { f.arrive(to.node, frame) })
	case n.k.direct != 0:
		f.later(func() { f.arrive(to.node, frame) }) // by the route to that node's pods
	default:
		res := f.inject(n, FromHost, 0, frame, Meta{})
		if res.Action != Tunnel {
			f.lost(n.name, frame, "no tunnel to "+p.Dst.String())
			return
		}
		f.tunnel(n, res)
	}
}

func (f *Fabric) lost(where string, frame []byte, why string) {
	f.trace.add(Step{Node: where, Packet: describe(frame), Note: why})
}

func describe(frame []byte) string {
	p, err := packet.Read(frame)
	if err != nil {
		return err.Error()
	}
	return p.String()
}

// Trace is what happened to the packets of one operation.
type Trace struct {
	Steps []Step
}

// Step is one packet at one place.
type Step struct {
	Node    string
	Hook    Hook
	Ifindex uint32
	Packet  string
	Frame   []byte  // as it came
	Meta    Meta    // as it came with it
	Result  *Result // of the hook; nil: no hook, Note says what happened
	Note    string
}

func (t *Trace) add(s Step) { t.Steps = append(t.Steps, s) }

// Dropped is a packet that a hook refused.
type Dropped struct {
	Node   string
	Hook   Hook
	Reason datapath.Reason
	Cookie datapath.Cookie // of the rule that refused; 0: none
	Event  datapath.Event
}

// Drop returns the first packet that a hook dropped; nil if none was.
func (t Trace) Drop() *Dropped {
	for _, s := range t.Steps {
		if s.Result == nil || s.Result.Action != Drop {
			continue
		}
		d := &Dropped{Node: s.Node, Hook: s.Hook, Reason: s.Result.Reason, Cookie: s.Result.Egress}
		for _, e := range s.Result.Events {
			if e.Type == datapath.EventDrop {
				d.Event = e
			}
		}
		if d.Event.IngressJudged && d.Event.Direction == datapath.Ingress {
			d.Cookie = s.Result.Ingress
		}
		return d
	}
	return nil
}

// String writes one line a step.
func (t Trace) String() string {
	var b strings.Builder
	for _, s := range t.Steps {
		if s.Result == nil {
			fmt.Fprintf(&b, "%s: %s: %s\n", s.Node, s.Packet, s.Note)
			continue
		}
		fmt.Fprintf(&b, "%s %s %d: %s: %s\n", s.Node, s.Hook, s.Ifindex, s.Packet, s.Result)
	}
	return b.String()
}
