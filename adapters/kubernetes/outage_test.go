package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports/porttest"
)

// catchUp is how soon after the server's return an agent hears of everything: the longest pause and the spread.
const catchUp = mostPause + spread

// tally counts what happens in each second.
type tally struct {
	mu    sync.Mutex
	began time.Time
	by    map[int]int
}

func newTally() *tally { return &tally{began: time.Now(), by: map[int]int{}} }

func (t *tally) count() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by[int(time.Since(t.began)/time.Second)]++
}

// in is how many there were in the seconds from one to before another, and how many in the fullest of them.
func (t *tally) in(from, to int) (sum, most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := from; s < to; s++ {
		sum += t.by[s]
		most = max(most, t.by[s])
	}
	return sum, most
}

// The agents of a big cluster ask little while the server is away, the less the longer, and don't return all at once.
func TestManyAgentsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const agents, watches, away = 2000, 3, 300
		ctx, cancel := context.WithCancel(t.Context())
		asked, back := newTally(), newTally()
		end := time.Now().Add(away * time.Second)
		var running sync.WaitGroup
		for range agents {
			o := newOutage(func(context.Context) error {
				asked.count()
				if time.Now().Before(end) {
					return errCut
				}
				return nil
			})
			running.Go(func() { o.run(ctx) })
			for range watches {
				running.Go(func() {
					o.failed()
					if o.pause(ctx, 400*time.Millisecond, func() {}) {
						back.count()
					}
				})
			}
		}
		time.Sleep(time.Until(end) + catchUp)
		synctest.Wait()
		sum, _ := asked.in(0, away)
		assert.Less(t, sum, 80*agents, "in five minutes")
		_, most := asked.in(60, 120)
		assert.Less(t, most, agents/2, "in any second of the second minute")
		_, most = asked.in(120, away)
		assert.Less(t, most, agents/4, "in any second later on")
		sum, most = back.in(0, away)
		assert.Zero(t, sum, most)
		sum, most = back.in(away, away+int(catchUp/time.Second)+1)
		assert.Equal(t, agents*watches, sum, "all are back")
		assert.Less(t, most, agents*watches/5, "in one second")
		cancel()
		running.Wait()
	})
}

func TestOutageEndsByTheFirstSign(t *testing.T) {
	for name, sign := range map[string]func(o *outage, answer func(error)){
		"the probe":                    func(_ *outage, answer func(error)) { answer(nil) },
		"a watch":                      func(o *outage, _ func(error)) { o.served() },
		"a server that is never ready": func(_ *outage, answer func(error)) { answer(errNotReady) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var now error = errCut
				o := newOutage(func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					return now
				})
				ctx, cancel := context.WithCancel(t.Context())
				go o.run(ctx)
				o.failed()
				synctest.Wait()
				var returned []time.Duration
				signed := time.Now().Add(time.Hour)
				for range 5 {
					go func() {
						assert.True(t, o.pause(ctx, time.Second, func() {}))
						mu.Lock()
						defer mu.Unlock()
						returned = append(returned, time.Since(signed))
					}()
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				require.Empty(t, returned, "they wait as long as it takes")
				sign(o, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					now = err
				})
				time.Sleep(catchUp + startTime + mostPause)
				synctest.Wait()
				require.Len(t, returned, 5)
				for _, after := range returned {
					switch name {
					case "a watch":
						assert.Less(t, after, spread)
					case "the probe":
						assert.Less(t, after, catchUp)
					default:
						assert.Greater(t, after, startTime)
					}
				}
				assert.NotEqual(t, returned[0], returned[4], "not all at once")
				cancel()
			})
		})
	}
}

// A watch that fails while the server is there pauses for its own time, and its failures start one question each.
func TestFailureWithoutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newTally()
		o := newOutage(func(context.Context) error { asked.count(); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		go o.run(ctx)
		for range 3 {
			o.failed()
			began := time.Now()
			assert.False(t, o.pause(ctx, 7*time.Second, func() {}))
			assert.Equal(t, 7*time.Second, time.Since(began))
		}
		sum, _ := asked.in(0, 60)
		assert.Equal(t, 3, sum)
		began := time.Now()
		cancel()
		assert.False(t, o.pause(ctx, time.Hour, func() {}))
		assert.Zero(t, time.Since(began))
	})
}

// A server that comes and goes is asked as seldom as one that stays away.
func TestFlappingServerIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := newTally()
		times := 0
		o := newOutage(func(context.Context) error {
			if asked.count(); times%3 == 2 { // times is run's
				times++
				return nil
			}
			times++
			return errCut
		})
		ctx, cancel := context.WithCancel(t.Context())
		go o.run(ctx)
		for ctx.Err() == nil && time.Since(asked.began) < 10*time.Minute {
			o.failed()
			synctest.Wait()
			o.pause(ctx, 400*time.Millisecond, func() {})
		}
		sum, _ := asked.in(300, 600)
		assert.Less(t, sum, 100, "in the second five minutes")
		cancel()
	})
}

