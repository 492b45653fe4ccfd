package runtime

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/ipam"
	"github.com/weirnet/weir/ports"
)

// Agent is one node's agent. It implements ports.Endpoints and ports.Inspector.
type Agent struct {
	agent
	inbox  chan func()   // from other goroutines, run by the loop
	events *eventQueue   // from the kernel
	links  chan struct{} // the node's devices changed; has room for one
	done   chan struct{} // closed when the loop ends

	reading sync.RWMutex // held for reading by whoever reads tables beside the loop
	closed  bool         // the datapath was closed
}

// agent is an agent without its goroutines: the state that belongs to the loop, and what the loop
// does with it. Stepper drives the same for simulations.
type agent struct {
	cfg     Config
	deps    Deps
	started time.Time
	ready   atomic.Bool   // datapath open, adopted and live
	lost    atomic.Uint64 // kernel events that found the queue full
	record  *flowRecord
	wishes  *wishes

	early    []cluster.Event             // until the own node is known
	seen     *cluster.Node               // the own node, as long as it is incomplete
	leaks    map[attachmentKey]time.Time // since when they look leaked
	gcLeaks  time.Time
	masq     masquerade
	health   serviceHealth
	devices  nodeDevices
	dp       ports.Datapath
	engine   *engine.Engine // nil until the datapath is open
	exec     *executor
	pool     addressPool
	builder  *flow.Builder
	self     cluster.Node
	attached map[attachmentKey]*ports.Attachment
	waiters  []*waiter
	lastID   datapath.EndpointID
	lastGC   time.Time
	rebased  bool // the engine planned anew, and remains of the old plan may be in the kernel
	gcFlows  time.Time

	whenReady func()
	// aside runs what takes long and touches nothing of the loop's.
	aside      func(f func())
	collecting atomic.Bool // expired flows
}

// New prepares an agent; nothing happens before Run.
func New(cfg Config, deps Deps) *Agent {
	return &Agent{
		agent:  newAgent(cfg, deps),
		inbox:  make(chan func(), 1024),
		events: newEventQueue(),
		links:  make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
}

func newAgent(cfg Config, deps Deps) agent {
	if cfg.VXLANPort == 0 {
		cfg.VXLANPort = 8472
	}
	if cfg.FlowCapacity == 0 {
		cfg.FlowCapacity = 4095
	}
	if cfg.Cluster == "" {
		cfg.Cluster = cluster.DefaultName
	}
	if cfg.IdentityGrace == 0 {
		cfg.IdentityGrace = engine.LocalQuarantine
	}
	return agent{
		cfg: cfg, deps: deps, started: deps.Clock.Now(),
		record:   newFlowRecord(cfg.FlowCapacity),
		wishes:   newWishes(deps, cfg.Node),
		attached: map[attachmentKey]*ports.Attachment{}, whenReady: func() {},
		leaks: map[attachmentKey]time.Time{},
		masq:  masquerade{settings: cfg.Masquerade, stale: true},
		aside: func(f func()) { f() },
	}
}

// Run works until the context ends or something fails that a restart must mend. The datapath stays
// as it is when Run returns.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(a.done)
	defer cancel()

	feed := make(chan cluster.Event, 1024)
	failed := make(chan error, 4) // one for each of the four below: none waits for a reader that has left
	start := func(what string, f func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		}()
	}
	start("watch the cluster", func() error {
		return a.deps.Source.Watch(ctx, func(ev cluster.Event) {
			select {
			case feed <- ev:
			case <-ctx.Done():
			}
		})
	})

	if err := a.awaitOwnNode(ctx, feed, failed); err != nil {
		return err
	}
	a.aside = func(f func()) { start("", func() error { f(); return nil }) }
	if a.cfg.Started != nil {
		a.whenReady = func() { a.aside(a.cfg.Started) }
	}
	if c, ok := a.dp.(interface{ Close() error }); ok {
		defer func() {
			cancel()
			wg.Wait()
			a.reading.Lock()
			defer a.reading.Unlock()
			a.closed = true
			_ = c.Close()
		}()
	}
	start("follow the network", func() error {
		return a.deps.Network.WatchLinks(ctx, func() {
			select {
			case a.links <- struct{}{}:
			default:
			}
		})
	})
	start("write to the cluster", func() error { return a.wishes.run(ctx, a.answer) })
	start("read kernel events", func() error {
		return a.dp.Events(ctx, func(ev datapath.Event) {
			if !a.events.add(ev) {
				a.lost.Add(1)
			}
		})
	})
	return a.loop(ctx, feed, failed)
}

