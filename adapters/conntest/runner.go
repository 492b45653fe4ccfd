// Package conntest carries out the connectivity test of core/connectivity through a playground: it
// deploys the pods, waits until they and the network are ready, applies one test's policies after the
// other, lets the pods talk, and reports as it goes.
package conntest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Options of a run. The zero value is not usable: Namespace must be set.
type Options struct {
	Namespace   string
	Filter      connectivity.Filter
	SingleNode  bool                            // put everything on one node, whatever there is
	ForceDeploy bool                            // begin with a new namespace
	Cleanup     bool                            // remove the namespace in the end
	PauseOnFail func(ctx context.Context) error // called when a test has failed; nil: go on

	Image           string // of the pods; empty: the agents'
	NamespaceLabels map[string]string
	PodAnnotations  map[string]string
	Tolerations     []string
	NodeSelector    map[string]string

	Outside, Other []netip.AddrPort // outside the cluster; without Outside: where the API server is, if that is no node

	// Expected are reasons of drops that are no fault; see connectivity.ExpectedDrops. LogLevels are those of log lines
	// that are one; empty: ERROR.
	Expected  []string
	LogLevels []string

	// Disruption leaves connections behind instead of testing if Setup, or looks at those that were. What is to be
	// remembered in between is in the file Restarts.
	Disruption Disruption

	ConnectTimeout time.Duration // silence for that long is a drop; 0: 2 s
	RequestTimeout time.Duration // of one probe that shall be answered; 0: 10 s
	Retries        int           // more tries of what shall be answered and was met by silence
	Concurrency    int           // pods that send at the same time; 0: 8
	DeployTimeout  time.Duration // 0: 5 minutes
	PolicyTimeout  time.Duration // 0: 30 s
}

// Disruption is a test over several runs: connections are to survive what is done to the cluster meanwhile.
type Disruption struct {
	Include, Setup bool
	Restarts       string        // a path
	Interval       time.Duration // between two requests on a connection; 0: 100 ms
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.ConnectTimeout, 2*time.Second)
	set(&o.RequestTimeout, 10*time.Second)
	set(&o.DeployTimeout, 5*time.Minute)
	set(&o.PolicyTimeout, 30*time.Second)
	set(&o.Disruption.Interval, 100*time.Millisecond)
	if len(o.LogLevels) == 0 {
		o.LogLevels = []string{"ERROR"}
	}
	if o.Concurrency == 0 {
		o.Concurrency = 8
	}
	return o
}

// Runner runs the test. It has one caller.
type Runner struct {
	p   ports.Playground
	o   Options
	out *Printer
	now func() time.Time

	layout connectivity.Layout
	world  connectivity.World
	last   []connectivity.Document // policies of the test before, still applied

	restarts map[string]int                        // of the clients that keep connections, when they were made
	dropped  map[string]map[datapath.Reason]uint64 // by node, when the run began
}

// New makes a runner. now is the clock for durations and time stamps.
func New(p ports.Playground, o Options, out *Printer, now func() time.Time) *Runner {
	return &Runner{p: p, o: o.withDefaults(), out: out, now: now}
}

// Run deploys, tests and reports. The error says what kept the tests from being run; failed tests are in
// the report.
func (r *Runner) Run(ctx context.Context) (*connectivity.Report, error) {
	report := &connectivity.Report{Namespace: r.o.Namespace, Started: r.now()}
	err := r.runAll(ctx, report)
	if err != nil {
		report.Aborted = err.Error()
	}
	return report, err
}

func (r *Runner) runAll(ctx context.Context, report *connectivity.Report) error {
	tests, absent := r.o.Filter.Chooses()
	switch {
	case len(tests) == 0 && len(absent) > 0:
		return fmt.Errorf("nothing is left to run: test %s is not there: %s", absent[0].Name, absent[0].Why)
	case len(tests) == 0:
		return errors.New("no test has such a name; see --list")
	}
	if err := r.recall(); err != nil {
		return err
	}
	if err := r.own(ctx); err != nil {
		return err
	}
	// Policies must not stay when the run ends early.
	defer r.leave(ctx)
	if err := r.deploy(ctx); err != nil {
		return err
	}
	if d := r.o.Disruption; d.Include && d.Setup {
		return r.remember()
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	steps, err := connectivity.Plan(r.world, r.o.Filter)
	if err != nil {
		return err
	}
	r.out.Say("🏃[%s] Running %d tests ...", r.o.Namespace, len(steps))
	for i, s := range steps {
		result := r.run(ctx, s, i+1, len(steps))
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("interrupted in test %s: %w", s.Test.Name, err)
		}
		report.Tests = append(report.Tests, result)
		if result.Failed() && r.o.PauseOnFail != nil {
			if err := r.o.PauseOnFail(ctx); err != nil {
				return fmt.Errorf("interrupted after test %s: %w", s.Test.Name, err)
			}
		}
	}
	r.out.Say("📋 Test Report [%s]", r.o.Namespace)
	for _, line := range report.Lines() {
		r.out.Say("%s", line)
	}
	if r.o.Filter.Everything() {
		r.out.Say("ℹ️  %s", connectivity.AbsentSummary())
	}
	return nil
}

// own refuses namespaces of somebody else: what is in there would be in the way, or be deleted.
func (r *Runner) own(ctx context.Context) error {
	for _, ns := range connectivity.Namespaces(r.o.Namespace) {
		foreign, err := r.p.Foreign(ctx, ns)
		if err != nil {
			return fmt.Errorf("look at namespace %s: %w", ns, err)
		}
		if foreign {
			return fmt.Errorf("namespace %s is there and not the test's; name another one with --test-namespace (if it was made for the test alone, give it the label %s=true)", ns, connectivity.OwnerLabel)
		}
	}
	return nil
}

