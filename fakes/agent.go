package fakes

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weirnet/weir/fakes/servicehealth"
	"github.com/weirnet/weir/ports"
)

// Agent is a node's agent. Run works until its context ends.
type Agent interface {
	ports.Endpoints
	ports.Inspector
	Run(ctx context.Context) error
}

// Deps are the ports of an agent. The fields are those of adapters/runtime.Deps, so that one converts to
// the other.
type Deps struct {
	Source       ports.Source
	Publisher    ports.Publisher
	Identities   ports.Identities
	Attachments  ports.Attachments
	Network      ports.Network
	Masquerade   ports.Masquerade // nil: the fake kernel translates no addresses
	OpenDatapath func(ports.OverlayLinks) (ports.Datapath, error)
	// ServiceHealth is Node.Health.
	ServiceHealth ports.ServiceHealth
	PodMTU        func(node netip.Addr) (int, error)
	Clock         ports.Clock
	Log           *slog.Logger
}

// StartAgent makes the agent of a node. It must not do anything before Run.
type StartAgent func(node string, d Deps) Agent

// incarnation is one life of an agent.
type incarnation struct {
	agent  Agent
	line   *line
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // of Run
	taken  atomic.Uint64 // kernel events that it took
}

// Agent returns the agent that runs on the node; nil if none does.
func (n *Node) Agent() Agent {
	if in := n.incarnation(); in != nil {
		return in.agent
	}
	return nil
}

// incarnation returns the agent's life if it goes on.
func (n *Node) incarnation() *incarnation {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := n.running
	if in == nil || in.line.isCut() {
		return nil
	}
	select {
	case <-in.done:
		return nil
	default:
		return in
	}
}

// Launch starts a node's agent and does not wait for anything. An agent that runs is left alone.
func (c *Cluster) Launch(node string) {
	c.launch(node, -1)
}

// LaunchDoomed starts a node's agent like Launch and kills it, as KillAgent does, when it wants to make
// one more than this many writes to its kernel or network.
func (c *Cluster) LaunchDoomed(node string, writes int) { c.launch(node, writes) }

// Doom kills a running agent, as KillAgent does, when it wants to make one more than this many writes from
// now on.
func (c *Cluster) Doom(node string, writes int) {
	if in := c.Node(node).incarnation(); in != nil {
		in.line.doom(writes)
	}
}

func (c *Cluster) launch(node string, writes int) {
	n := c.Node(node)
	if n.Agent() != nil {
		return
	}
	_ = c.KillAgent(node) // the goroutines of one that ended by itself
	n.mu.Lock()
	defer n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	l := &line{node: node, left: writes, kill: cancel, after: c.o.OnWrite}
	n.Health = servicehealth.New() // a process takes its listeners with it
	in := &incarnation{line: l, cancel: cancel, done: make(chan struct{})}
	in.agent = c.start(node, Deps{
		Source:      &watchedSource{n.Source, c},
		Publisher:   &linePublisher{n.Source, l, c},
		Identities:  &lineIdentities{n.Source, l, c},
		Attachments: &lineAttachments{n.Attachments, l},
		Network:     &lineNetwork{n.Network, l},
		OpenDatapath: func(ports.OverlayLinks) (ports.Datapath, error) {
			return newLineDatapath(n, in), nil
		},
		ServiceHealth: n.Health,
		Clock:         c.o.Clock, Log: c.o.Log.With("node", node),
	})
	n.running = in
	go func() {
		defer close(in.done)
		in.err = in.agent.Run(ctx)
		c.poke()
	}()
}

// KillAgent ends a node's agent like kill -9: from now on it writes nothing any more, and whatever it was
// doing stays half done. It returns when the agent's goroutines are gone. One that does not run is left
// alone.
func (c *Cluster) KillAgent(node string) error {
	n := c.Node(node)
	n.mu.Lock()
	in := n.running
	n.running = nil
	n.mu.Unlock()
	if in == nil {
		return nil
	}
	in.line.cutNow()
	in.cancel()
	select {
	case <-in.done:
	case <-time.After(c.o.Patience):
		return fmt.Errorf("kill the agent of %s: Run has not returned after %s", node, c.o.Patience)
	}
	n.mu.Lock()
	n.read += in.taken.Load()
	n.mu.Unlock()
	return nil
}

// StartAgent starts a node's agent, waits until it is ready, makes the pods that had to wait for it, and
// settles.
func (c *Cluster) StartAgent(node string) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.Launch(node)
	ctx := context.Background()
	if err := c.AwaitAgent(ctx, node); err != nil {
		return err
	}
	if err := c.reconcile(ctx); err != nil {
		return err
	}
	return c.settle(ctx)
}

// AwaitAgent waits until a node's agent is ready, at most Options.Patience.
func (c *Cluster) AwaitAgent(ctx context.Context, node string) error {
	in := c.Node(node).incarnation()
	if in == nil {
		return fmt.Errorf("agent of %s: does not run: %w", node, ports.ErrClosed)
	}
	err := c.await(ctx, func(ctx context.Context) (string, error) {
		select {
		case <-in.done:
			return "", fmt.Errorf("%w: it ended: %v", ports.ErrClosed, in.err)
		default:
		}
		if err := in.agent.Ready(ctx); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("agent of %s: %w", node, err)
	}
	return nil
}
