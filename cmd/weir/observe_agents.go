package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/core/flow"
)

// observe delivers flows of the agent, or of all agents of the cluster. args are the command line for the
// agents' own program, which has to print JSON.
func (g *globals) observe(c *cobra.Command, q flow.Query, args []string, deliver func(flow.Entry) error) error {
	var err error
	if g.remote {
		err = g.observeAgents(c.Context(), q, args, deliver)
	} else {
		err = g.agent().Observe(c.Context(), q, deliver)
	}
	if q.Follow && errors.Is(err, context.Canceled) {
		return nil // Ctrl-C is how one stops following
	}
	return err
}

func (g *globals) observeAgents(ctx context.Context, q flow.Query, args []string, deliver func(flow.Entry) error) error {
	cl, err := g.cluster()
	if err != nil {
		return err
	}
	if q.Follow {
		return g.followAgents(ctx, cl, args, deliver)
	}
	answers, err := g.ask(ctx, cl, args)
	if err != nil {
		return err
	}
	var all []flow.Entry
	failed := 0
	for _, a := range answers {
		entries, _, err := readFlows(&a.out)
		if fault := errors.Join(a.fault, err); fault != nil {
			failed++
			fmt.Fprintf(g.err, "node %s: %v\n%s", a.pod.Node, fault, a.err.Bytes())
		}
		all = append(all, entries...)
	}
	sort.SliceStable(all, func(i, j int) bool { return when(all[i]).Before(when(all[j])) })
	if err := selectFlows(all, q, deliver); err != nil {
		return err
	}
	if failed > 0 {
		return doneError{exitFailed}
	}
	return nil
}

func when(e flow.Entry) time.Time {
	if e.Flow != nil {
		return e.Flow.Time
	}
	return e.Lost.Last
}

// followAgents delivers flows in the order in which they come in, until the context or the last agent
// ends.
func (g *globals) followAgents(ctx context.Context, cl clusterAccess, args []string, deliver func(flow.Entry) error) error {
	pods, err := g.agents(ctx, cl)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var mu sync.Mutex
	take := func(e flow.Entry) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			if err := deliver(e); err != nil {
				stop(err)
			}
		}
	}
	faults := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Add(1)
		go func() {
			defer wg.Done()
			faults[i] = follow(ctx, cl, p, args, take, g.err)
		}()
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(faults...)
}

func follow(ctx context.Context, cl clusterAccess, p cluster.Pod, args []string, take func(flow.Entry), stderr io.Writer) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- eachFlow(r, take) }()
	var complaint bytes.Buffer
	err := cl.Exec(ctx, p.Name, append([]string{agentProgram}, args...), w, &complaint)
	w.Close()
	if err = errors.Join(err, <-done); err == nil || ctx.Err() != nil {
		return nil
	}
	fmt.Fprintf(stderr, "node %s: %v\n%s", p.Node, err, complaint.Bytes())
	return fmt.Errorf("node %s: %w", p.Node, err)
}
