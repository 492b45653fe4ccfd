package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// Node is the cluster as one node's agent sees it. It outlives the agent: a new Watch begins anew with
// the whole cluster, and the faults and held events stay. All methods may be called at the same time.
type Node struct {
	c    *Cluster
	name string

	watching bool
	busy     bool          // an event was taken off the queue and its delivery has not returned
	wake     chan struct{} // holds one token while there may be something to deliver
	queue    []cluster.Event
	told     map[cluster.Event]bool // by the event that would take it back: what was queued so far
	held     bool
	released int // events that may pass although held
	drop     int
	double   bool
	faults   []Fault
}

var (
	_ ports.Source     = (*Node)(nil)
	_ ports.Publisher  = (*Node)(nil)
	_ ports.Identities = (*Node)(nil)
)

// Node returns a node's view; the same one for the same name.
func (c *Cluster) Node(name string) *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	if !ok {
		n = &Node{c: c, name: name, wake: make(chan struct{}, 1)}
		c.nodes[name] = n
	}
	return n
}

// Watch implements ports.Source. It returns nil when the context ends; ErrConflict if another Watch of
// this node runs.
func (n *Node) Watch(ctx context.Context, deliver func(cluster.Event)) error {
	n.c.mu.Lock()
	if n.watching {
		n.c.mu.Unlock()
		return fmt.Errorf("watch as %s: already watched: %w", n.name, ports.ErrConflict)
	}
	if err := n.fault(OpWatch); err != nil {
		n.c.mu.Unlock()
		return err
	}
	n.watching, n.queue, n.told = true, nil, map[cluster.Event]bool{}
	n.enqueue(n.c.assembler.Snapshot())
	n.enqueue([]cluster.Event{cluster.Synced{}})
	n.c.mu.Unlock()
	defer func() {
		n.c.mu.Lock()
		n.watching, n.busy, n.queue, n.told = false, false, nil, nil
		n.c.mu.Unlock()
	}()
	for {
		if e, ok := n.next(); ok {
			deliver(e)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		}
	}
}

// next takes an event off the queue.
func (n *Node) next() (cluster.Event, bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.busy = n.ready()
	if !n.busy {
		return nil, false
	}
	if n.held {
		n.released--
	}
	e := n.queue[0]
	n.queue = n.queue[1:]
	return e, true
}

// ready says whether an event waits that may pass.
func (n *Node) ready() bool { return len(n.queue) > 0 && (!n.held || n.released > 0) }

// Idle says whether a Watch runs and has delivered every event that may pass.
func (n *Node) Idle() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.watching && !n.busy && !n.ready()
}

// take queues events for a running Watch, as far as faults let them through.
func (n *Node) take(events []cluster.Event) {
	if !n.watching {
		return
	}
	if lost := min(n.drop, len(events)); lost > 0 {
		n.drop -= lost
		events = events[lost:]
	}
	n.enqueue(events)
}

func (n *Node) enqueue(events []cluster.Event) {
	for _, e := range events {
		if back, isUpsert := undo(e); back != nil {
			if isUpsert {
				n.told[back] = true
			} else {
				delete(n.told, back)
			}
		}
		n.queue = append(n.queue, e)
		if _, once := e.(cluster.Synced); n.double && !once {
			n.queue = append(n.queue, e)
		}
	}
	n.poke()
}

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Findings implements ports.Source.
func (n *Node) Findings() []cluster.Finding {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.allFindings()
}

// PublishNode implements ports.Publisher.
func (n *Node) PublishNode(_ context.Context, node cluster.Node) error {
	return n.do(OpPublishNode, node.Name, func() error {
		doc, err := manifest.EncodeNode(node)
		if err != nil {
			return err
		}
		return n.c.put(doc)
	})
}

