package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/labels"
)

// wishes are what the node wants the cluster to know or to give: itself and its endpoints to publish,
// identities to allocate. The cluster may be slow or away, and the datapath must not wait for it; so they are
// carried out in a goroutine of their own. Of several wishes about the same object the latest counts,
// which bounds their number by that of endpoints and label sets.
type wishes struct {
	deps Deps
	node string

	mu    sync.Mutex
	byKey map[rowKey]engine.Op
	order []rowKey // oldest first
	grace time.Duration
	wake  chan struct{}

	stall stall // of the last pass; belongs to whoever carries out
}

func newWishes(d Deps, node string) *wishes {
	return &wishes{deps: d, node: node, byKey: map[rowKey]engine.Op{}, wake: make(chan struct{}, 1)}
}

// add notes a wish. It never waits.
func (w *wishes) add(op engine.Op) {
	w.mu.Lock()
	k := rowKey{op.Table, op.Key}
	if _, ok := w.byKey[k]; !ok {
		w.order = append(w.order, k)
	}
	w.byKey[k] = op
	w.mu.Unlock()
	w.signal()
}

// collect asks for unused identities to be collected.
func (w *wishes) collect(grace time.Duration) {
	w.mu.Lock()
	w.grace = grace
	w.mu.Unlock()
	w.signal()
}

func (w *wishes) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wishes) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.order)
}

// take returns the wishes in order, and the grace period if a collection was asked for.
func (w *wishes) take() (ops []engine.Op, grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.order {
		ops = append(ops, w.byKey[k])
	}
	clear(w.byKey)
	w.order = nil
	grace, w.grace = w.grace, 0
	return ops, grace
}

// putBack returns a wish that could not be carried out, unless there is a newer one.
func (w *wishes) putBack(op engine.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := rowKey{op.Table, op.Key}
	if _, ok := w.byKey[k]; ok {
		return
	}
	w.order = append(w.order, k)
	w.byKey[k] = op
}

// run carries wishes out until the context ends. Identities are handed to answer.
func (w *wishes) run(ctx context.Context, answer func(engine.Allocated)) error {
	for {
		var retry <-chan time.Time
		if w.len() > 0 {
			retry = w.deps.Clock.After(max(0, w.stall.next.Sub(w.deps.Clock.Now())))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
		case <-w.wake:
			if w.stall.err != nil && w.deps.Clock.Now().Before(w.stall.next) {
				continue
			}
		}
		w.carryOut(ctx, answer)
	}
}

// carryOut tries every wish once.
func (w *wishes) carryOut(ctx context.Context, answer func(engine.Allocated)) {
	ops, grace := w.take()
	failed := false
	for _, op := range ops {
		err := w.write(ctx, op, answer)
		if err == nil {
			continue
		}
		w.putBack(op)
		if ctx.Err() != nil {
			continue
		}
		if w.stall.err == nil {
			w.deps.Log.Warn("write to the cluster", "object", op.Key, "err", err)
		}
		if !failed {
			w.stall.fail(w.deps.Clock.Now(), err)
		}
		failed = true
	}
	if !failed {
		w.stall.clear()
	}
	if grace > 0 {
		if _, err := w.deps.Identities.Collect(ctx, grace); err != nil && ctx.Err() == nil {
			w.deps.Log.Warn("collect unused identities", "err", err)
		}
	}
}

func (w *wishes) write(ctx context.Context, op engine.Op, answer func(engine.Allocated)) error {
	if op.Table == engine.Identity {
		ls := op.Row.(labels.Set)
		id, err := w.deps.Identities.Allocate(ctx, ls)
		if err == nil {
			answer(engine.Allocated{Labels: ls, ID: id})
		}
		return err
	}
	if op.Table == engine.Nodes {
		return w.deps.Publisher.PublishNode(ctx, op.Row.(cluster.Node))
	}
	if op.Row == nil {
		return w.deps.Publisher.WithdrawEndpoint(ctx, op.Key.(cluster.Name), w.node)
	}
	return w.deps.Publisher.PublishEndpoint(ctx, op.Row.(cluster.Endpoint))
}