func TestIsAway(t *testing.T) {
	for _, err := range []error{errCut, io.EOF, apierrors.NewServiceUnavailable("busy"), apierrors.NewInternalError(errCut), apierrors.NewTooManyRequests("", 1)} {
		assert.True(t, isAway(fmt.Errorf("list: %w", err)), "%v", err)
	}
	for _, err := range []error{
		apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no")), apierrors.NewNotFound(schema.GroupResource{}, ""),
		apierrors.NewResourceExpired("old"), apierrors.NewUnauthorized("who"),
	} {
		assert.False(t, isAway(fmt.Errorf("list: %w", err)), "%v", err)
	}
}

// emptyServer is an API server with nothing in it, to be away and to come back.
type emptyServer struct {
	mu      sync.Mutex
	away    bool
	streams []*io.PipeWriter
	asked   *tally
	served  map[string]time.Time // by resource: when a watch began last
}

func (s *emptyServer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked.count()
	if s.away {
		return nil, errCut
	}
	if req.URL.Path == "/readyz" {
		return answer(http.StatusOK, "", ""), nil
	}
	out, in := io.Pipe()
	s.streams = append(s.streams, in)
	parts := strings.Split(req.URL.Path, "/")
	s.served[parts[len(parts)-1]] = time.Now()
	kind, version := "Pod", "v1"
	if strings.HasPrefix(req.URL.Path, "/apis/") {
		version = parts[2] + "/" + parts[3]
	}
	if version == "discovery.k8s.io/v1" {
		kind = "EndpointSlice"
	}
	go fmt.Fprintf(in, `{"type":"BOOKMARK","object":{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", kind, version)
	go func() {
		<-req.Context().Done()
		in.CloseWithError(req.Context().Err())
	}()
	return &http.Response{
		StatusCode: http.StatusOK, Status: "OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: out, Request: req,
	}, nil
}

func (s *emptyServer) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away = away; away {
		for _, in := range s.streams {
			in.CloseWithError(errCut)
		}
		s.streams = nil
	}
}

// What a whole store asks in an outage, and how soon it hears again, whenever the server returns.
func TestStoreInAnOutage(t *testing.T) {
	require.LessOrEqual(t, catchUp, 12*time.Second)
	for _, away := range []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &emptyServer{asked: newTally(), served: map[string]time.Time{}}
				s, err := Open(Options{Node: "n1", Config: &rest.Config{Host: "http://server", Transport: server}})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				ended, known := make(chan error, 1), make(chan bool, 1)
				go func() { ended <- s.Watch(ctx, func(cluster.Event) { known <- true }) }()
				<-known // Synced is all there is to say
				n := len(kinds(s.opts))
				require.Len(t, server.served, n)
				time.Sleep(time.Minute)
				server.asked = newTally()
				server.set(true)
				time.Sleep(away)
				sum, _ := server.asked.in(0, 5)
				assert.LessOrEqual(t, sum, 4*n, "in the first seconds")
				sum, _ = server.asked.in(5, 60)
				assert.LessOrEqual(t, sum, 50, "in the first minute")
				sum, _ = server.asked.in(120, 600)
				assert.LessOrEqual(t, sum, 480/5, "in ten minutes")
				assert.Len(t, s.Findings(), n)
				returned := time.Now()
				server.set(false)
				time.Sleep(min(away, catchUp)) // an outage of five seconds is over five seconds later
				synctest.Wait()
				for resource, at := range server.served {
					assert.True(t, at.After(returned), "%s is watched again", resource)
				}
				assert.Empty(t, s.Findings())
				cancel()
				assert.NoError(t, <-ended)
			})
		})
	}
}

// The same with the real server: what is made after its return arrives soon.
func TestServiceAfterAnOutage(t *testing.T) {
	a := server(t)
	a.apply(everything())
	s := a.open(Options{Node: "n1"})
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", synced)
	a.cluster.StopAPIServer(t)
	time.Sleep(15 * time.Second)
	assert.Len(t, s.Findings(), len(kinds(s.opts)), "no kind is heard of")
	a.cluster.StartAPIServer(t)
	returned := time.Now()
	a.apply(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "late", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}`)
	w.Eventually(t, "the new Service", func(k porttest.Known) bool { _, ok := k.Services["shop/late"]; return ok })
	assert.Less(t, time.Since(returned), 12*time.Second)
	t.Logf("heard of %.1f s after the server's return", time.Since(returned).Seconds())
}