// awaitOwnNode serves what needs no datapath until the datapath is open.
func (a *Agent) awaitOwnNode(ctx context.Context, feed <-chan cluster.Event, failed <-chan error) error {
	told := a.deps.Clock.After(2 * time.Second)
	for a.engine == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case f := <-a.inbox:
			f()
		case <-told:
			a.deps.Log.Info("waiting", "for", a.notOpen())
			told = a.deps.Clock.After(30 * time.Second)
		case ev := <-feed:
			if err := a.feed(ctx, ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// feed takes one event of the cluster. The one that completes this node's description opens the
// datapath; an error means that it can't be opened or taken over.
func (a *agent) feed(ctx context.Context, ev cluster.Event) error {
	if a.engine != nil {
		a.apply(ev)
		return nil
	}
	a.early = append(a.early, ev)
	n, ok := ev.(cluster.NodeUpsert)
	if !ok || n.Node.Name != a.cfg.Node {
		return nil
	}
	n.Node.PodCIDRs = a.ranges(n.Node.PodCIDRs)
	if len(n.Node.PodCIDRs) == 0 && !a.delegated() || len(n.Node.Addresses) == 0 {
		a.seen = &n.Node
		return nil
	}
	a.self, a.seen = n.Node, nil
	if err := a.open(); err != nil {
		return err
	}
	if err := a.restore(); err != nil {
		return err
	}
	for _, ev := range a.early {
		a.apply(ev)
	}
	a.early = nil
	return nil
}

// open builds devices and datapath and takes over what is there.
func (a *agent) open() error {
	var err error
	if a.delegated() {
		a.pool = newDelegatedPool(a.cfg.Routers)
	} else if a.pool, err = ipam.New(a.self.PodCIDRs); err != nil {
		return fmt.Errorf("pod ranges of node %s: %w", a.cfg.Node, err)
	}
	a.self.Routers = a.pool.Routers()
	if a.cfg.MTU == 0 {
		a.cfg.MTU = 1450
		if a.deps.PodMTU != nil {
			if a.cfg.MTU, err = a.deps.PodMTU(a.self.Addresses[0]); err != nil {
				return fmt.Errorf("find the pods' MTU: %w", err)
			}
		}
	}
	links, err := a.deps.Network.EnsureOverlay(ports.Overlay{
		VXLANPort: a.cfg.VXLANPort, MTU: a.cfg.MTU, Routers: a.self.Routers,
		Underlay: a.self.Addresses[0], Native: a.cfg.Routing != engine.Tunnel, Direct: a.cfg.Routing == engine.Direct,
		Reserved: a.reservedPorts(),
	})
	if err != nil {
		return fmt.Errorf("overlay devices: %w", err)
	}
	if err := a.openDevices(&links); err != nil {
		return err
	}
	if a.dp, err = a.deps.OpenDatapath(links); err != nil {
		return fmt.Errorf("open datapath: %w", err)
	}
	a.exec = newExecutor(a.dp, a.deps.Network, a.deps.Log)
	adopted, err := a.exec.adopt()
	if err != nil {
		return err
	}
	a.builder = flow.NewBuilder(a.cfg.Node, uint64(a.started.UnixNano()), lookups{a})
	published := a.self
	if a.delegated() {
		published.Routers = nil // every node has the same, for its own pods
	}
	a.wishes.add(engine.Op{Table: engine.Nodes, Key: a.self.Name, Row: published})
	a.engine = engine.New(a.cfg.Node, adopted, a.deps.Clock.Now(), a.engineOptions()...)
	a.exec.adoption.generation = a.engine.Generation()
	a.tellAddresses()
	return nil
}

// loop is the only place that changes state.
func (a *Agent) loop(ctx context.Context, feed <-chan cluster.Event, failed <-chan error) error {
	const housekeeping = time.Second
	tick := a.deps.Clock.After(housekeeping)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case ev := <-feed:
			a.apply(ev)
			drain(feed, 512, func(ev cluster.Event) { a.apply(ev) })
		case f := <-a.inbox:
			answer := func(f func()) {
				// Answers know all that the cluster said before the question.
				drain(feed, len(feed), func(ev cluster.Event) { a.apply(ev) })
				f()
			}
			answer(f)
			drain(a.inbox, 64, answer)
		case <-a.events.wake:
			for _, ev := range a.events.take() {
				a.observe(ev)
			}
			continue // nothing to write
		case <-a.links:
			a.devices.stale = true
		case <-retry:
			retry = nil
		case <-tick:
			tick = a.deps.Clock.After(housekeeping)
			a.housekeep()
		}
		if next := a.settle(); !next.IsZero() {
			retry = a.deps.Clock.After(max(0, next.Sub(a.deps.Clock.Now())))
		}
	}
}

