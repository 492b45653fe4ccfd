package kernel

import (
	"context"
	"fmt"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// events is the ring buffer: what does not fit is counted.
type events struct {
	capacity int
	waiting  []datapath.Event
	lost     uint64
	emitted  uint64
	wake     chan struct{} // holds one token when there may be something to read
	closed   chan struct{}
	reading  bool
}

func newEvents(capacity int) events {
	return events{capacity: capacity, wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (k *Kernel) emit(e datapath.Event) {
	if len(k.events.waiting) >= k.events.capacity {
		k.events.lost++
		return
	}
	k.events.emitted++
	k.events.waiting = append(k.events.waiting, e)
	select {
	case k.events.wake <- struct{}{}:
	default:
	}
}

// Emitted is the number of events since the kernel was made, without the lost ones.
func (k *Kernel) Emitted() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.events.emitted
}

// Events delivers events, those from before the call included, until the context ends (its error is
// returned) or the kernel is closed (nil). A second caller at the same time gets ErrConflict.
func (k *Kernel) Events(ctx context.Context, deliver func(datapath.Event)) error {
	k.mu.Lock()
	if err := k.failure("read", "events", nil); err != nil {
		k.mu.Unlock()
		return err
	}
	if k.events.reading {
		k.mu.Unlock()
		return fmt.Errorf("read events: another reader is there: %w", ports.ErrConflict)
	}
	k.events.reading = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.events.reading = false
		k.mu.Unlock()
	}()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e, ok := k.nextEvent(); ok {
			deliver(e)
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.events.closed:
			return nil
		case <-k.events.wake:
		}
	}
}

func (k *Kernel) nextEvent() (datapath.Event, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.events.waiting) == 0 {
		return datapath.Event{}, false
	}
	e := k.events.waiting[0]
	k.events.waiting = k.events.waiting[1:]
	return e, true
}

// Lost is the number of events that found no room.
func (k *Kernel) Lost() (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("read", "events", nil); err != nil {
		return 0, err
	}
	return k.events.lost, nil
}

// Close ends Events once it has delivered what waits. Everything else goes on: like the kernel's
// programs, the tables outlive their agent. Idempotent; the error is always nil.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.events.closed:
	default:
		close(k.events.closed)
	}
	return nil
}

func (r *run) event(t datapath.EventType) datapath.Event {
	e := datapath.Event{
		Type: t, Time: r.now, Timestamp: uint64(r.now.Sub(r.k.boot)),
		Src: r.p.eventAddr(r.p.src, r.p.sport), Dst: r.p.eventAddr(r.p.dst, r.p.dport),
		Proto: r.p.proto, TCPFlags: r.p.flags, ICMPType: r.p.icmpType, ICMPCode: r.p.icmpCode,
		SrcIdentity: r.src.identity, DstIdentity: r.dst.identity,
		SrcEndpoint: r.src.endpoint, DstEndpoint: r.dst.endpoint,
		EgressCookie: r.outcome.egressCookie, IngressCookie: r.outcome.ingressCookie,
		EgressJudged: r.outcome.egressJudged, IngressJudged: r.outcome.ingressJudged,
		Reply: r.reply, Ifindex: r.ifindex, Length: uint32(len(r.frame)),
	}
	return e
}

func (r *run) report(e datapath.Event) {
	r.res.Events = append(r.res.Events, e)
	r.k.emit(e)
}

// reportFlow sends EventNew or EventClose for an entry whose packet goes on to this side.
func (r *run) reportFlow(t datapath.EventType, e *entry, to route) {
	ev := r.event(t)
	ev.Point = r.pointTo(to)
	ev.Direction = datapath.Ingress
	if !e.outcome.ingressJudged {
		ev.Direction = datapath.Egress
	}
	if t == datapath.EventClose {
		for i := range e.side {
			ev.Packets[i], ev.Bytes[i] = e.side[i].packets, e.side[i].bytes
		}
	}
	r.report(ev)
}

// pointTo is where the packet goes.
func (r *run) pointTo(to route) datapath.Point {
	switch {
	case r.hook == ToPod || to.kind == toPod:
		return datapath.PointToEndpoint
	case to.kind == toNeighbour && r.k.direct != 0, to.kind == toClient:
		return datapath.PointToNetwork
	case to.kind == toOverlay:
		return datapath.PointToOverlay
	}
	return datapath.PointToStack
}
