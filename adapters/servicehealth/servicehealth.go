// Package servicehealth answers load balancers over HTTP, at each service's healthCheckNodePort on every address
// of the node: 200 while the node has endpoints of the service that are ready, else 503. The body says how many, in
// kube-proxy's form.
package servicehealth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/ports"
)

// Server has a listener for each port. Any goroutine may use it.
type Server struct {
	log *slog.Logger

	mu     sync.Mutex
	open   map[uint16]*port
	closed bool
}

var _ ports.ServiceHealth = (*Server)(nil)

// port is one that is open; what it answers may change meanwhile.
type port struct {
	server *http.Server
	answer atomic.Pointer[ports.HealthAnswer]
}

// New returns a server that listens nowhere.
func New(log *slog.Logger) *Server { return &Server{log: log, open: map[uint16]*port{}} }

// SyncServiceHealth implements ports.ServiceHealth.
func (s *Server) SyncServiceHealth(checks map[lb.Name]lb.HealthCheck) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("health checks of services: %w", ports.ErrClosed)
	}
	var errs []error
	wanted := map[uint16]lb.Name{}
	names := slices.SortedFunc(maps.Keys(checks), func(a, b lb.Name) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, n := range names {
		c := checks[n]
		if other, twice := wanted[c.Port]; twice {
			errs = append(errs, fmt.Errorf("health check of %s: port %d is that of %s", n, c.Port, other))
			continue
		}
		wanted[c.Port] = n
	}
	for number, p := range s.open {
		if _, ok := wanted[number]; !ok {
			_ = p.server.Close()
			delete(s.open, number)
		}
	}
	for _, n := range names {
		c := checks[n]
		if wanted[c.Port] != n {
			continue
		}
		a := ports.NewHealthAnswer(n, c)
		if p, ok := s.open[c.Port]; ok {
			p.answer.Store(&a)
		} else if err := s.listen(c.Port, a); err != nil {
			errs = append(errs, fmt.Errorf("health check of %s: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// listen opens a port and answers until it is closed.
func (s *Server) listen(number uint16, a ports.HealthAnswer) error {
	if number == 0 {
		return errors.New("port 0: want one from 1 to 65535")
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(int(number)))
	if err != nil {
		return err
	}
	p := &port{}
	p.answer.Store(&a)
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	s.open[number] = p
	go func() {
		if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("answer load balancers", "address", l.Addr(), "err", err)
		}
	}()
	return nil
}

// ServeHTTP answers any path, as load balancers ask for different ones.
func (p *port) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a := p.answer.Load()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
	if a.LocalEndpoints == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(a)
}

// Close closes all ports, for good.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, p := range s.open {
		errs = append(errs, p.server.Close())
	}
	clear(s.open)
	return errors.Join(errs...)
}

// Module provides ports.ServiceHealth for as long as the application runs.
var Module = fx.Module("servicehealth", fx.Provide(func(lc fx.Lifecycle, log *slog.Logger) ports.ServiceHealth {
	s := New(log)
	lc.Append(fx.Hook{OnStop: func(context.Context) error { return s.Close() }})
	return s
}))
