package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// revisionPatience is how long an agent gets to number a changed policy anew. One that reads to the
// same rules as before never gets a new number, so silence is no error.
const revisionPatience = 500 * time.Millisecond

// settlement waits until every agent has taken in what a command changed.
type settlement struct {
	l         *Lab
	revisions map[string]uint64 // by node, before the change
	put, gone []*object
	policies  bool
}

// newSettlement notes how the agents are before a change. Agents that do not run are left out: they
// read everything when they start.
func (l *Lab) newSettlement(ctx context.Context) (*settlement, error) {
	s := &settlement{l: l, revisions: map[string]uint64{}}
	for _, n := range l.st.Nodes {
		if !n.Agent.alive() {
			continue
		}
		st, err := l.o.Dial(l.Socket(n.Name)).Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("node %s: status: %w", n.Name, err)
		}
		s.revisions[n.Name] = st.Revision
	}
	return s, nil
}

func (s *settlement) written(o *object) {
	s.put = append(s.put, o)
	s.policies = s.policies || isPolicy(o)
}

func (s *settlement) deleted(o *object) { s.gone = append(s.gone, o) }

func isPolicy(o *object) bool { return strings.HasSuffix(o.kind, "NetworkPolicy") }

func policyRef(o *object) policy.Ref {
	return policy.Ref{Kind: o.kind, Namespace: o.namespace, Name: o.name}
}

// wait returns once all agents know the policies and services that were written, have forgotten those
// that were deleted, publish the endpoints of their pods, and have no row left to write.
func (s *settlement) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.l.o.SettleTimeout)
	defer cancel()
	pods, err := s.l.pods()
	if err != nil {
		return err
	}
	begin := time.Now()
	for _, n := range s.l.st.Nodes {
		if _, ok := s.revisions[n.Name]; !ok {
			continue
		}
		client := s.l.o.Dial(s.l.Socket(n.Name))
		for {
			missing, err := s.missing(ctx, client, n.Name, pods, time.Since(begin) > revisionPatience)
			if err == nil && missing == "" {
				break
			}
			if sleep(ctx, 20*time.Millisecond) != nil {
				if err != nil {
					missing = err.Error()
				}
				return fmt.Errorf("node %s: the agent did not take in the change within %s: %s", n.Name, s.l.o.SettleTimeout, missing)
			}
		}
	}
	return nil
}

// missing names something that an agent has not taken in yet; empty if there is nothing.
func (s *settlement) missing(ctx context.Context, a Agent, node string, pods []*podState, patienceOver bool) (string, error) {
	st, err := a.Status(ctx)
	if err != nil {
		return "", err
	}
	if s.policies && st.Revision == s.revisions[node] && !patienceOver {
		return "the policies have no new revision", nil
	}
	if what, err := s.missingPolicies(ctx, a); what != "" || err != nil {
		return what, err
	}
	if what, err := s.missingServices(ctx, a); what != "" || err != nil {
		return what, err
	}
	if what, err := missingEndpoints(ctx, a, node, pods); what != "" || err != nil {
		return what, err
	}
	for _, t := range st.Tables {
		if t.Pending > 0 {
			return fmt.Sprintf("table %s has %d rows to write (%s)", t.Name, t.Pending, t.Error), nil
		}
	}
	return "", nil
}

func (s *settlement) missingPolicies(ctx context.Context, a Agent) (string, error) {
	if !slices.ContainsFunc(append(slices.Clone(s.put), s.gone...), isPolicy) {
		return "", nil
	}
	info, err := a.Policies(ctx)
	if err != nil {
		return "", err
	}
	known := map[policy.Ref]bool{}
	for _, p := range info.Policies {
		known[p.Ref] = true
	}
	for _, o := range s.put {
		if isPolicy(o) && !known[policyRef(o)] {
			return o.title() + " is not in force", nil
		}
	}
	for _, o := range s.gone {
		if isPolicy(o) && known[policyRef(o)] {
			return o.title() + " is still in force", nil
		}
	}
	return "", nil
}

func (s *settlement) missingServices(ctx context.Context, a Agent) (string, error) {
	isService := func(o *object) bool { return o.kind == "Service" }
	if !slices.ContainsFunc(append(slices.Clone(s.put), s.gone...), isService) {
		return "", nil
	}
	list, err := a.Services(ctx)
	if err != nil {
		return "", err
	}
	known := map[string]bool{}
	for _, x := range list {
		known[x.Name] = true
	}
	for _, o := range s.put {
		if isService(o) && hasFrontend(o) && !known[o.podName().String()] {
			return o.title() + " is not known", nil
		}
	}
	for _, o := range s.gone {
		if isService(o) && known[o.podName().String()] {
			return o.title() + " is still known", nil
		}
	}
	return "", nil
}

func missingEndpoints(ctx context.Context, a Agent, node string, pods []*podState) (string, error) {
	list, err := a.Endpoints(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range pods {
		if p.Node != node || p.HostNetwork || len(p.IPs) == 0 {
			continue
		}
		i := slices.IndexFunc(list, func(e ports.EndpointInfo) bool { return e.Pod == p.Name })
		if i < 0 {
			return "pod " + p.Name.String() + " has no endpoint", nil
		}
		if list[i].State != "ready" {
			return fmt.Sprintf("endpoint of pod %s is %s", p.Name, list[i].State), nil
		}
	}
	return "", nil
}
