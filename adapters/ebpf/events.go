package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// Events delivers events until the context ends (its error is returned) or the datapath is closed
// (ErrClosed). One caller at a time; a second one gets ErrConflict.
func (d *Datapath) Events(ctx context.Context, deliver func(datapath.Event)) error {
	if !d.reading.TryLock() {
		return fmt.Errorf("read events: another reader is at work: %w", ports.ErrConflict)
	}
	defer d.reading.Unlock()
	r, err := ringbuf.NewReader(d.maps[mapEvents])
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	ended := make(chan struct{})
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		select {
		case <-d.closed:
			cancel(ports.ErrClosed)
		case <-ended:
		}
	}()
	defer func() {
		close(ended)
		<-watcher
		stop()
		cancel(nil)
		_ = r.Close()
	}()

	var clock bootClock
	var rec ringbuf.Record
	for {
		err := r.ReadInto(&rec)
		if errors.Is(err, ringbuf.ErrClosed) {
			return fmt.Errorf("read events: %w", context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		raw, err := readEvent(rec.RawSample)
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		e := newEvent(&raw)
		if e.Time, err = clock.at(raw.TimestampNs); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		deliver(e)
		if rec.Remaining == 0 {
			// An event that finds the reader waiting costs the sender an interrupt and a wakeup; those that
			// come within the pause cost neither.
			if !pause(ctx, eventPause) {
				return fmt.Errorf("read events: %w", context.Cause(ctx))
			}
		}
	}
}

// eventPause is how late an event may be for the sake of all others. The ring has room for what comes
// meanwhile: 2 million events a second.
const eventPause = 10 * time.Millisecond

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// readEvent takes a record as it lies in the ring. What stands behind the event is left alone.
func readEvent(sample []byte) (raw rawEvent, err error) {
	if len(sample) < int(unsafe.Sizeof(raw)) {
		return raw, fmt.Errorf("record of %d bytes is too short: want %d", len(sample), unsafe.Sizeof(raw))
	}
	// The ring aligns records to 8 bytes, but the reader copies them: so does this.
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), sample)
	return raw, nil
}

func newEvent(r *rawEvent) datapath.Event {
	e := datapath.Event{
		Type: datapath.EventType(r.Type), Reason: datapath.Reason(r.Reason), Point: datapath.Point(r.Point),
		Direction: datapath.Direction(r.Direction), Reply: r.Reply != 0, Timestamp: r.TimestampNs,
		Proto: r.Proto, TCPFlags: r.TCPFlags, ICMPType: r.IcmpType, ICMPCode: r.IcmpCode,
		SrcIdentity: identity.ID(r.SrcIdentity), DstIdentity: identity.ID(r.DstIdentity),
		SrcEndpoint: datapath.EndpointID(r.SrcEndpoint), DstEndpoint: datapath.EndpointID(r.DstEndpoint),
		EgressCookie: datapath.Cookie(r.EgressCookie), IngressCookie: datapath.Cookie(r.IngressCookie),
		EgressJudged: r.EgressJudged != 0, IngressJudged: r.IngressJudged != 0,
		Ifindex: r.Ifindex, Length: r.Length, Packets: r.Packets, Bytes: r.Bytes,
	}
	if r.Family != 0 {
		e.Src = netip.AddrPortFrom(r.Src.any(), r.SrcPort)
		e.Dst = netip.AddrPortFrom(r.Dst.any(), r.DstPort)
	}
	return e
}

// bootClock turns nanoseconds since boot into wall-clock time. The offset is read again every second:
// the wall clock may be set.
type bootClock struct {
	offset   int64
	measured uint64
}

func (c *bootClock) at(boot uint64) (time.Time, error) {
	if c.measured == 0 || boot > c.measured+uint64(time.Second) {
		now, err := readClock(unix.CLOCK_BOOTTIME)
		if err != nil {
			return time.Time{}, err
		}
		c.offset, c.measured = time.Now().UnixNano()-int64(now), now
	}
	return time.Unix(0, int64(boot)+c.offset), nil
}

// Lost is the number of events that did not fit into the ring since the tables were made.
func (d *Datapath) Lost() (uint64, error) {
	var n uint64
	if err := d.maps[mapLost].Lookup(uint32(0), &n); err != nil {
		return 0, tableError(mapLost, "get", 0, err)
	}
	return n, nil
}

// Counters gives packets and bytes by reason and direction; those that are zero are left out.
func (d *Datapath) Counters() ([]ports.Counter, error) {
	var out []ports.Counter
	m := d.maps[mapCounters]
	var perCPU []rawCounter
	for i := range m.MaxEntries() {
		if err := m.Lookup(i, &perCPU); err != nil {
			return nil, tableError(mapCounters, "get", i, err)
		}
		c := ports.Counter{Reason: datapath.Reason(i / 2), Direction: datapath.Direction(i & 1)}
		for _, x := range perCPU {
			c.Packets += x.Packets
			c.Bytes += x.Bytes
		}
		if c.Packets != 0 {
			out = append(out, c)
		}
	}
	return out, nil
}
