package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

// atOnce is how many agents are asked at the same time.
const atOnce = 16

// answer is what one agent said to a command.
type answer struct {
	pod      cluster.Pod
	out, err bytes.Buffer
	fault    error // the command could not be run, or ended with another exit status than 0
}

// agents lists the agents to ask: those that run, or that of --node.
func (g *globals) agents(ctx context.Context, cl clusterAccess) ([]cluster.Pod, error) {
	all, err := cl.Agents(ctx)
	if err != nil {
		return nil, err
	}
	var out []cluster.Pod
	var names []string
	for _, p := range all {
		names = append(names, p.Node)
		if p.Phase == "Running" && (g.node == "" || p.Node == g.node) {
			out = append(out, p)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(all) == 0:
		return nil, fmt.Errorf("no agents in namespace %s: is weir installed there? (weir status)", cl.Namespace())
	case g.node != "":
		return nil, fmt.Errorf("no running agent on node %q; there are agents on: %s", g.node, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("none of the %d agents runs (weir status says why)", len(all))
}

// ask runs a command of the agents' own program in their pods.
func (g *globals) ask(ctx context.Context, cl clusterAccess, args []string) ([]*answer, error) {
	pods, err := g.agents(ctx, cl)
	if err != nil {
		return nil, err
	}
	answers := make([]*answer, len(pods))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, p := range pods {
		a := &answer{pod: p}
		answers[i] = a
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			a.fault = cl.Exec(ctx, p.Name, append([]string{agentProgram}, args...), &a.out, &a.err)
		}()
	}
	wg.Wait()
	return answers, nil
}

// forward passes a command on to the agents and prints their answers, each under its node's name if there
// are several.
func (g *globals) forward(c *cobra.Command) error {
	cl, err := g.cluster()
	if err != nil {
		return err
	}
	answers, err := g.ask(c.Context(), cl, passedOn(g.args, c))
	if err != nil {
		return err
	}
	if asJSON := c.Flags().Lookup("output"); asJSON != nil && asJSON.Value.String() == "json" && len(answers) > 1 {
		if done, err := g.printJSONAnswers(answers); done {
			return errors.Join(err, outcome(answers))
		}
	}
	for i, a := range answers {
		if len(answers) > 1 {
			if i > 0 {
				fmt.Fprintln(g.out)
			}
			fmt.Fprintf(g.out, "==== %s ====\n", a.pod.Node)
		}
		if _, err := g.out.Write(a.out.Bytes()); err != nil {
			return err
		}
		if _, err := g.err.Write(a.err.Bytes()); err != nil {
			return err
		}
		g.printFault(a)
	}
	return outcome(answers)
}

// printFault tells a failure that the agent could not tell itself.
func (g *globals) printFault(a *answer) {
	var exit *cluster.ExitError
	if a.fault != nil && !errors.As(a.fault, &exit) {
		fmt.Fprintf(g.err, "node %s: %v\n", a.pod.Node, a.fault)
	}
}

// printJSONAnswers prints one object with an answer for each node, if all answers are JSON.
func (g *globals) printJSONAnswers(answers []*answer) (bool, error) {
	all := make(map[string]json.RawMessage, len(answers))
	for _, a := range answers {
		if !json.Valid(a.out.Bytes()) {
			return false, nil
		}
		all[a.pod.Node] = a.out.Bytes()
	}
	for _, a := range answers {
		if _, err := g.err.Write(a.err.Bytes()); err != nil {
			return true, err
		}
		g.printFault(a)
	}
	return true, printJSON(g.out, all)
}

// outcome is the exit status: that of the agents if they agree, 1 if they do not.
func outcome(answers []*answer) error {
	var codes []int
	for _, a := range answers {
		var exit *cluster.ExitError
		switch {
		case a.fault == nil:
			codes = append(codes, exitOK)
		case errors.As(a.fault, &exit):
			codes = append(codes, exit.Code)
		default:
			codes = append(codes, exitFailed)
		}
	}
	slices.Sort(codes)
	if codes = slices.Compact(codes); len(codes) > 1 {
		return doneError{exitFailed}
	}
	return doneError{codes[0]}
}
