package operator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// startGrace is how long a leader may need until it does all its work before /healthz complains.
const startGrace = 5 * time.Minute

// health answers /healthz: 200 and "ok", or 503 and the reason. A replica is well if it leads and does its
// work, or knows who leads. That the API server is away after that is no reason: nothing gets better by
// starting an operator anew.
type health struct {
	listen   string
	election *election
	server   *http.Server
	listener net.Listener

	mu    sync.Mutex
	since time.Time // when the work was to begin; zero: it has begun, or somebody else does it
	phase string
}

func newHealth(listen string, e *election) *health {
	h := &health{listen: listen, election: e}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := h.check(time.Now()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	h.server = &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	return h
}

func (h *health) start() error {
	l, err := net.Listen("tcp", h.listen)
	if err != nil {
		return fmt.Errorf("operator: serve /healthz (operator-api-serve-addr): %w", err)
	}
	h.listener = l
	go func() { _ = h.server.Serve(l) }()
	return nil
}

func (h *health) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.server.Shutdown(ctx)
}

func (h *health) addr() string { return h.listener.Addr().String() }

// working says what a leader does before its work begins.
func (h *health) working(phase string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		h.since = time.Now()
	}
	h.phase = phase
}

// idle says that the work has begun, or that there is none.
func (h *health) idle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since, h.phase = time.Time{}, ""
}

func (h *health) check(now time.Time) error {
	if leader, leading := h.election.state(); leader == "" && !leading {
		return fmt.Errorf("no leader is known: %s", h.election.why())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.since.IsZero() && now.Sub(h.since) > startGrace {
		return fmt.Errorf("leading since %s without having begun the work: %s", h.since.UTC().Format(time.RFC3339), h.phase)
	}
	return nil
}
