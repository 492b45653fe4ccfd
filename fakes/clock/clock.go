// Package clock is a clock that stands still until a test moves it. It implements ports.Clock.
package clock

import (
	"sort"
	"sync"
	"time"
)

// Epoch is where a clock made by New(time.Time{}) starts: a fixed, unremarkable instant.
var Epoch = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

// Clock is moved by Advance and Set only. Safe for concurrent use.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	waiters []waiter // sorted by due; equal ones in the order in which they began to wait
}

type waiter struct {
	due time.Time
	ch  chan time.Time
}

// New makes a clock that shows start, or Epoch if start is zero.
func New(start time.Time) *Clock {
	if start.IsZero() {
		start = Epoch
	}
	return &Clock{now: start}
}

// Now shows the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After delivers the time once the clock has been moved by at least d; at once if d is not positive.
// The channel holds the value, so that nobody has to be receiving when it is due.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- c.now
		return ch
	}
	w := waiter{due: c.now.Add(d), ch: ch}
	at := sort.Search(len(c.waiters), func(i int) bool { return c.waiters[i].due.After(w.due) })
	c.waiters = append(c.waiters, waiter{})
	copy(c.waiters[at+1:], c.waiters[at:])
	c.waiters[at] = w
	return ch
}

// Advance moves the clock forward and wakes those who are due, earliest first, each with its own due
// time. A negative d is ignored: time does not run backwards.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d > 0 {
		c.moveTo(c.now.Add(d))
	}
}

// Step moves the clock to the next instant that somebody waits for and returns how far that was;
// false, and no movement, if nobody waits.
func (c *Clock) Step() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiters) == 0 {
		return 0, false
	}
	d := c.waiters[0].due.Sub(c.now)
	c.moveTo(c.waiters[0].due)
	return d, true
}

// Waiting is the number of those who wait. A waiter that has lost interest counts until it is due.
func (c *Clock) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters)
}

func (c *Clock) moveTo(t time.Time) {
	c.now = t
	for len(c.waiters) > 0 && !c.waiters[0].due.After(t) {
		c.waiters[0].ch <- c.waiters[0].due
		c.waiters = c.waiters[1:]
	}
}
