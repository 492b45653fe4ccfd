package sim

import (
	"slices"
	"time"
)

// minimise drops events from a failing list as long as the same invariant still fails, and returns what
// is left. It stops when nothing more can be dropped one by one, or when the time is over.
func minimise(events []Event, invariant string, limit time.Duration, run func([]Event) *Failure) []Event {
	fails := func(list []Event) *Failure {
		if f := run(list); f != nil && f.Invariant == invariant {
			return f
		}
		return nil
	}
	end := time.Now().Add(limit)
	cut := func(list []Event, f *Failure) []Event { return list[:min(len(list), f.Step+1)] }
	if f := fails(events); f != nil {
		events = cut(events, f)
	}
	// Whole kinds first: most of them have nothing to do with it.
	for k := range kindCount {
		shorter := slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Kind == k })
		if len(shorter) == len(events) || !time.Now().Before(end) {
			continue
		}
		if f := fails(shorter); f != nil {
			events = cut(shorter, f)
		}
	}
	for size := max(1, len(events)/2); ; size /= 2 {
		for dropped := true; dropped; {
			dropped = false
			for at := 0; at < len(events) && time.Now().Before(end); {
				shorter := slices.Concat(events[:at], events[min(len(events), at+size):])
				if f := fails(shorter); f != nil {
					events, dropped = cut(shorter, f), true
				} else {
					at += size
				}
			}
			dropped = dropped && size == 1
		}
		if size <= 1 || !time.Now().Before(end) {
			return events
		}
	}
}
