// Package agent has in-memory stand-ins for what an agent offers to the command line and to the CNI
// plugin.
package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// State is everything a fake agent knows.
type State struct {
	Status       ports.Status
	Endpoints    []ports.EndpointInfo
	Identities   []ports.IdentityInfo
	Services     []ports.ServiceInfo
	Nodes        []cluster.Node
	Policies     ports.PolicyInfo
	Rules        map[datapath.Cookie]policy.Verdict
	Tables       ports.TablesDump
	Flows        []datapath.Flow
	Translations []datapath.Translation
}

// Inspector answers from a State that it was given, and from the flows recorded with Record. It may
// be used by several goroutines.
type Inspector struct {
	mu    sync.Mutex
	state State
	fail  error
	ring  flow.Ring
	more  chan struct{} // closed and replaced at every Record
}

var _ ports.Inspector = (*Inspector)(nil)

// NewInspector makes a fake that keeps this many flows; 0 means flow.DefaultCapacity.
func NewInspector(s State, capacity int) *Inspector {
	return &Inspector{state: s, ring: flow.NewRing(capacity), more: make(chan struct{})}
}

// Record adds an observed flow, or news of loss, and wakes those who follow.
func (i *Inspector) Record(entries ...flow.Entry) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, e := range entries {
		i.ring.Push(e)
	}
	close(i.more)
	i.more = make(chan struct{})
}

// Fail makes every question fail with the error from now on; nil ends it.
func (i *Inspector) Fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail = err
}

// Set replaces the state.
func (i *Inspector) Set(s State) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state = s
}

// ask returns a part of the state, or the error that was asked for.
func ask[A any](i *Inspector, ctx context.Context, pick func(*State) A) (A, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var zero A
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	if i.fail != nil {
		return zero, i.fail
	}
	return pick(&i.state), nil
}

// Status implements ports.Inspector.
func (i *Inspector) Status(ctx context.Context) (ports.Status, error) {
	return ask(i, ctx, func(s *State) ports.Status { return s.Status })
}

// Endpoints implements ports.Inspector.
func (i *Inspector) Endpoints(ctx context.Context) ([]ports.EndpointInfo, error) {
	return ask(i, ctx, func(s *State) []ports.EndpointInfo { return s.Endpoints })
}

// Identities implements ports.Inspector.
func (i *Inspector) Identities(ctx context.Context) ([]ports.IdentityInfo, error) {
	return ask(i, ctx, func(s *State) []ports.IdentityInfo { return s.Identities })
}

// Services implements ports.Inspector.
func (i *Inspector) Services(ctx context.Context) ([]ports.ServiceInfo, error) {
	return ask(i, ctx, func(s *State) []ports.ServiceInfo { return s.Services })
}

// Nodes implements ports.Inspector.
func (i *Inspector) Nodes(ctx context.Context) ([]cluster.Node, error) {
	return ask(i, ctx, func(s *State) []cluster.Node { return s.Nodes })
}

// Policies implements ports.Inspector.
func (i *Inspector) Policies(ctx context.Context) (ports.PolicyInfo, error) {
	return ask(i, ctx, func(s *State) ports.PolicyInfo { return s.Policies })
}

// Rule implements ports.Inspector.
func (i *Inspector) Rule(ctx context.Context, c datapath.Cookie) (policy.Verdict, error) {
	type found struct {
		v  policy.Verdict
		ok bool
	}
	f, err := ask(i, ctx, func(s *State) found { v, ok := s.Rules[c]; return found{v, ok} })
	if err == nil && !f.ok {
		err = fmt.Errorf("rule with cookie %d: %w", c, ports.ErrNotFound)
	}
	return f.v, err
}

// Tables implements ports.Inspector.
func (i *Inspector) Tables(ctx context.Context) (ports.TablesDump, error) {
	return ask(i, ctx, func(s *State) ports.TablesDump { return s.Tables })
}

// Flows implements ports.Inspector.
func (i *Inspector) Flows(ctx context.Context) ([]datapath.Flow, error) {
	return ask(i, ctx, func(s *State) []datapath.Flow { return s.Flows })
}

// Translations implements ports.Inspector.
func (i *Inspector) Translations(ctx context.Context) ([]datapath.Translation, error) {
	return ask(i, ctx, func(s *State) []datapath.Translation { return s.Translations })
}

// FlushFlows implements ports.Inspector.
func (i *Inspector) FlushFlows(ctx context.Context) (int, error) {
	return ask(i, ctx, func(s *State) int { n := len(s.Flows); s.Flows = nil; return n })
}

// Observe implements ports.Inspector. deliver is called without a lock held, so it may ask the
// Inspector or record.
func (i *Inspector) Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error {
	match, err := flow.CompileQuery(q)
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	if _, err := ask(i, ctx, func(*State) struct{} { return struct{}{} }); err != nil {
		return err
	}
	i.mu.Lock()
	entries, cursor := i.ring.Select(q, match)
	i.mu.Unlock()
	for {
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := deliver(e); err != nil {
				return err
			}
		}
		if !q.Follow {
			return nil
		}
		var more <-chan struct{}
		if entries, cursor, more = i.after(cursor, match); len(entries) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// after reads what was recorded from the cursor on, and says what to wait for when that is nothing.
func (i *Inspector) after(c flow.Cursor, match func(*flow.Flow) bool) ([]flow.Entry, flow.Cursor, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []flow.Entry
	for {
		e, next, missed, ok := i.ring.Read(c)
		if !ok {
			return out, next, i.more
		}
		c = next
		if missed > 0 {
			at := i.state.Status.Started
			if e.Flow != nil {
				at = e.Flow.Time
			}
			out = append(out, flow.MissedEntry(missed, at))
		}
		if e.Flow == nil || match(e.Flow) {
			out = append(out, e)
		}
	}
}