// PublishEndpoint implements ports.Publisher.
func (n *Node) PublishEndpoint(_ context.Context, e cluster.Endpoint) error {
	return n.do(OpPublishEndpoint, e.Name.String(), func() error {
		doc, err := manifest.EncodeEndpoint(e, n.c.identities[e.Identity])
		if err != nil {
			return err
		}
		n.c.book.Used(e.Identity)
		return n.c.put(doc)
	})
}

// WithdrawEndpoint implements ports.Publisher.
func (n *Node) WithdrawEndpoint(_ context.Context, name cluster.Name, node string) error {
	return n.do(OpWithdrawEndpoint, name.String(), func() error {
		k := manifest.Key{Kind: manifest.KindCiliumEndpoint, Namespace: name.Namespace, Name: name.Name}
		o, ok := n.c.assembler.Get(k)
		if !ok {
			return nil
		}
		for _, e := range o.Upserts() {
			if up, ok := e.(cluster.EndpointUpsert); ok && up.Endpoint.Node == node {
				n.c.remove(k)
			}
		}
		return nil
	})
}

// Allocate implements ports.Identities.
func (n *Node) Allocate(_ context.Context, ls labels.Set) (identity.ID, error) {
	var id identity.ID
	err := n.do(OpAllocate, ls.Key(), func() error {
		for have, of := range n.c.identities {
			if of.Key() == ls.Key() && (id == 0 || have < id) {
				id = have
			}
		}
		if id != 0 {
			n.c.book.Renew(id, n.c.now)
			return nil
		}
		next, ok := n.c.book.Next(n.c.identities, n.c.now)
		if !ok {
			return fmt.Errorf("all of %d to %d are in use or in quarantine: %w", identity.MinCluster, identity.MaxCluster, ports.ErrFull)
		}
		doc, err := manifest.EncodeIdentity(next, ls)
		if err != nil {
			return err
		}
		id = next
		n.c.identities[id] = ls
		return n.c.put(doc)
	})
	if err != nil {
		return 0, err
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.told != nil {
		n.told[cluster.IdentityDelete{ID: id}] = true // Resync tells if it is gone by then
	}
	return id, nil
}

// Collect implements ports.Identities.
func (n *Node) Collect(_ context.Context, grace time.Duration) ([]identity.ID, error) {
	var gone []identity.ID
	err := n.do(OpCollect, "", func() error {
		inUse := map[identity.ID]bool{}
		for _, e := range n.c.assembler.Snapshot() {
			if up, ok := e.(cluster.EndpointUpsert); ok {
				inUse[up.Endpoint.Identity] = true
			}
		}
		gone, _ = n.c.book.Collect(n.c.identities, inUse, n.c.now, grace)
		for _, id := range gone {
			delete(n.c.identities, id)
			n.c.remove(manifest.Key{Kind: manifest.KindCiliumIdentity, Name: fmt.Sprint(uint32(id))})
		}
		return nil
	})
	return gone, err
}

// undo returns the event that takes an upsert back, or a deletion itself; nil for Synced. The result
// is good as a map key.
func undo(e cluster.Event) (back cluster.Event, isUpsert bool) {
	switch e := e.(type) {
	case cluster.NodeUpsert:
		return cluster.NodeDelete{Name: e.Node.Name}, true
	case cluster.NamespaceUpsert:
		return cluster.NamespaceDelete{Name: e.Namespace.Name}, true
	case cluster.PodUpsert:
		return cluster.PodDelete{Name: e.Pod.Name}, true
	case cluster.IdentityUpsert:
		return cluster.IdentityDelete{ID: e.ID}, true
	case cluster.EndpointUpsert:
		return cluster.EndpointDelete{Name: e.Endpoint.Name}, true
	case cluster.PolicyUpsert:
		return cluster.PolicyDelete{Ref: e.Policy.Ref}, true
	case cluster.ServiceUpsert:
		return cluster.ServiceDelete{Name: e.Service.Name}, true
	case cluster.BackendsUpsert:
		return cluster.BackendsDelete{Service: e.Slice.Service, Slice: e.Slice.Name}, true
	case cluster.Synced:
		return nil, false
	}
	return e, false
}
