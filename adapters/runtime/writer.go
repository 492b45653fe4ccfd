package runtime

import (
	"context"
	"log/slog"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/ports"
)

// clusterWriter carries wishes to the cluster in its own goroutine: the cluster may be slow or away,
// and the datapath must not wait for it. Of several wishes about the same object the latest counts.
type clusterWriter struct {
	pub   ports.Publisher
	ids   ports.Identities
	clock ports.Clock
	log   *slog.Logger
	node  string

	in chan engine.Op
	gc chan time.Duration
	// answers are delivered through the loop
	allocated func(labels.Set, identity.ID)
}

func newClusterWriter(p ports.Publisher, ids ports.Identities, clock ports.Clock, log *slog.Logger, node string) *clusterWriter {
	return &clusterWriter{pub: p, ids: ids, clock: clock, log: log, node: node,
		in: make(chan engine.Op, 4096), gc: make(chan time.Duration, 1)}
}

// submit queues a wish. The queue is as long as a node has endpoints many times over; when the
// cluster is away for so long that it fills, the loop waits here.
func (w *clusterWriter) submit(op engine.Op) { w.in <- op }

func (w *clusterWriter) collect(grace time.Duration) {
	select {
	case w.gc <- grace:
	default: // one is under way
	}
}

// run works until the context ends.
func (w *clusterWriter) run(ctx context.Context, post func(func()) bool) error {
	wishes := map[rowKey]engine.Op{}
	var order []rowKey
	var state stall
	for {
		var retry <-chan time.Time
		if len(order) > 0 {
			retry = w.clock.After(max(0, state.next.Sub(w.clock.Now())))
		}
		select {
		case <-ctx.Done():
			return nil
		case op := <-w.in:
			take := func(op engine.Op) {
				k := rowKey{op.Table, op.Key}
				if _, ok := wishes[k]; !ok {
					order = append(order, k)
				}
				wishes[k] = op
			}
			take(op)
			drain(w.in, 4096, take)
			if state.err != nil && w.clock.Now().Before(state.next) {
				continue
			}
		case grace := <-w.gc:
			if _, err := w.ids.Collect(ctx, grace); err != nil {
				w.log.Warn("collect unused identities", "err", err)
			}
			continue
		case <-retry:
		}
		left := order[:0]
		failed := false
		for _, k := range order {
			if err := w.write(ctx, wishes[k], post); err != nil && ctx.Err() == nil {
				if state.err == nil {
					w.log.Warn("write to the cluster", "object", k.key, "err", err)
				}
				state.fail(w.clock.Now(), err)
				failed = true
				left = append(left, k)
				continue
			}
			delete(wishes, k)
		}
		order = left
		if !failed {
			state.clear()
		}
	}
}

func (w *clusterWriter) write(ctx context.Context, op engine.Op, post func(func()) bool) error {
	if op.Table == engine.Identity {
		ls := op.Row.(labels.Set)
		id, err := w.ids.Allocate(ctx, ls)
		if err != nil {
			return err
		}
		post(func() { w.allocated(ls, id) })
		return nil
	}
	if op.Row == nil {
		return w.pub.WithdrawEndpoint(ctx, op.Key.(cluster.Name), w.node)
	}
	return w.pub.PublishEndpoint(ctx, op.Row.(cluster.Endpoint))
}
