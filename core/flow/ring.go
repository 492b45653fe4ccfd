package flow

import "time"

// DefaultCapacity is the number of entries a ring keeps when nothing else was asked for.
const DefaultCapacity = 4095

// DefaultLast is the number of flows that an empty Query selects.
const DefaultLast = 20

// Ring keeps the latest entries: a full ring overwrites the oldest. It has one owner; who shares it
// between goroutines puts a lock around it. Readers hold a Cursor each and do not disturb the ring.
type Ring struct {
	buf  []Entry
	next uint64 // sequence number of the entry that is pushed next; the first is 0
}

// Cursor is a reader's place in a ring: the sequence number of the entry it reads next.
type Cursor uint64

// NewRing makes a ring for this many entries; capacity below 1 means DefaultCapacity.
func NewRing(capacity int) Ring {
	if capacity < 1 {
		capacity = DefaultCapacity
	}
	return Ring{buf: make([]Entry, capacity)}
}

// Push adds an entry.
func (r *Ring) Push(e Entry) {
	r.buf[r.next%uint64(len(r.buf))] = e
	r.next++
}

// Len is the number of entries kept.
func (r *Ring) Len() int { return int(r.next - uint64(r.Oldest())) }

// Cap is the number of entries that can be kept.
func (r *Ring) Cap() int { return len(r.buf) }

// Seen is the number of entries ever pushed.
func (r *Ring) Seen() uint64 { return r.next }

// Overwritten is the number of entries that were pushed and are no longer kept.
func (r *Ring) Overwritten() uint64 { return uint64(r.Oldest()) }

// Oldest is the place of the oldest entry kept.
func (r *Ring) Oldest() Cursor {
	if n := uint64(len(r.buf)); r.next > n {
		return Cursor(r.next - n)
	}
	return 0
}

// End is the place behind the latest entry: who starts there reads only what is pushed from now on.
func (r *Ring) End() Cursor { return Cursor(r.next) }

// Read returns the entry at the cursor and the place behind it. If the entry was overwritten, it
// goes on with the oldest one kept and says how many were missed. ok is false when there is nothing
// to read yet; the cursor stays then.
func (r *Ring) Read(c Cursor) (e Entry, next Cursor, missed uint64, ok bool) {
	if oldest := r.Oldest(); c < oldest {
		missed = uint64(oldest - c)
		c = oldest
	}
	if uint64(c) >= r.next {
		return Entry{}, c, missed, false
	}
	return r.buf[uint64(c)%uint64(len(r.buf))], c + 1, missed, true
}

// MissedEntry is the news that a reader was overtaken: this many entries were overwritten unread.
func MissedEntry(missed uint64, at time.Time) Entry {
	return Entry{Lost: &Lost{Source: LostRing, Count: missed, First: at, Last: at}}
}

// Select returns the kept entries that the query asks for, oldest first, and where to go on reading
// for a query that follows. match is the query compiled by CompileQuery. News of loss is kept where
// it stands between selected flows.
func (r *Ring) Select(q Query, match func(*Flow) bool) ([]Entry, Cursor) {
	var out []Entry
	flows := uint64(0)
	for c := r.Oldest(); c < r.End(); c++ {
		e := r.buf[uint64(c)%uint64(len(r.buf))]
		if e.Flow != nil && !match(e.Flow) {
			continue
		}
		if e.Flow != nil {
			flows++
		}
		out = append(out, e)
		if q.First > 0 && flows == q.First {
			break
		}
	}
	if keep, limited := q.latest(); limited {
		out = trimFront(out, flows, keep)
	}
	return out, r.End()
}

// latest gives the number of latest flows to keep, if the query limits them.
func (q Query) latest() (uint64, bool) {
	switch {
	case q.Last > 0:
		return q.Last, true
	case q.First > 0 || q.All || !q.Since.IsZero() || !q.Until.IsZero():
		return 0, false
	case q.Follow:
		return 0, true
	}
	return DefaultLast, true
}

// trimFront drops entries from the front until at most keep of the flows are left, and any news of
// loss before the first of them.
func trimFront(out []Entry, flows, keep uint64) []Entry {
	i := 0
	for ; i < len(out) && flows > keep; i++ {
		if out[i].Flow != nil {
			flows--
		}
	}
	if i > 0 || keep == 0 {
		for i < len(out) && out[i].Flow == nil {
			i++
		}
	}
	return out[i:]
}
