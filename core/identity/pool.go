package identity

import (
	"fmt"
	"time"
)

// Pool hands out numbers of a range, one for each key, and counts their users. A number that was
// given back rests for the quarantine before it names another key: a flow entry or a node may
// still hold it. Numbers are given out in turn, so that even after the quarantine the one that
// rested longest comes first. A Pool has one caller at a time.
type Pool struct {
	min, max   ID
	quarantine time.Duration
	next       ID // where the search for a free number starts
	byKey      map[string]*lease
	byID       map[ID]*lease
}

// lease is a number with its key; refs 0 means resting since released.
type lease struct {
	key      string
	id       ID
	refs     int
	released time.Time
}

// NewPool makes a pool of the numbers min to max.
func NewPool(min, max ID, quarantine time.Duration) *Pool {
	return &Pool{min: min, max: max, quarantine: quarantine, next: min,
		byKey: map[string]*lease{}, byID: map[ID]*lease{}}
}

// Acquire returns the number of a key and adds one user. A key that is resting gets its old number
// back. The error names the range and how many numbers are in use and resting.
func (p *Pool) Acquire(key string, now time.Time) (id ID, isNew bool, err error) {
	if l, ok := p.byKey[key]; ok {
		isNew = l.refs == 0
		l.refs++
		return l.id, isNew, nil
	}
	for range uint64(p.max-p.min) + 1 {
		id := p.next
		if p.next++; p.next > p.max {
			p.next = p.min
		}
		if l, taken := p.byID[id]; taken {
			if l.refs > 0 || now.Sub(l.released) < p.quarantine {
				continue
			}
			delete(p.byKey, l.key)
		}
		l := &lease{key: key, id: id, refs: 1}
		p.byKey[key], p.byID[id] = l, l
		return id, true, nil
	}
	used := 0
	for _, l := range p.byID {
		if l.refs > 0 {
			used++
		}
	}
	return Unknown, false, fmt.Errorf("identity of %s: none of the numbers %d to %d is free: %d are in use, %d rest for %s after their last use",
		key, p.min, p.max, used, len(p.byID)-used, p.quarantine)
}

// Release takes one user away. A key without users is no error.
func (p *Pool) Release(key string, now time.Time) {
	l, ok := p.byKey[key]
	if !ok || l.refs == 0 {
		return
	}
	if l.refs--; l.refs == 0 {
		l.released = now
	}
}

// Restore takes over an assignment of before. It has no user yet and rests as if it had been
// released at the given time; Acquire of its key gives it back. A number or a key that is assigned
// already is left alone.
func (p *Pool) Restore(id ID, key string, released time.Time) {
	if id < p.min || id > p.max || p.byID[id] != nil || p.byKey[key] != nil {
		return
	}
	l := &lease{key: key, id: id, released: released}
	p.byKey[key], p.byID[id] = l, l
	if id >= p.next {
		if p.next = id + 1; p.next > p.max {
			p.next = p.min
		}
	}
}

// InUse is the number of keys that have users.
func (p *Pool) InUse() int {
	n := 0
	for _, l := range p.byID {
		if l.refs > 0 {
			n++
		}
	}
	return n
}
