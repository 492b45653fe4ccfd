package kubernetes

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// While the server is away one small question, asked now and then, stands for all watches of a store, and all of them
// come back when it is answered. The cluster's agents ask at times of their own: what they ask in sum stays small, and
// they return spread over the pause between two questions.
const (
	// The pause before the next question is this part of the time that the server has been away, within bounds, and
	// shortened by chance to as little as half of it.
	awayPart     = 12
	leastPause   = time.Second
	mostPause    = 10 * time.Second
	probeTimeout = 5 * time.Second
	// A server that answers but is not ready is starting. One that stays so for longer has another fault, in spite of
	// which it may serve.
	startTime = 30 * time.Second
	// An outage soon after another goes on with its pauses: a server that is up and down by turns is spared.
	sameOutage = time.Minute
	// The watches of a store come back within this time, by chance.
	spread = time.Second
)

// errNotReady is the outcome of a probe when there is a server that is not ready.
var errNotReady = errors.New("the server is not ready")

// outage knows whether the server is away. Its methods may be called by several goroutines; run is called once.
type outage struct {
	// probe asks whether the server is there: nil, errNotReady or why not.
	probe   func(context.Context) error
	suspect chan struct{} // holds a token while a watch failed and nobody has looked why

	mu      sync.Mutex
	away    bool
	changed chan struct{} // closed when away changes
}

func newOutage(probe func(context.Context) error) *outage {
	return &outage{probe: probe, suspect: make(chan struct{}, 1), changed: make(chan struct{})}
}

// run looks after the server whenever a watch fails, until the context ends. Nothing is asked while watches are well.
func (o *outage) run(ctx context.Context) {
	var began, ended time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.suspect:
		}
		if ctx.Err() != nil || o.probe(ctx) == nil {
			continue
		}
		if now := time.Now(); ended.IsZero() || now.Sub(ended) > sameOutage {
			began = now
		}
		o.set(true)
		o.wait(ctx, began)
		o.set(false)
		ended = time.Now()
	}
}

// wait returns when the server is back, or a watch has found it so.
func (o *outage) wait(ctx context.Context, began time.Time) {
	var answered time.Time
	for {
		away, changed := o.state()
		if !away {
			return
		}
		pause := min(max(time.Since(began)/awayPart, leastPause), mostPause)
		if !sleep(ctx, pause/2+rand.N(pause/2), changed) {
			return
		}
		err := o.probe(ctx)
		switch {
		case err == nil:
			return
		case !errors.Is(err, errNotReady):
			answered = time.Time{}
		case answered.IsZero():
			answered = time.Now()
		case time.Since(answered) > startTime:
			return
		}
	}
}

func (o *outage) state() (away bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.away, o.changed
}

// set tells everybody who waits.
func (o *outage) set(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away != away {
		o.away = away
		close(o.changed)
		o.changed = make(chan struct{})
	}
}

// failed notes that the server failed a watch, so that run looks why.
func (o *outage) failed() {
	select {
	case o.suspect <- struct{}{}:
	default:
	}
}

// served notes that the server began to serve a watch: it is not away.
func (o *outage) served() { o.set(false) }

// pause waits for this time, but as long as the server is away, be it shorter or longer; then it calls told at once. It
// says whether the server was away and is back.
func (o *outage) pause(ctx context.Context, d time.Duration, told func()) (returned bool) {
	over := time.Now().Add(d)
	for {
		away, changed := o.state()
		switch {
		case away:
			if !returned {
				told()
			}
			returned = true
			sleep(ctx, -1, changed)
		case returned:
			sleep(ctx, rand.N(spread), nil)
			return true
		default:
			if sleep(ctx, time.Until(over), changed) {
				return false
			}
		}
		if ctx.Err() != nil {
			return returned
		}
	}
}

// sleep waits for this time (less than 0: without end), for the context's end or a signal. It says whether the time was
// over first.
func sleep(ctx context.Context, d time.Duration, signal <-chan struct{}) bool {
	var over <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-signal:
		return false
	case <-over:
		return true
	}
}

// isAway says whether an error may mean that the server is away, and not that it refused.
func isAway(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // nothing came back
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

// probeServer asks whether the server is ready. Who may not know gets an answer as well.
func (s *Store) probeServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := raw(ctx, s.api.plain[groupCore].Get().AbsPath("/readyz").Throttle(unlimited).MaxRetries(0))
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return err
	}
	switch code := status.Status().Code; {
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return err // somebody before it answers in its place, or it is too busy
	case code >= http.StatusInternalServerError, code == http.StatusTooManyRequests:
		return errNotReady
	}
	return nil
}
