package lb

import "time"

// Affinity remembers which backend a client of a service had, so that it keeps it until it has been
// away for the service's timeout. C is what tells clients apart: an address outside, the cookie of a
// network namespace inside the node. One caller at a time.
type Affinity[C comparable] struct {
	rows map[affinityKey[C]]affinityRow
}

type affinityKey[C comparable] struct {
	service uint32
	client  C
}

type affinityRow struct {
	backend uint32
	used    time.Time
}

// NewAffinity returns an empty table.
func NewAffinity[C comparable]() *Affinity[C] {
	return &Affinity[C]{rows: map[affinityKey[C]]affinityRow{}}
}

// Select gives the backend for a client's new connection to a service at time now: the one it had,
// if that was used less than timeout ago and exists says it still serves, else what choose says. The
// choice is remembered and its time renewed. False if choose says so. With a timeout of 0 nothing is
// looked up and nothing remembered.
func (a *Affinity[C]) Select(service uint32, client C, timeout time.Duration, now time.Time,
	exists func(backend uint32) bool, choose func() (uint32, bool),
) (backend uint32, ok bool) {
	if timeout <= 0 {
		return choose()
	}
	key := affinityKey[C]{service, client}
	row, found := a.rows[key]
	if !found || now.Sub(row.used) >= timeout || !exists(row.backend) {
		row.backend, ok = choose()
		if !ok {
			delete(a.rows, key)
			return 0, false
		}
	}
	a.rows[key] = affinityRow{row.backend, now}
	return row.backend, true
}

// Collect forgets the clients that have been away for longer than their service's timeout, which
// timeout gives; 0 forgets all of a service's clients. It returns how many it forgot.
func (a *Affinity[C]) Collect(now time.Time, timeout func(service uint32) time.Duration) int {
	n := len(a.rows)
	for key, row := range a.rows {
		if now.Sub(row.used) >= timeout(key.service) {
			delete(a.rows, key)
		}
	}
	return n - len(a.rows)
}

// Len is the number of clients remembered.
func (a *Affinity[C]) Len() int { return len(a.rows) }
