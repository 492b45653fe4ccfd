package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags.
type options struct {
	only     *regexp.Regexp
	list     bool
	jobs     int
	limit    time.Duration
	baseline bool
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("mutants", flag.ContinueOnError)
	f.SetOutput(stderr)
	only := f.String("run", "", "try only mutants whose name matches `regexp`")
	f.BoolVar(&o.list, "list", false, "show the mutants and try none")
	f.IntVar(&o.jobs, "jobs", 2, "mutants to try at the same time")
	f.DurationVar(&o.limit, "limit", 3*time.Minute, "time for one run of tests")
	f.BoolVar(&o.baseline, "baseline", true, "first check that the tests pass without any mutant")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if f.NArg() > 0 || o.jobs < 1 {
		return o, fmt.Errorf("want no arguments and at least one job; see -help")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "mutants:", err)
		return 2
	}
	var chosen []mutant
	for _, m := range all() {
		if o.only.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintf(stderr, "mutants: -run %s: no mutant has such a name; -list shows them all\n", o.only)
		return 2
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(stdout, "%-36s %-32s %s\n", m.name, m.file, m.why)
		}
		fmt.Fprintf(stdout, "%d mutants\n", len(chosen))
		return 0
	}
	ok, err := check(ctx, o, chosen, stdout)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "mutants:", err)
		return 2
	case !ok:
		return 1
	}
	return 0
}

// check tries the mutants and reports; ok: none survived, and all could be tried or skipped.
func check(ctx context.Context, o options, chosen []mutant, w io.Writer) (ok bool, err error) {
	source, err := moduleRoot()
	if err != nil {
		return false, err
	}
	temp, err := os.MkdirTemp("", "weir-mutants-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	var runners []*runner
	noBPF, noKube := whyNoBPF(source), whyNoKube()
	for i := range min(o.jobs, max(1, len(chosen))) {
		t, err := copyTree(source, filepath.Join(temp, fmt.Sprint(i)))
		if err != nil {
			return false, err
		}
		runners = append(runners, &runner{tree: t, limit: o.limit, bpf: noBPF, kube: noKube})
	}
	if o.baseline {
		unsteady, err := baseline(ctx, runners, chosen, w)
		if err != nil {
			return false, err
		}
		for _, r := range runners {
			r.unsteady = unsteady
		}
	}
	return report(w, chosen, tryAll(ctx, runners, chosen, w)), ctx.Err()
}

// baseline runs every step that is to notice a mutant on the unchanged tree, and returns those that passed only
// at the second attempt. Tests that fail anyway would "notice" everything.
func baseline(ctx context.Context, runners []*runner, chosen []mutant, w io.Writer) (unsteady map[string]bool, err error) {
	unsteady = map[string]bool{}
	var steps []step
	seen := map[string]bool{}
	for _, m := range chosen {
		for _, s := range m.by.steps {
			s = runners[0].present(s)
			if s == nil || seen[s.String()] || runners[0].lacks(m.by) != "" {
				continue
			}
			seen[s.String()] = true
			steps = append(steps, s)
		}
	}
	errs := make([]error, len(steps))
	share(ctx, runners, len(steps), func(r *runner, i int, lock sync.Locker) {
		s, begin := steps[i], time.Now()
		out, err := r.test(ctx, s)
		again := err != nil && ctx.Err() == nil
		first := noticedBy(out)
		if again {
			out, err = r.test(ctx, s)
		}
		lock.Lock()
		defer lock.Unlock()
		switch {
		case err != nil:
			errs[i] = fmt.Errorf("%s fails without any mutant: %w\n%s", s, err, tail(out))
		case again:
			unsteady[s.String()] = true
			fmt.Fprintf(w, "unsteady   %s: %s failed without any mutant, and then passed\n", s, first)
		default:
			fmt.Fprintf(w, "unchanged  %5.1fs  %s\n", time.Since(begin).Seconds(), s)
		}
	})
	for _, r := range runners {
		errs = append(errs, r.tree.sweep())
	}
	return unsteady, errors.Join(errs...)
}

// share has the runners do n pieces of work, one each at a time, until all are begun or the context ends. The
// lock is for what they have in common.
func share(ctx context.Context, runners []*runner, n int, do func(r *runner, i int, lock sync.Locker)) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && ctx.Err() == nil
	}
	for _, r := range runners {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				do(r, i, &mu)
			}
		})
	}
	wg.Wait()
}

// tryAll shares the mutants out among the runners.
func tryAll(ctx context.Context, runners []*runner, chosen []mutant, w io.Writer) []outcome {
	out := slices.Repeat([]outcome{{fate: skipped, how: "interrupted"}}, len(chosen))
	done := 0
	share(ctx, runners, len(chosen), func(r *runner, i int, lock sync.Locker) {
		o := r.try(ctx, chosen[i])
		lock.Lock()
		defer lock.Unlock()
		out[i] = o
		done++
		fmt.Fprintf(w, "%3d/%d  %-8s  %5.1fs  %-42s %s\n", done, len(chosen), o.fate, o.took.Seconds(), chosen[i].name, firstLine(o.how))
	})
	return out
}

// report writes a table of all mutants, what needs attention in full, and the counts.
func report(w io.Writer, chosen []mutant, out []outcome) bool {
	counts := map[fate]int{}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nMUTANT\tWHAT WOULD GO WRONG\tNOTICED BY\tTIME\n")
	for i, o := range out {
		how := firstLine(o.how)
		if o.fate != killed {
			how = string(o.fate)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1fs\n", chosen[i].name, chosen[i].why, how, o.took.Seconds())
	}
	table.Flush()
	for i, o := range out {
		counts[o.fate]++
		switch o.fate {
		case survived:
			fmt.Fprintf(w, "\nSURVIVED %s (%s): %s\n  %s\n-> %s\nno test noticed: %s\n", chosen[i].name, chosen[i].file, chosen[i].why,
				indent(chosen[i].old), indent(chosen[i].new), chosen[i].by.steps)
		case broken:
			fmt.Fprintf(w, "\nBROKEN %s (%s):\n  %s\n", chosen[i].name, chosen[i].file, indent(o.how))
		}
	}
	fmt.Fprintf(w, "\n%d mutants: %d killed, %d survived, %d broken, %d skipped\n", len(chosen), counts[killed], counts[survived], counts[broken], counts[skipped])
	if counts[skipped] > 0 && !maySkip() {
		fmt.Fprintln(w, "REQUIRE names what is missing: nothing may be skipped")
		return false
	}
	return counts[survived]+counts[broken] == 0
}

// maySkip says whether mutants that need root, the programs' compiler or the Kubernetes API may be left out.
func maySkip() bool {
	required := strings.Split(os.Getenv("REQUIRE"), ",")
	return !slices.ContainsFunc([]string{"root", "bpf", "kube"}, func(what string) bool { return slices.Contains(required, what) })
}

func indent(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// moduleRoot is the folder of the module that the program is run in.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
