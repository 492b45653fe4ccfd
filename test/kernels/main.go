// Kernels runs what depends on the kernel on the kernels that weir supports: it boots Debian's 6.1 and
// 6.12 kernels under QEMU's software emulation (no KVM is needed), runs the test binaries of the
// adapters and of the lab in there, and prints a table of tests and of the instructions that the
// verifier went through for each eBPF program.
//
//	go run ./test/kernels [-run REGEXP] [-timeout 1h] [-fetch] [-v] [SERIES...]
//
// Kernels and a static busybox come from the distribution's packages, are unpacked into
// $WEIR_KERNEL_CACHE (default: weir-kernels in the user's cache folder), and stay at that version until
// -fetch is given; nothing but QEMU itself is installed. What cannot be run is said in a line that
// starts with SKIPPED; with REQUIRE=kernels in the environment (a comma-separated list) that is a
// failure. The exit status is 0 only if nothing failed.
//
// The guest's clock counts instructions, not seconds: to its tests the machine is one processor of half
// a billion instructions a second however busy the host is, and waiting costs nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// defaultSeries are the kernels that weir supports besides the one it is developed on.
var defaultSeries = []string{"6.1", "6.12"}

func main() {
	pattern := flag.String("run", "", "only the tests that match this regular expression")
	limit := flag.Duration("timeout", time.Hour, "how long one guest may run")
	fetch := flag.Bool("fetch", false, "take the newest kernel packages instead of the cached ones")
	verbose := flag.Bool("v", false, "print what the guests print")
	flag.Parse()
	series := flag.Args()
	if len(series) == 0 {
		series = defaultSeries
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, series, options{pattern: *pattern, limit: *limit, fetch: *fetch, verbose: *verbose})
	if missing := (missingError)(""); errors.As(err, &missing) {
		ok, err = skip("everything", missing), nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "test-kernels: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	pattern        string
	limit          time.Duration
	fetch, verbose bool
}

// missingError says what this machine lacks.
type missingError string

func (e missingError) Error() string { return string(e) }

// skip says that and why something is not run, and returns whether that is acceptable.
func skip(what string, why missingError) bool {
	fmt.Printf("SKIPPED: %s: %s\n", what, why)
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "kernels") {
		fmt.Println("REQUIRE names kernels: nothing may be skipped")
		return false
	}
	return true
}

// run tests all series and prints the tables; ok says whether everything passed.
func run(ctx context.Context, series []string, o options) (ok bool, err error) {
	if err := needPrograms(); err != nil {
		return false, err
	}
	cache, err := openCache()
	if err != nil {
		return false, err
	}
	var kernels []*kernel
	acceptable := true
	for _, s := range series {
		k, err := cache.kernel(s, o.fetch)
		if missing := (missingError)(""); errors.As(err, &missing) {
			acceptable = skip("Linux "+s, missing) && acceptable
			continue
		} else if err != nil {
			return false, err
		}
		kernels = append(kernels, k)
	}
	if len(kernels) == 0 {
		return acceptable, nil
	}
	busybox, err := cache.busybox()
	if err != nil {
		return false, err
	}
	cache.unlock()

	tmp, err := os.MkdirTemp("", "weir-kernels-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	built, err := build(ctx, tmp, o.pattern)
	if err != nil {
		return false, err
	}
	reports := make([]*report, len(kernels))
	var wg sync.WaitGroup
	for i, k := range kernels {
		reports[i] = newReport(k.series, k.release)
		wg.Go(func() {
			g := guest{kernel: k, busybox: busybox, suites: built, dir: fmt.Sprintf("%s/%d", tmp, i), options: o}
			if err := g.run(ctx, reports[i]); err != nil {
				reports[i].broken = err.Error()
			}
		})
	}
	wg.Wait()
	return printReports(os.Stdout, reports) && acceptable, ctx.Err()
}
