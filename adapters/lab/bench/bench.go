package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/ports"
)

// DefaultName is the name of the lab that is built for a run. It is apart from a user's own.
const DefaultName = "bench"

// Bounds and defaults of Options.
const (
	DefaultRounds = 5
	DefaultWindow = time.Second
	MaxRounds     = 100
	MaxWindow     = 5 * time.Minute
	MinWindow     = 50 * time.Millisecond
)

// Options of a run.
type Options struct {
	Cases  []Case
	Rounds int           // of each case; 0: DefaultRounds
	Window time.Duration // of one measurement; 0: DefaultWindow
	CPUs   []int         // that the client and the server are bound to: one for both, or two; nil: the first two there are
	Keep   bool          // leave the last bed for a look at it
	Weir   string        // version, for the record

	// KubeProxy is the program of kube-proxy, for ViaKubeProxy. Mode is its mode, nftables if empty.
	KubeProxy, KubeProxyMode string

	// Lab returns a handle on the lab to build for a routing. An error that wraps ports.ErrUnsupported makes
	// the cases that need it skipped, with its text as the reason.
	Lab func(r Routing) (*lab.Lab, error)
	// Log tells the progress, a line at a time. Nil: silence.
	Log func(format string, args ...any)
}

type runner struct {
	o    Options
	host Host
	lab  *lab.Lab
}

// Measure builds the bed, measures the cases and takes the bed away again. What cannot be measured is told
// by its result; the error is about the bed, and about the end of the context. The run holds what was
// measured until then.
func Measure(ctx context.Context, o Options) (*Run, error) {
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if err := lab.Check(); err != nil {
		return nil, err
	}
	if len(o.Cases) == 0 {
		return nil, errors.New("measure: no case was chosen")
	}
	r := &runner{o: o, host: readHost()}
	var err error
	if r.o.CPUs, err = chooseCPUs(o.CPUs, allowedCPUs()); err != nil {
		return nil, err
	}
	run := &Run{
		Version: runVersion, Weir: o.Weir, Started: time.Now().UTC().Truncate(time.Second), Machine: r.host,
		Rounds: o.Rounds, Window: o.Window.Seconds(), CPUs: r.o.CPUs,
	}
	begin := time.Now()
	defer func() { run.Seconds = time.Since(begin).Round(time.Millisecond).Seconds() }()
	byRouting := map[Routing][]Case{}
	for _, c := range o.Cases {
		byRouting[c.routing()] = append(byRouting[c.routing()], c)
	}
	for _, routing := range []Routing{VXLAN, Native} {
		cases := byRouting[routing]
		delete(byRouting, routing)
		if len(cases) == 0 {
			continue
		}
		// The next lab has the same name, so only the last one can stay.
		keep := o.Keep && len(byRouting) == 0
		if err := r.inLab(ctx, routing, cases, keep, run); err != nil {
			return run, err
		}
	}
	run.Warnings = warnings(run)
	return run, nil
}

// warmup precedes every measurement.
func (r *runner) warmup() time.Duration { return max(r.o.Window/5, 50*time.Millisecond) }

// cpu is that of the client (0) or the server (1).
func (r *runner) cpu(i int) int { return r.o.CPUs[min(i, len(r.o.CPUs)-1)] }

// inLab measures the cases that need the same lab, which lasts no longer.
func (r *runner) inLab(ctx context.Context, routing Routing, cases []Case, keep bool, run *Run) (err error) {
	l, err := r.o.Lab(routing)
	if errors.Is(err, ports.ErrUnsupported) {
		for _, c := range cases {
			run.Results = append(run.Results, Result{Case: c, Unit: metricOf(c.Kind).unit, Skipped: err.Error()})
		}
		return nil
	}
	if err != nil {
		return err
	}
	r.lab = l
	r.o.Log("building the bed: lab %q with 2 nodes, %s", l.Name(), routing)
	b, err := build(ctx, l, routing)
	if b == nil {
		return err // Up has left nothing
	}
	b.proxyProgram, b.proxyMode = r.o.KubeProxy, r.o.KubeProxyMode
	if !keep {
		defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	}
	defer b.stopFollowing()
	defer b.stopProxy()
	defer func() { b.short.Close() }()
	if err != nil {
		return err
	}
	for i, c := range cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		result := r.compare(ctx, b, c)
		if err := ctx.Err(); err != nil {
			return err
		}
		run.Results = append(run.Results, result)
		r.o.Log("%d/%d %s: %s", i+1, len(cases), c.Name, outcome(result))
	}
	return nil
}

func outcome(r Result) string {
	if r.Failed != "" {
		return "failed: " + r.Failed
	}
	return fmt.Sprintf("%.2f of %s (%.2f to %.2f)", r.Ratio.Median, r.Base.Name, r.Ratio.Min, r.Ratio.Max)
}

// compare measures a case and its baseline in turns: A B, B A, A B, …
func (r *runner) compare(ctx context.Context, b *bed, c Case) Result {
	result := Result{Case: c, Unit: metricOf(c.Kind).unit}
	result.Own.Name, result.Base.Name = ownName(c), c.Baseline
	err := b.set(ctx, c.state())
	var own, baseline ends
	if err == nil {
		own, baseline, err = b.ends(ctx, c)
	}
	for round := 0; round < r.o.Rounds && err == nil; round++ {
		turns := []struct {
			side *Side
			ends ends
		}{{&result.Base, baseline}, {&result.Own, own}}
		if round%2 == 1 {
			turns[0], turns[1] = turns[1], turns[0]
		}
		for _, t := range turns {
			var m Measurement
			if m, err = r.measure(ctx, c, t.ends, round); err != nil {
				err = fmt.Errorf("round %d, %s: %w", round+1, t.side.Name, err)
				break
			}
			t.side.Rounds = append(t.side.Rounds, m)
		}
	}
	result.summarize()
	if err == nil && b.now.export && b.followErr != nil {
		err = b.followErr
	}
	switch {
	case errors.Is(err, ports.ErrUnsupported):
		result.Skipped = err.Error()
	case err != nil:
		result.Failed = err.Error()
	}
	return result
}

// ownName says what a case is about, in the table.
func ownName(c Case) string {
	switch {
	case c.Via == ViaLimit && c.Place == PlaceNative:
		return "one lookup"
	case c.Via == ViaLimit:
		return "one link"
	case c.Via == ViaPlain && c.Place == PlaceVXLAN:
		return RawVXLAN
	case c.Via == ViaPlain:
		return RawRoute
	case c.Via == ViaService || c.Via == ViaKubeProxy:
		return "weir service"
	}
	return "weir"
}
