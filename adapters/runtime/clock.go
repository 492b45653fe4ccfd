package runtime

import "time"

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now implements ports.Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// After implements ports.Clock.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