// drain takes what else is there, at most n.
func drain[T any](c <-chan T, n int, f func(T)) {
	for range n {
		select {
		case v := <-c:
			f(v)
		default:
			return
		}
	}
}

// apply gives one event to the engine and sorts its operations.
func (a *agent) apply(ev engine.Event) {
	if n, ok := ev.(cluster.NodeUpsert); ok && n.Node.Name == a.cfg.Node {
		n.Node.Routers = a.self.Routers // ours to choose
		n.Node.PodCIDRs = a.ranges(n.Node.PodCIDRs)
		ev = n
		a.noteOwnNode(n.Node)
	}
	switch ev.(type) {
	case cluster.NodeUpsert, cluster.NodeDelete:
		a.masq.stale = true
	}
	if n, ok := ev.(cluster.NodeDelete); ok && n.Name == a.cfg.Node {
		a.deps.Log.Warn("this node's object was deleted; its last version stays in force")
		return
	}
	ops := a.engine.Apply(a.deps.Clock.Now(), ev)
	kernel := ops[:0] // the first, which go live together, are too many to have twice
	for _, op := range ops {
		switch op.Table {
		case engine.Published, engine.Identity:
			a.wishes.add(op)
		case engine.HealthChecks:
			a.health.note(op)
		default:
			kernel = append(kernel, op)
		}
	}
	a.exec.submit(kernel)
}

// noteOwnNode takes changes of the own node's description. Its pod ranges can't change while pods
// use them.
func (a *agent) noteOwnNode(n cluster.Node) {
	if !slices.Equal(n.Addresses, a.devices.node) && len(n.Addresses) > 0 {
		a.devices.node, a.devices.stale = n.Addresses, true
	}
	if !slices.Equal(n.PodCIDRs, a.self.PodCIDRs) && len(n.PodCIDRs) > 0 {
		a.deps.Log.Error("podCIDRs of this node changed; restart the agent to use them", "was", a.self.PodCIDRs, "is", n.PodCIDRs)
	}
}

// settle writes what is due and wakes who waits for it.
func (a *agent) settle() time.Time {
	now := a.deps.Clock.Now()
	look := a.keepDevices(now)
	next := a.settleTables(now)
	a.keepServiceHealth(now)
	a.wake()
	if next.IsZero() || !look.IsZero() && look.Before(next) {
		return look
	}
	return next
}

// settleTables writes what is due to the kernel.
func (a *agent) settleTables(now time.Time) time.Time {
	next := a.exec.run(now)
	if a.exec.wantsRebase(now) {
		if err := a.exec.rebase(now, a.engine); err != nil {
			a.deps.Log.Error("plan the policies anew", "err", err)
		} else {
			a.rebased = true
			next = a.exec.run(now)
		}
	}
	if a.rebased && a.exec.adoption == nil && a.exec.settled() {
		if err := a.exec.sweep(a.engine.Generation()); err != nil {
			a.deps.Log.Warn("sweep", "err", err)
			next = now.Add(time.Second)
		} else {
			a.rebased = false
			a.exec.submit(a.engine.Pruned())
			next = a.exec.run(now)
		}
	}
	if a.engine.Live() && a.exec.adoption != nil && a.exec.settled() {
		if err := a.exec.prune(); err != nil {
			a.deps.Log.Warn("prune", "err", err)
			next = now.Add(time.Second)
		} else {
			a.exec.submit(a.engine.Pruned())
			next = a.exec.run(now)
			a.forgetLinks()
			a.keepMasquerade(now)
			a.ready.Store(true)
			a.whenReady()
		}
	}
	return next
}
