package operator

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/weirnet/weir/core/ipam"
)

// How long something that failed waits before it is tried again.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute
)

// queue holds the names of what has to be looked at. Each name is in it once, is worked on by one
// goroutine at a time, and comes again later if that failed.
type queue struct {
	name string
	workqueue.TypedRateLimitingInterface[string]
}

func newQueue(name string, m *metrics) *queue {
	limiter := jitter{workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)}
	return &queue{name, workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[string]{Name: name, MetricsProvider: m.queues})}
}

// jitter spreads the retries of what failed at the same time over half to one and a half of the wait.
type jitter struct {
	workqueue.TypedRateLimiter[string]
}

func (j jitter) When(key string) time.Duration { return spread(j.TypedRateLimiter.When(key)) }

func spread(d time.Duration) time.Duration {
	return d/2 + rand.N(max(d, 1))
}

// work handles names, one at a time, until the context ends.
func (q *queue) work(ctx context.Context, log *slog.Logger, do func(ctx context.Context, key string) error) {
	stop := context.AfterFunc(ctx, q.ShutDown)
	defer stop()
	for {
		key, down := q.Get()
		if down {
			return
		}
		if ctx.Err() == nil {
			if err := do(ctx, key); err != nil {
				if !errors.Is(err, context.Canceled) {
					level := slog.LevelWarn
					if isConflict(err) || errors.Is(err, ipam.ErrNoPrefix) || q.NumRequeues(key) == 0 {
						level = slog.LevelDebug // somebody else was faster, the network hiccuped, or it stands in a status
					}
					log.Log(ctx, level, "will try again", "duty", q.name, "object", key, "tries", q.NumRequeues(key)+1, "error", err)
				}
				q.AddRateLimited(key)
			} else {
				q.Forget(key)
			}
		}
		q.Done(key)
	}
}

// every calls f again and again until the context ends, the first time soon. An interval of zero means
// never.
func every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	if interval <= 0 {
		return
	}
	t := time.NewTimer(rand.N(interval/10 + 1))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		f(ctx)
		t.Reset(interval - interval/10 + rand.N(interval/5+1))
	}
}
