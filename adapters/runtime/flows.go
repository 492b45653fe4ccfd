package runtime

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// flowRecord is the ring of latest flows, shared between the loop that writes it and observers that
// read it. Observers never hold the loop up: one that is too slow is told what it missed.
type flowRecord struct {
	mu     sync.Mutex
	ring   flow.Ring
	grown  chan struct{} // closed at the next push; nil: nobody waits
	kernel uint64        // lost events already recorded, by the kernel
	queue  uint64        // and by our own queue
}

func newFlowRecord(capacity int) *flowRecord {
	return &flowRecord{ring: flow.NewRing(capacity)}
}

func (r *flowRecord) push(e flow.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.Push(e)
	if r.grown != nil {
		close(r.grown)
		r.grown = nil
	}
}

// await is closed when more is pushed than there is now. The caller holds the lock.
func (r *flowRecord) await() <-chan struct{} {
	if r.grown == nil {
		r.grown = make(chan struct{})
	}
	return r.grown
}

// noteLost records losses since the last call. Both arguments are totals.
func (r *flowRecord) noteLost(kernel, queue uint64, now time.Time) {
	if kernel > r.kernel {
		r.push(flow.Entry{Lost: &flow.Lost{Source: flow.LostKernel, Count: kernel - r.kernel, First: now, Last: now}})
		r.kernel = kernel
	}
	if queue > r.queue {
		r.push(flow.Entry{Lost: &flow.Lost{Source: flow.LostQueue, Count: queue - r.queue, First: now, Last: now}})
		r.queue = queue
	}
}

func (r *flowRecord) status(uptime time.Duration) ports.FlowStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := ports.FlowStatus{Current: r.ring.Len(), Max: r.ring.Cap(), Seen: r.ring.Seen()}
	if uptime > 0 {
		s.PerSec = float64(s.Seen) / uptime.Seconds()
	}
	return s
}

// observe turns one event of the kernel into a flow.
func (a *agent) observe(ev datapath.Event) {
	a.record.push(flow.Entry{Flow: a.builder.Build(ev)})
}

// Observe implements ports.Inspector.
func (a *Agent) Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error {
	if err := q.Validate(); err != nil {
		return err
	}
	match, err := flow.CompileQuery(q)
	if err != nil {
		return err
	}
	r := a.record
	r.mu.Lock()
	entries, cursor := r.ring.Select(q, match)
	var grown <-chan struct{}
	if q.Follow {
		grown = r.await()
	}
	r.mu.Unlock()
	for _, e := range entries {
		if err := deliver(e); err != nil {
			return err
		}
	}
	for q.Follow {
		select {
		case <-ctx.Done():
			return nil
		case <-a.done:
			return nil
		case <-grown:
		}
		for {
			r.mu.Lock()
			e, next, missed, ok := r.ring.Read(cursor)
			if !ok {
				grown = r.await()
			}
			r.mu.Unlock()
			cursor = next
			if missed > 0 {
				if err := deliver(flow.MissedEntry(missed, a.deps.Clock.Now())); err != nil {
					return err
				}
			}
			if !ok {
				break
			}
			if e.Flow != nil && !match(e.Flow) {
				continue
			}
			if err := deliver(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookups answers what the flow builder asks, from the engine's state.
type lookups struct{ a *agent }

func (l lookups) Address(ip netip.Addr) (i flow.AddressInfo, ok bool) {
	pod, ok := l.a.engine.PodAt(ip)
	if !ok {
		return i, false
	}
	i.Namespace, i.Pod = pod.Namespace, pod.Name
	if i.Identity, ok = l.a.engine.IdentityAt(ip); ok {
		i.Labels, _ = l.Identity(i.Identity)
	}
	return i, true
}

func (l lookups) Identity(id identity.ID) ([]string, bool) {
	return l.a.engine.LabelTexts(id)
}

func (l lookups) Frontend(addr netip.AddrPort, proto uint8) (flow.Service, bool) {
	n, ok := l.a.engine.ServiceAt(datapath.ServiceKey{Addr: addr.Addr(), Port: addr.Port(), Proto: proto})
	return flow.Service{Name: n.Name, Namespace: n.Namespace}, ok
}

func (l lookups) Rule(c datapath.Cookie) (policy.Verdict, bool) { return l.a.engine.Rule(c) }

func serviceInfo(f lb.FrontendState) ports.ServiceInfo {
	key := f.Key()
	key.Scope = datapath.Internal // not part of the text
	s := ports.ServiceInfo{
		ID: f.ID, Name: f.Service.String(), Frontend: key.String(), Scope: f.Scope.String(),
		Type: string(f.Frontend.Type), Local: f.Local, Affinity: f.Affinity,
	}
	for _, b := range f.Backends {
		s.Backends = append(s.Backends, ports.BackendInfo{
			ID:      b.ID,
			Address: datapath.Backend{Addr: b.Backend.Addr, Port: b.Backend.Port, Proto: b.Backend.Proto}.String(),
			State:   b.Backend.State.String(), Node: b.Backend.Node,
		})
	}
	return s
}
