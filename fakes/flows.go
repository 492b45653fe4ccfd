package fakes

import (
	"context"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/flow"
)

// Flows returns the flows that the running agents recorded and the query selects, oldest first. Agents
// get the time to record what has happened. Follow is ignored.
func (c *Cluster) Flows(ctx context.Context, q flow.Query) ([]flow.Flow, error) {
	q.Follow = false
	if err := c.await(ctx, c.unrecorded); err != nil {
		return nil, fmt.Errorf("flows: %w", err)
	}
	var out []flow.Flow
	for _, n := range c.nodes {
		a := n.Agent()
		if a == nil {
			continue
		}
		err := a.Observe(ctx, q, func(e flow.Entry) error {
			if e.Flow != nil {
				out = append(out, *e.Flow)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("flows of %s: %w", n.Name, err)
		}
	}
	slices.SortStableFunc(out, func(a, b flow.Flow) int { return a.Time.Compare(b.Time) })
	return out, nil
}

// unrecorded names an agent that has not recorded every event of its kernel.
func (c *Cluster) unrecorded(ctx context.Context) (string, error) {
	for _, n := range c.nodes {
		in := n.incarnation()
		if in == nil {
			continue
		}
		n.mu.Lock()
		before := n.read
		n.mu.Unlock()
		taken := in.taken.Load()
		if emitted := n.Kernel.Emitted(); before+taken < emitted {
			return fmt.Sprintf("node %s: the agent has read %d of %d events", n.Name, before+taken, emitted), nil
		}
		s, err := in.agent.Status(ctx)
		if err != nil {
			return err.Error(), nil
		}
		if s.Flows.Seen+s.Flows.Lost < taken {
			return fmt.Sprintf("node %s: the agent has recorded %d of %d events", n.Name, s.Flows.Seen, taken), nil
		}
	}
	return "", nil
}
