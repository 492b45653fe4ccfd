package fakes

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/ports"
)

// line is what an agent changes the world through. Once it is cut nothing comes through any more: so
// an agent is dead from one write to the next, whatever its goroutines still do.
type line struct {
	node  string
	after func(Write)
	kill  func()

	mu   sync.Mutex
	cut  bool
	left int // writes until it is cut; negative: no limit
}

func (l *line) cutNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
}

func (l *line) doom(writes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = writes
}

func (l *line) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

func (l *line) dead() error {
	return fmt.Errorf("the agent of %s was killed: %w", l.node, ports.ErrClosed)
}

// say makes a call that changes something other than the node's kernel and network.
func (l *line) say(do func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return l.dead()
	}
	return do()
}

// write makes a write that counts.
func (l *line) write(op, table string, key any, do func() error) error {
	err := l.say(func() error {
		if l.left == 0 {
			l.cut = true
			l.kill()
			return l.dead()
		}
		if l.left > 0 {
			l.left--
		}
		return do()
	})
	if err == nil && l.after != nil {
		l.after(Write{l.node, op, table, key})
	}
	return err
}

// watchedSource wakes who waits for the agents when it has delivered something.
type watchedSource struct {
	ports.Source
	c *Cluster
}

func (s *watchedSource) Watch(ctx context.Context, deliver func(cluster.Event)) error {
	return s.Source.Watch(ctx, func(e cluster.Event) {
		deliver(e)
		s.c.poke()
	})
}

type linePublisher struct {
	ports.Publisher
	l *line
	c *Cluster
}

func (p *linePublisher) PublishNode(ctx context.Context, n cluster.Node) error {
	defer p.c.poke()
	return p.l.say(func() error { return p.Publisher.PublishNode(ctx, n) })
}

func (p *linePublisher) PublishEndpoint(ctx context.Context, e cluster.Endpoint) error {
	defer p.c.poke()
	return p.l.say(func() error { return p.Publisher.PublishEndpoint(ctx, e) })
}

func (p *linePublisher) WithdrawEndpoint(ctx context.Context, name cluster.Name, node string) error {
	defer p.c.poke()
	return p.l.say(func() error { return p.Publisher.WithdrawEndpoint(ctx, name, node) })
}

type lineIdentities struct {
	ports.Identities
	l *line
	c *Cluster
}

func (i *lineIdentities) Allocate(ctx context.Context, ls labels.Set) (id identity.ID, err error) {
	defer i.c.poke()
	err = i.l.say(func() (e error) { id, e = i.Identities.Allocate(ctx, ls); return e })
	return id, err
}

func (i *lineIdentities) Collect(ctx context.Context, grace time.Duration) (ids []identity.ID, err error) {
	err = i.l.say(func() (e error) { ids, e = i.Identities.Collect(ctx, grace); return e })
	return ids, err
}

type lineAttachments struct {
	ports.Attachments
	l *line
}

func (a *lineAttachments) Save(at ports.Attachment) error {
	return a.l.say(func() error { return a.Attachments.Save(at) })
}

func (a *lineAttachments) Delete(containerID, ifname string) error {
	return a.l.say(func() error { return a.Attachments.Delete(containerID, ifname) })
}

type lineNetwork struct {
	ports.Network
	l *line
}

func (n *lineNetwork) EnsureOverlay(o ports.Overlay) (links ports.OverlayLinks, err error) {
	err = n.l.write("overlay", "", nil, func() (e error) { links, e = n.Network.EnsureOverlay(o); return e })
	return links, err
}

func (n *lineNetwork) SyncNodeRoutes(routes []ports.NodeRoute) error {
	return n.l.write("routes", "", nil, func() error { return n.Network.SyncNodeRoutes(routes) })
}

// lineDatapath is a kernel as one life of an agent reaches it. It can't be closed: the kernel lives on.
type lineDatapath struct {
	ports.Datapath
	in     *incarnation
	tables ports.Tables
}

func newLineDatapath(n *Node, in *incarnation) *lineDatapath {
	t := n.Kernel.Tables()
	return &lineDatapath{n.Kernel, in, ports.Tables{
		Endpoints: through(in.line, t.Endpoints), EndpointPolicy: through(in.line, t.EndpointPolicy),
		IPCache: through(in.line, t.IPCache), Classes: through(in.line, t.Classes), Policy: through(in.line, t.Policy),
		Nodes: through(in.line, t.Nodes), Services: through(in.line, t.Services), Slots: through(in.line, t.Slots),
		Backends: through(in.line, t.Backends),
	}}
}

func (d *lineDatapath) Tables() ports.Tables { return d.tables }

func (d *lineDatapath) BumpAddr(a netip.Addr) error {
	return d.in.line.write("bump", "", a, func() error { return d.Datapath.BumpAddr(a) })
}

func (d *lineDatapath) BumpAll() error {
	return d.in.line.write("bump", "", nil, d.Datapath.BumpAll)
}

func (d *lineDatapath) AttachPod(ifindex uint32) error {
	return d.in.line.write("attach", "", ifindex, func() error { return d.Datapath.AttachPod(ifindex) })
}

func (d *lineDatapath) DetachPod(ifindex uint32) error {
	return d.in.line.write("detach", "", ifindex, func() error { return d.Datapath.DetachPod(ifindex) })
}

func (d *lineDatapath) AttachNetwork(ifindexes []uint32) error {
	return d.in.line.write("attach network", "", fmt.Sprint(ifindexes), func() error { return d.Datapath.AttachNetwork(ifindexes) })
}

func (d *lineDatapath) CollectFlows() (n int, err error) {
	err = d.in.line.write("collect", "", nil, func() (e error) { n, e = d.Datapath.CollectFlows(); return e })
	return n, err
}

func (d *lineDatapath) FlushFlows() (n int, err error) {
	err = d.in.line.write("flush", "", nil, func() (e error) { n, e = d.Datapath.FlushFlows(); return e })
	return n, err
}

func (d *lineDatapath) Events(ctx context.Context, deliver func(datapath.Event)) error {
	return d.Datapath.Events(ctx, func(e datapath.Event) {
		deliver(e)
		d.in.taken.Add(1)
	})
}

type lineTable[K comparable, V any] struct {
	ports.Table[K, V]
	l *line
}

func through[K comparable, V any](l *line, t ports.Table[K, V]) ports.Table[K, V] {
	return &lineTable[K, V]{t, l}
}

func (t *lineTable[K, V]) Put(k K, v V) error {
	return t.l.write("put", t.Name(), k, func() error { return t.Table.Put(k, v) })
}

// PutAll implements ports.Batch; the line may be cut between any two rows.
func (t *lineTable[K, V]) PutAll(rows []ports.Row[K, V]) (int, error) {
	for i, r := range rows {
		if err := t.Put(r.Key, r.Value); err != nil {
			return i, err
		}
	}
	return len(rows), nil
}

func (t *lineTable[K, V]) Delete(k K) error {
	return t.l.write("delete", t.Name(), k, func() error { return t.Table.Delete(k) })
}