// leave removes what must not stay, however the run ended, and says what stays if it was interrupted.
func (r *Runner) leave(ctx context.Context) {
	interrupted := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	if interrupted {
		r.out.Say("🛑 [%s] Interrupted; removing policies...", r.o.Namespace)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := r.p.DeletePolicies(short, r.o.Namespace)
	if err != nil {
		r.out.Warn("policies of the test may be left in namespace %s: %v", r.o.Namespace, err)
	}
	if r.o.Cleanup {
		r.cleanup(ctx)
	} else if interrupted {
		names := connectivity.Namespaces(r.o.Namespace)
		if err == nil {
			r.out.Say("No policy of the test is left.")
		}
		r.out.Say("Its pods stay for the next run; to remove them: kubectl delete namespace %s", strings.Join(names, " "))
	}
}

func (r *Runner) cleanup(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	r.out.Say("🧹 [%s] Deleting namespaces %s...", r.p.Cluster(), strings.Join(connectivity.Namespaces(r.o.Namespace), ", "))
	if err := r.deleteNamespaces(ctx); err != nil {
		r.out.Warn("%v", err)
	}
}

// run carries out one test.
func (r *Runner) run(ctx context.Context, s connectivity.Step, n, of int) (result connectivity.TestResult) {
	var err error
	result = connectivity.TestResult{Name: s.Test.Name, Skip: s.Skip, Skipped: s.Skipped, Actions: len(s.Actions)}
	if s.Skip != "" {
		r.out.Say("[-] [%s] Skipping test [%s] [%d/%d] (%s)", r.o.Namespace, s.Test.Name, n, of, s.Skip)
		return result
	}
	r.out.Say("[=] [%s] Test [%s] [%d/%d]", r.o.Namespace, s.Test.Name, n, of)
	for _, sk := range s.Skipped {
		r.out.Debug("  [-] Skipping scenario [%s] (%s)", sk.Scenario, sk.Why)
	}
	begin := r.now()
	defer func() { result.Took = r.now().Sub(begin) }()
	if s.Test.Check != "" {
		if result.Actions, result.Problems, err = r.check(ctx, s.Test.Check); err != nil {
			return r.giveUp(ctx, result, err)
		}
		// One place may have several; no more can fail than were tried.
		result.Actions = max(result.Actions, len(result.Problems))
		for _, p := range result.Problems {
			r.out.Say("  ❌ %s", p)
		}
		return result
	}
	if err = r.enforce(ctx, s.Policies); err != nil {
		return r.giveUp(ctx, result, err)
	}
	outcomes, err := r.act(ctx, s.Actions)
	if err != nil {
		return r.giveUp(ctx, result, err)
	}
	for i, a := range s.Actions {
		if problem := connectivity.Judge(a, outcomes[i]); problem != "" {
			result.Failures = append(result.Failures, connectivity.Failure{Action: a, Problem: problem})
		}
		r.out.Debug("  [.] %s/%s: %s: %s", a.Scenario, a.Name, a, outcomes[i].Result)
	}
	for _, f := range result.Failures {
		r.out.Say("  ❌ %s: %s: %s", f.Path(), f.Action, f.Problem)
	}
	result.Evidence = r.evidence(ctx, begin, result.Failures)
	return result
}

// giveUp notes why a test could not be carried out.
func (r *Runner) giveUp(ctx context.Context, t connectivity.TestResult, err error) connectivity.TestResult {
	t.Error = err.Error()
	if ctx.Err() == nil { // the end of the run is no news about the network
		r.out.Say("  ❌ %v", err)
	}
	return t
}

// evidence asks the agents that took part in failures.
func (r *Runner) evidence(ctx context.Context, since time.Time, failures []connectivity.Failure) []string {
	addrs := map[string][]netip.Addr{}
	var nodes []string
	for _, f := range failures {
		for _, n := range f.Action.Nodes {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
			addrs[n] = append(addrs[n], r.involved(f.Action)...)
		}
	}
	var out []string
	for _, n := range nodes {
		slices.SortFunc(addrs[n], netip.Addr.Compare)
		text, err := r.p.Evidence(ctx, n, since, slices.Compact(addrs[n]))
		if err != nil {
			text = fmt.Sprintf("the agent can't be asked: %v", err)
		}
		out = append(out, "node "+n+":\n"+text)
		r.out.Say("  🔎 node %s:", n)
		r.out.Indented(text)
	}
	return out
}

// involved are the addresses that tell an action's flows from others': of the pods that were to answer, else
// the target, and where only a name is known those of the source.
func (r *Runner) involved(a connectivity.Action) (out []netip.Addr) {
	for _, p := range r.world.Pods {
		if slices.Contains(a.Answerers, p.Name.Name) || len(a.Answerers) == 0 && slices.Contains(p.IPs, a.Probe.Addr) {
			out = append(out, p.IPs...)
		}
	}
	if len(out) == 0 && a.Probe.Addr.IsValid() && a.ToRole != connectivity.RoleAPIServer {
		return []netip.Addr{a.Probe.Addr}
	}
	for _, p := range r.world.Pods {
		if len(out) == 0 && p.Name == a.From {
			return p.IPs
		}
	}
	return out
}
