package conntest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/datapath"
)

// check looks at what there is to look at for a check, each place being an action.
func (r *Runner) check(ctx context.Context, c connectivity.Check) (actions int, problems []string, err error) {
	switch c {
	case connectivity.CheckConnections:
		return r.checkConnections(ctx)
	case connectivity.CheckDrops:
		return r.checkDrops(ctx)
	case connectivity.CheckLogs:
		return r.checkLogs(ctx)
	}
	return 0, nil, fmt.Errorf("there is no check %q", c)
}

// drops asks every node's agent for its counters of dropped packets.
func (r *Runner) drops(ctx context.Context) (map[string]map[datapath.Reason]uint64, error) {
	nodes, err := r.p.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	out := map[string]map[datapath.Reason]uint64{}
	for _, n := range nodes {
		status, err := r.p.Status(ctx, n.Name)
		if err != nil {
			return nil, fmt.Errorf("ask the agent of %s for its counters: %w", n.Name, err)
		}
		counts := map[datapath.Reason]uint64{}
		for _, c := range status.Counters {
			if c.Reason != 0 {
				counts[c.Reason] += c.Packets
			}
		}
		out[n.Name] = counts
	}
	return out, nil
}

func (r *Runner) checkDrops(ctx context.Context) (int, []string, error) {
	expected, err := connectivity.ExpectedDrops(r.o.Expected)
	if err != nil {
		return 0, nil, err
	}
	now, err := r.drops(ctx)
	if err != nil {
		return 0, nil, err
	}
	var problems []string
	for _, node := range slices.Sorted(maps.Keys(now)) {
		problems = append(problems, connectivity.JudgeDrops(node, now[node], r.dropped[node], expected)...)
	}
	return len(now), problems, nil
}

func (r *Runner) checkLogs(ctx context.Context) (int, []string, error) {
	judges := map[string]*connectivity.LogJudge{}
	err := r.p.Logs(ctx, func(pod, line string) {
		if judges[pod] == nil {
			judges[pod] = &connectivity.LogJudge{Levels: r.o.LogLevels}
		}
		judges[pod].Line(line)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read logs: %w", err)
	}
	var problems []string
	for _, pod := range slices.Sorted(maps.Keys(judges)) {
		problems = append(problems, judges[pod].Problems(pod)...)
	}
	return len(judges), problems, nil
}

func (r *Runner) checkConnections(ctx context.Context) (int, []string, error) {
	now := map[string]int{}
	for _, ns := range connectivity.Namespaces(r.o.Namespace) {
		pods, err := r.p.Pods(ctx, ns)
		if err != nil {
			return 0, nil, fmt.Errorf("list pods: %w", err)
		}
		maps.Copy(now, restarts(pods))
	}
	return len(r.restarts), connectivity.JudgeRestarts(r.restarts, now), nil
}

func restarts(pods []connectivity.Pod) map[string]int {
	out := map[string]int{}
	for _, p := range pods {
		if p.Role == connectivity.RoleDisruptClient {
			out[p.Name.String()] = p.Restarts
		}
	}
	return out
}

// remember notes how the connections stand, for a later run.
func (r *Runner) remember() error {
	path := r.o.Disruption.Restarts
	b, err := json.Marshal(restarts(r.world.Pods))
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("note the connections: %w", err)
	}
	r.out.Say("🔗 [%s] Connections are made and noted in %s; look at them later with --include-conn-disrupt-test", r.o.Namespace, path)
	return nil
}

// recall reads what an earlier run noted, if this one is to look at it.
func (r *Runner) recall() error {
	d := r.o.Disruption
	if !d.Include || d.Setup {
		return nil
	}
	b, err := os.ReadFile(d.Restarts)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no connections are noted in %s; make them first, with --include-conn-disrupt-test --conn-disrupt-test-setup", d.Restarts)
	}
	if err != nil {
		return fmt.Errorf("read which connections were made: %w", err)
	}
	if err := json.Unmarshal(b, &r.restarts); err != nil {
		return fmt.Errorf("read which connections were made: %s: %w", d.Restarts, err)
	}
	for pod := range r.restarts {
		if ns, _, _ := strings.Cut(pod, "/"); !slices.Contains(connectivity.Namespaces(r.o.Namespace), ns) {
			return fmt.Errorf("the connections noted in %s are of pod %s, and not of namespace %s; name the right one with --test-namespace or another file with --conn-disrupt-test-restarts-path", d.Restarts, pod, r.o.Namespace)
		}
	}
	r.world.Connections = true
	return nil
}
