// Package servicehealth is what load balancers hear of a node, as far as ports.ServiceHealth decides it.
package servicehealth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/ports"
)

// ServiceHealth remembers the answers. Any goroutine may use it.
type ServiceHealth struct {
	mu     sync.Mutex
	open   map[uint16]ports.HealthAnswer
	taken  map[uint16]bool
	checks map[lb.Name]lb.HealthCheck
}

var _ ports.ServiceHealth = (*ServiceHealth)(nil)

// New returns one that answers nothing.
func New() *ServiceHealth { return &ServiceHealth{taken: map[uint16]bool{}} }

// Occupy has somebody else listen at a port, until release.
func (s *ServiceHealth) Occupy(port uint16) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[port] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.taken, port)
	}
}

// Ask is a request to a port; false if nobody answers.
func (s *ServiceHealth) Ask(port uint16) (status int, a ports.HealthAnswer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok = s.open[port]
	switch {
	case !ok:
		return 0, a, false
	case a.LocalEndpoints > 0:
		return http.StatusOK, a, true
	}
	return http.StatusServiceUnavailable, a, true
}

// Checks are those of the last call.
func (s *ServiceHealth) Checks() map[lb.Name]lb.HealthCheck {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.checks)
}

// SyncServiceHealth implements ports.ServiceHealth.
func (s *ServiceHealth) SyncServiceHealth(checks map[lb.Name]lb.HealthCheck) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks, s.open = maps.Clone(checks), map[uint16]ports.HealthAnswer{}
	var errs []error
	names := slices.SortedFunc(maps.Keys(checks), func(a, b lb.Name) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, n := range names {
		c := checks[n]
		_, twice := s.open[c.Port]
		if c.Port == 0 || twice || s.taken[c.Port] {
			errs = append(errs, fmt.Errorf("health check of %s: port %d is not free", n, c.Port))
			continue
		}
		s.open[c.Port] = ports.NewHealthAnswer(n, c)
	}
	return errors.Join(errs...)
}
