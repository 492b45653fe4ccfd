package conntest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/policy"
)

// probesAtOnce bounds what one pod does at the same time.
const probesAtOnce = 32

// enforce makes these the only policies of the test's namespace, and returns when every node's agent
// says so.
func (r *Runner) enforce(ctx context.Context, docs []connectivity.Document) error {
	gone, want := r.last, []policy.Ref(nil)
	// What could not be removed is removed by the next test, or it would be in force in all that follow.
	r.last = slices.Concat(gone, docs)
	var before []policy.Ref
	for _, d := range gone {
		refs, err := connectivity.PolicyRefs(d)
		if err != nil {
			return fmt.Errorf("policy %s: %w", d.Name, err)
		}
		before = append(before, refs...)
	}
	if len(gone) > 0 {
		if err := r.p.Delete(ctx, gone...); err != nil {
			return fmt.Errorf("remove the policies of the test before: %w", err)
		}
	}
	r.last = docs
	for _, d := range docs {
		refs, err := connectivity.PolicyRefs(d)
		if err != nil {
			return fmt.Errorf("policy %s: %w", d.Name, err)
		}
		want = append(want, refs...)
	}
	if len(docs) > 0 {
		if err := r.p.Apply(ctx, docs...); err != nil {
			return fmt.Errorf("apply policies: %w", err)
		}
	}
	slices.SortFunc(want, policy.Ref.Compare)
	err := r.await(ctx, r.o.PolicyTimeout, 50*time.Millisecond, func(ctx context.Context) (string, error) {
		for _, n := range r.testNodes() {
			if what := r.notInForce(ctx, n, want, before); what != "" {
				return "agent of " + n + ": " + what, nil
			}
			if what := r.doubted(ctx, n, docs, want); what != "" {
				return "agent of " + n + ": " + what, nil
			}
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("policies are not in force: %w", err)
	}
	return nil
}

// doubted says what an agent finds wrong with policies that name groups of addresses: a group comes by a way
// of its own, and until it is there the policy is in force without it.
func (r *Runner) doubted(ctx context.Context, node string, docs []connectivity.Document, refs []policy.Ref) string {
	if !slices.ContainsFunc(docs, func(d connectivity.Document) bool { return bytes.Contains(d.Content, []byte("cidrGroup")) }) {
		return ""
	}
	status, err := r.p.Status(ctx, node)
	if err != nil {
		return err.Error()
	}
	for _, f := range status.Findings {
		if slices.ContainsFunc(refs, func(p policy.Ref) bool { return p.String() == f.Object }) {
			return f.String()
		}
	}
	return ""
}

// notInForce says how an agent's policies for the namespace differ from those wanted. Those for the whole
// cluster count if they are wanted or belonged to the test before.
func (r *Runner) notInForce(ctx context.Context, node string, want, before []policy.Ref) string {
	all, err := r.p.Policies(ctx, node)
	if err != nil {
		return err.Error()
	}
	have := slices.DeleteFunc(slices.Clone(all), func(p policy.Ref) bool {
		return p.Namespace != r.o.Namespace && !slices.Contains(want, p) && !slices.Contains(before, p)
	})
	for _, p := range want {
		if !slices.Contains(have, p) {
			return p.String() + " is not in force yet"
		}
	}
	for _, p := range have {
		if !slices.Contains(want, p) {
			return p.String() + " is still in force"
		}
	}
	return ""
}

// act carries out the actions of a test.
func (r *Runner) act(ctx context.Context, actions []connectivity.Action) ([]connectivity.Outcome, error) {
	return r.carryOut(ctx, actions, r.out.Dot)
}

// carryOut gives every source pod its part of the actions. The outcomes come in the order of the actions.
func (r *Runner) carryOut(ctx context.Context, actions []connectivity.Action, done func()) ([]connectivity.Outcome, error) {
	step := connectivity.Step{Actions: actions}
	outcomes := make([]connectivity.Outcome, len(actions))
	slots := make(chan struct{}, r.o.Concurrency)
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, from := range step.Sources() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := r.carryOutFrom(ctx, from, actions, outcomes, done); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return outcomes, errors.Join(errs...)
}

func (r *Runner) carryOutFrom(ctx context.Context, from cluster.Name, actions []connectivity.Action, outcomes []connectivity.Outcome, done func()) error {
	job := connectivity.Job{Parallel: probesAtOnce}
	var owners []int
	for i, a := range actions {
		if a.From != from {
			continue
		}
		t := connectivity.Timed{Probe: a.Probe, Timeout: r.o.ConnectTimeout}
		if a.Expect == connectivity.Allowed {
			t.Timeout, t.Tries = r.o.RequestTimeout, 1+r.o.Retries
		}
		job.Probes = append(job.Probes, t)
		owners = append(owners, i)
	}
	list, err := r.p.Probe(ctx, from, job)
	if err != nil {
		return fmt.Errorf("probes of %s: %w", from, err)
	}
	if len(list) != len(owners) {
		return fmt.Errorf("probes of %s: %d of %d have an outcome", from, len(list), len(owners))
	}
	for i, o := range list {
		outcomes[owners[i]] = o
		done()
	}
	return nil
}
