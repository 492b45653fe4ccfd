package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// Stepper is an agent without goroutines: what Agent's loop does happens here when it is called for.
// Simulations drive it with a clock of their own; the same calls at the same times do the same.
// Deps.Source is not watched: Feed delivers its events. A Stepper that is dropped is an agent that was
// killed. One caller at a time.
type Stepper struct{ agent }

// NewStepper prepares an agent; it opens the datapath when it is fed this node's description.
func NewStepper(cfg Config, deps Deps) *Stepper { return &Stepper{newAgent(cfg, deps)} }

// Feed takes one event of the cluster. An error means that the datapath could not be opened: the
// agent would end and be started again.
func (s *Stepper) Feed(ctx context.Context, ev cluster.Event) error { return s.feed(ctx, ev) }

// Observe takes one event of the kernel.
func (s *Stepper) Observe(ev datapath.Event) {
	if s.engine != nil {
		s.observe(ev)
	}
}

// LinksChanged tells that the node's devices may not be as they were.
func (s *Stepper) LinksChanged() { s.devices.stale = true }

// Settle writes what is due to the kernel and says when to call again; the zero time: when something
// has happened.
func (s *Stepper) Settle() time.Time {
	if s.engine == nil {
		return time.Time{}
	}
	return s.settle()
}

// Housekeep does what the loop does every second.
func (s *Stepper) Housekeep() {
	if s.engine != nil {
		s.housekeep()
	}
}

// Wishes is the number of writes to the cluster that wait; CarryOut tries each once.
func (s *Stepper) Wishes() int { return s.wishes.len() }

// CarryOut tries every write to the cluster that waits.
func (s *Stepper) CarryOut(ctx context.Context) {
	s.wishes.carryOut(ctx, func(got engine.Allocated) { s.apply(got) })
}

// Reserve is ports.Endpoints' Reserve.
func (s *Stepper) Reserve(r ports.ReserveRequest) (ports.Reservation, error) { return s.reserve(r) }

// Activate is the first half of ports.Endpoints' Activate: it does not wait. InForce tells when the
// policy is in force.
func (s *Stepper) Activate(containerID, ifname string, link ports.PodLinkState) error {
	_, err := s.activate(attachmentKey{containerID, ifname}, link)
	return err
}

// InForce is nil when the kernel enforces the endpoint's policy, else it says why not.
func (s *Stepper) InForce(containerID, ifname string) error {
	att, ok := s.attached[attachmentKey{containerID, ifname}]
	if !ok {
		return fmt.Errorf("container %s interface %s: %w", containerID, ifname, ports.ErrNotFound)
	}
	if why := s.whyNotInForce(att.ID); why != "" {
		return fmt.Errorf("endpoint of pod %s: %s", att.Pod, why)
	}
	return nil
}

// Release is ports.Endpoints' Release.
func (s *Stepper) Release(containerID, ifname string) error {
	return s.release(attachmentKey{containerID, ifname})
}

// Ready says whether the datapath is taken over and new endpoints are served.
func (s *Stepper) Ready() bool { return s.ready.Load() }

// Quiet says whether nothing waits to be written: to the kernel, to the cluster, to be pruned.
func (s *Stepper) Quiet() bool {
	return s.engine != nil && s.Ready() && !s.rebased && !s.devices.stale && len(s.exec.security) == 0 && len(s.exec.services) == 0 && s.wishes.len() == 0
}

// Status is ports.Inspector's Status.
func (s *Stepper) Status() (ports.Status, error) { return s.status() }

// Endpoints is ports.Inspector's Endpoints.
func (s *Stepper) Endpoints() []ports.EndpointInfo {
	if s.engine == nil {
		return nil
	}
	return s.endpointInfos()
}

// Rule is ports.Inspector's Rule.
func (s *Stepper) Rule(c datapath.Cookie) (policy.Verdict, bool) {
	if s.engine == nil {
		return policy.Verdict{}, false
	}
	return s.engine.Rule(c)
}
