package sim

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

// node is a machine: what outlives its agent, and the agent.
type node struct {
	s       *Sim
	name    string
	index   int
	object  cluster.Node
	kernel  *kernel.Kernel
	network *network.Network
	store   store
	watch   watch
	view    *view
	boots   int

	agent    *runtime.Stepper // nil: it does not run
	restarts int
	heard    map[string]bool // objects that this life of the agent was told
	relayed  bool            // it was told everything that was there when it started

	linksNews bool      // its devices changed, and nobody told it
	touched   time.Time // when the agent last was quiet and knew everything

	dead  bool // killed in the middle of a call
	doom  int  // writes until then; negative: none
	fault faults
	skew  time.Duration // of the next agent's clock

	opened map[tuple]opening // flows that packets opened here
	seen   int               // violations of the kernel's promises that were reported
}

// boot gives the machine an empty kernel.
func (n *node) boot() {
	n.boots++
	n.kernel = kernel.New(kernel.Options{
		Clock: n.s.clock, Seed: n.s.seed ^ mix(uint64(n.boots), n.name), Overlay: overlayIndex, Direct: n.s.direct(),
		Capacities: kernel.Capacities{Events: 16},
	})
	n.kernel.Fail(n.kernelCall)
	n.network = network.New()
	n.network.SetLinks(n.home())
	n.opened, n.seen = map[tuple]opening{}, 0
	n.fault, n.doom = faults{}, -1
	n.s.fabric.RemoveNode(n.name)
	n.s.fabric.AddNode(kernel.NodeConfig{
		Name: n.name, Kernel: n.kernel, Underlay: n.object.Addresses, Routers: routersOf(n.object),
	})
	n.s.fabric.Listen(n.name, datapath.ProtoTCP, 80)
	n.s.fabric.Listen(n.name, datapath.ProtoUDP, 53)
}

// overlayIndex is the first index that a fresh network gives out, to the overlay device.
const overlayIndex = 2

func routersOf(n cluster.Node) []netip.Addr {
	var out []netip.Addr
	for _, p := range n.PodCIDRs {
		out = append(out, p.Addr().Next())
	}
	return out
}

// start begins a life of the agent.
func (n *node) start() {
	n.restarts++
	n.s.trace("%s: agent starts, life %d", n.name, n.restarts)
	n.dead, n.doom, n.heard, n.relayed = false, -1, map[string]bool{}, false
	c := client{n}
	n.agent = runtime.NewStepper(runtime.Config{Node: n.name, MTU: 1450, Routing: n.s.routing, NodePorts: config.NodePorts{Enabled: true, HostPorts: true, Devices: deviceNames}}, runtime.Deps{
		Source: source{}, Publisher: c, Identities: c, Attachments: &n.store, Network: n.links(),
		Clock: wallClock{n.s.clock, n.skew},
		OpenDatapath: func(ports.OverlayLinks) (ports.Datapath, error) {
			return programs{n.kernel, n}, n.call("open datapath", "", n.fault.reads, false)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	n.watch.start()
	n.touched = n.s.clock.Now()
}

// kill ends it.
func (n *node) kill() {
	if n.agent == nil {
		return
	}
	n.s.trace("%s: agent ends", n.name)
	n.agent, n.dead, n.doom = nil, false, -1
	n.watch.stop()
	for _, c := range n.s.containers {
		if c.node == n && c.phase > reserved && c.phase < inForce {
			c.failed = true // the call that waited broke off
		}
	}
}

// do makes the agent do something.
func (n *node) do(f func(a *runtime.Stepper)) {
	if n.agent == nil {
		return
	}
	n.s.inAgent = true
	f(n.agent)
	n.s.inAgent = false
	n.after()
}

// after looks at the node when its agent has done something.
func (n *node) after() {
	if n.dead {
		n.kill()
	}
	if n.agent != nil && n.relayed && n.agent.Quiet() {
		n.view.clean = n.view.now
		if n.watch.connected && !n.watch.gap && len(n.watch.queue) == 0 {
			n.touched = n.s.clock.Now()
		}
	}
	if v := n.kernel.Violations(); len(v) > n.seen {
		n.seen = len(v)
		n.s.failf("promises", "%s: %s", n.name, v[len(v)-1])
	}
}

// deliver hands the agent up to count events.
func (n *node) deliver(rng *rand.Rand, count int) {
	for range count {
		if n.agent == nil {
			return
		}
		q, ok := n.watch.next(rng)
		if !ok {
			return
		}
		times := 1
		if n.watch.double && q.key != "" {
			times = 1 + rng.IntN(2)
			if rng.IntN(3) == 0 {
				n.watch.queue = slices.Insert(n.watch.queue, 0, q) // and once more, later
			}
		}
		for range times {
			n.s.trace("%s: hears %T %s", n.name, q.ev, q.key)
			n.noteHeard(q)
			n.do(func(a *runtime.Stepper) {
				if err := a.Feed(context.Background(), q.ev); err != nil {
					n.s.trace("%s: %v", n.name, err)
					n.dead = true // it ends and is started again
				}
			})
		}
	}
}

// noteHeard keeps the view: at the end of the first list, what was not in it is gone.
func (n *node) noteHeard(q queued) {
	if q.key != "" {
		n.heard[q.key] = !q.deletes
		n.view.note(q.ev)
		return
	}
	n.relayed = true
	gone := func(key string, back cluster.Event) {
		if !n.heard[key] {
			n.view.note(back)
		}
	}
	v := n.view
	forget(v.nodes, func(k string) { gone("node "+k, cluster.NodeDelete{Name: k}) })
	forget(v.namespaces, func(k string) { gone("namespace "+k, cluster.NamespaceDelete{Name: k}) })
	forget(v.pods, func(k cluster.Name) { gone("pod "+k.String(), cluster.PodDelete{Name: k}) })
	forget(v.endpoints, func(k cluster.Name) { gone("endpoint "+k.String(), cluster.EndpointDelete{Name: k}) })
	for k, h := range v.identities {
		if h.latest() != nil {
			gone("identity "+k.String(), cluster.IdentityDelete{ID: k})
		}
	}
	for _, k := range v.refs {
		if v.policies[k].latest() != nil {
			gone("policy "+k.String(), cluster.PolicyDelete{Ref: k})
		}
	}
	for k, h := range v.services {
		if h.latest() != nil {
			gone("service "+k.String(), cluster.ServiceDelete{Name: k})
		}
	}
	for k, h := range v.slices {
		if h.latest() != nil {
			gone("slice "+k.service.String()+" "+k.slice, cluster.BackendsDelete{Service: k.service, Slice: k.slice})
		}
	}
}

func forget[K comparable, T any](m map[K]history[T], gone func(K)) {
	for k, h := range m {
		if h.latest() != nil {
			gone(k)
		}
	}
}

// sync lets the agent take in and write everything.
func (n *node) sync(rng *rand.Rand) {
	n.hearOfDevices()
	n.deliver(rng, len(n.watch.queue)+4)
	n.do(func(a *runtime.Stepper) { a.Settle() })
	n.do(func(a *runtime.Stepper) { a.CarryOut(context.Background()) })
	n.deliver(rng, len(n.watch.queue))
	n.do(func(a *runtime.Stepper) { a.Settle() })
}
