package runtime

import (
	"maps"
	"time"

	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/lb"
)

// healthInterval is when answers that could not be given are tried again.
const healthInterval = 3 * time.Second

// serviceHealth is what load balancers are to be told.
type serviceHealth struct {
	checks map[lb.Name]lb.HealthCheck
	stale  bool
	tried  time.Time
	err    error
}

// note takes an operation on table HealthChecks.
func (h *serviceHealth) note(op engine.Op) {
	name := op.Key.(lb.Name)
	if op.Row == nil {
		delete(h.checks, name)
	} else {
		if h.checks == nil {
			h.checks = map[lb.Name]lb.HealthCheck{}
		}
		h.checks[name] = op.Row.(lb.HealthCheck)
	}
	h.stale = true
}

// keepServiceHealth gives the answers that are new, and again those that could not be given.
func (a *agent) keepServiceHealth(now time.Time) {
	h := &a.health
	if a.deps.ServiceHealth == nil || !h.stale && (h.err == nil || now.Sub(h.tried) < healthInterval) {
		return
	}
	err := a.deps.ServiceHealth.SyncServiceHealth(maps.Clone(h.checks))
	if err != nil && (h.err == nil || h.err.Error() != err.Error()) {
		a.deps.Log.Error("answer load balancers", "err", err)
	}
	h.stale, h.tried, h.err = false, now, err
}
