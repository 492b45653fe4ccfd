package sim

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed only and, with -v, print its trace")
	seedsFlag = flag.Uint64("seeds", 200, "how many seeds to run")
	firstFlag = flag.Uint64("first", 1, "the first of them")
	stepsFlag = flag.Int("steps", 400, "events of a run")
	miniFlag  = flag.Bool("minimise", true, "look for a shorter list of events that fails")
	soakFlag  = flag.Bool("soak", false, "print progress, and go on after a failure")
)

// minimiseFor bounds the search for the shortest list of events that still fails.
const minimiseFor = 20 * time.Second

func report(t *testing.T, f *Failure, events []Event) {
	t.Helper()
	if !*miniFlag {
		t.Error(f)
		return
	}
	t.Error(describe(f, events, func(list []Event, out io.Writer) *Failure { return Run(f.Seed, list, out).Failure }))
}

// describe says what failed, how to see it again, and what is enough for it.
func describe(f *Failure, events []Event, run func([]Event, io.Writer) *Failure) string {
	short := minimise(events, f.Invariant, minimiseFor, func(list []Event) *Failure { return run(list, nil) })
	var out bytes.Buffer
	again := run(short, &out)
	var list strings.Builder
	for i, e := range short {
		fmt.Fprintf(&list, "%4d %s\n", i, e)
	}
	lines := strings.Split(out.String(), "\n")
	return fmt.Sprintf("%s\n\nto see all of it: go test ./test/sim -run 'Sim$' -seed %d -steps %d -v\n\n%d of %d events are enough (fails again: %v):\n%s\nthe end of their trace:\n%s",
		f, f.Seed, len(events), len(short), len(events), again != nil, &list, strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

func TestSim(t *testing.T) {
	if *seedFlag != 0 {
		events := Plan(*seedFlag, *stepsFlag)
		if testing.Verbose() {
			r := Run(*seedFlag, events, os.Stdout)
			t.Logf("%+v", r.Counts)
		}
		if r := Run(*seedFlag, events, nil); r.Failure != nil {
			report(t, r.Failure, events)
		}
		return
	}
	var next, done atomic.Uint64
	next.Store(*firstFlag)
	last := *firstFlag + *seedsFlag
	var failed atomic.Bool // one failure is enough to look at, except in a soak
	var total atomicCounts
	started := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for worker := range 2 {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < last && (*soakFlag || !failed.Load()); seed = next.Add(1) - 1 {
					events := Plan(seed, *stepsFlag)
					r := Run(seed, events, nil)
					total.add(r.Counts)
					if r.Failure != nil {
						failed.Store(true)
						report(t, r.Failure, events)
					}
					if n := done.Add(1); *soakFlag && n%100 == 0 {
						fmt.Printf("sim: %d of %d seeds, %s: %s\n", n, *seedsFlag, time.Since(started).Round(time.Second), &total)
					}
				}
			})
		}
	})
	t.Logf("%d seeds of %d events: %s", done.Load(), *stepsFlag, &total)
	// A simulation in which nothing happens proves nothing.
	if *seedsFlag >= 100 && *stepsFlag >= 400 && !t.Failed() {
		for what, n := range total.perSeed(done.Load()) {
			require.Positive(t, n, what)
		}
	}
}

// atomicCounts sums up the counts of runs.
type atomicCounts struct {
	hooks, drops, causes, mustPass, quiets, pairs, rows, connects atomic.Int64
}

func (a *atomicCounts) add(c counts) {
	a.hooks.Add(int64(c.hooks))
	a.drops.Add(int64(c.drops))
	a.causes.Add(int64(c.causes))
	a.mustPass.Add(int64(c.mustPass))
	a.quiets.Add(int64(c.quiets))
	a.pairs.Add(int64(c.pairs))
	a.rows.Add(int64(c.rows))
	a.connects.Add(int64(c.connects))
}

func (a *atomicCounts) perSeed(seeds uint64) map[string]int64 {
	n := int64(seeds)
	return map[string]int64{
		"hooks": a.hooks.Load() / n, "drops": a.drops.Load() / n, "causes": a.causes.Load() / n, "established": a.mustPass.Load() / n,
		"quiet": a.quiets.Load() / n, "verdicts": a.pairs.Load() / n, "rows": a.rows.Load() / n, "connections": a.connects.Load() / n,
	}
}

func (a *atomicCounts) String() string {
	return fmt.Sprintf("%d packets at hooks judged, %d drops by policy, %d causes checked, %d sends over established connections that had to pass, %d quiet moments with %d rows, %d verdicts, %d connections",
		a.hooks.Load(), a.drops.Load(), a.causes.Load(), a.mustPass.Load(), a.quiets.Load(), a.rows.Load(), a.pairs.Load(), a.connects.Load())
}

// The same seed gives the same run, byte for byte.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 12; seed++ {
		var a, b bytes.Buffer
		one, two := Run(seed, Plan(seed, 300), &a), Run(seed, Plan(seed, 300), &b)
		if one.Digest != two.Digest || !bytes.Equal(a.Bytes(), b.Bytes()) {
			x, y := strings.Split(a.String(), "\n"), strings.Split(b.String(), "\n")
			for i := range min(len(x), len(y)) {
				require.Equal(t, x[i], y[i], "seed %d, line %d", seed, i)
			}
			t.Fatalf("seed %d: traces of %d and %d lines", seed, len(x), len(y))
		}
		require.Greater(t, a.Len(), 10000, "something happened")
	}
}

// A failing run says its seed, how to see it again, and the few of its events that are enough. The failure here
// is made up: two policies after a pod.
func TestFailureIsMinimised(t *testing.T) {
	const seed = 5
	planted := func(list []Event, out io.Writer) *Failure {
		pods, policies := 0, 0
		return run(seed, list, out, func(s *Sim, e Event) {
			switch e.Kind {
			case CreatePod:
				pods++
			case PutPolicy:
				if pods > 0 {
					policies++
				}
			}
			if policies == 2 {
				s.failf("artificial", "two policies after a pod")
			}
		}).Failure
	}
	events := Plan(seed, 50)
	f := planted(events, nil)
	require.NotNil(t, f)
	require.Equal(t, "artificial", f.Invariant)

	short := minimise(events, "artificial", time.Minute, func(list []Event) *Failure { return planted(list, nil) })
	var kinds []Kind
	for _, e := range short {
		kinds = append(kinds, e.Kind)
	}
	require.Equal(t, []Kind{CreatePod, PutPolicy, PutPolicy}, kinds)
	require.NotNil(t, planted(short, nil))

	// Another invariant's failure is not taken for this one's.
	require.Equal(t, events, minimise(events, "reach", time.Minute, func(list []Event) *Failure { return planted(list, nil) }))

	text := describe(f, events, planted)
	for _, want := range []string{
		"seed 5 step", "artificial: two policies after a pod", "go test ./test/sim -run 'Sim$' -seed 5 -steps 50 -v",
		"3 of 50 events are enough (fails again: true)", short[0].String(), short[2].String(), "FAILED seed 5 step 2",
	} {
		require.Contains(t, text, want)
	}
}
