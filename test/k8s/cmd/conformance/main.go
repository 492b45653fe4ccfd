// Command conformance runs Kubernetes' own end-to-end tests of the network against weir: a cluster of three
// nodes, each in a zone of its own, without kube-proxy, weir installed by its own command line, and e2e.test of the version in testdata/src/go.mod.
//
//	conformance [-focus REGEXP] [-out FOLDER] [-procs N] [-nodes N] [-prefix P] [-keep]
//
// The tests are those of [sig-network] but for what the file left-out names. Each test that ends is a line; then come
// the failures and, as the last line,
//
//	N passed, N failed, N skipped, N left out
//
// Skipped are tests that found out themselves that they cannot run. FOLDER then has junit.xml, and e2e.log with all
// that the tests said. The exit status is 0 only if something ran and nothing failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirnet/weir/test/k8s/bed"
)

// What is written into the folder for results: by Ginkgo, what becomes of that, and all that the tests said.
const (
	ginkgoReport = "junit_01.xml"
	junitReport  = "junit.xml"
	logFile      = "e2e.log"
)

// options are those of the command line.
type options struct {
	focus, out, prefix string
	procs, nodes       int
	keep               bool
}

func main() {
	var o options
	flag.StringVar(&o.focus, "focus", "", "run only the tests whose name, after [sig-network], has this")
	flag.StringVar(&o.out, "out", "bin/conformance", "the `folder` for junit.xml and e2e.log")
	flag.StringVar(&o.prefix, "prefix", "conf", "what the names of everything on this machine begin with")
	flag.IntVar(&o.procs, "procs", 4, "how many tests run at a time; those that are [Serial] run alone")
	flag.IntVar(&o.nodes, "nodes", 3, "how many nodes the cluster has; with fewer tests of zones and some others are skipped")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster up, for go run ./test/k8s/cmd/bed -prefix P")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// run is true if the tests ran and none failed.
func run(ctx context.Context, o options) (bool, error) {
	left, err := leftOut()
	if err != nil {
		return false, err
	}
	if o.out, err = filepath.Abs(o.out); err != nil {
		return false, err
	}
	if err := emptied(o.out); err != nil {
		return false, err
	}
	b, programs, err := start(ctx, o)
	if b != nil {
		defer b.Close()
	}
	if programs != "" && !o.keep {
		defer os.RemoveAll(programs)
	}
	if b != nil && !o.keep {
		defer func() {
			if err := b.Down(); err != nil {
				fmt.Fprintln(os.Stderr, "conformance: the cluster is not gone:", err)
			}
		}()
	}
	if err == nil {
		err = install(ctx, b, programs, o.nodes)
	}
	if err != nil {
		return false, err
	}
	failed := test(ctx, b, o, left)
	counts, err := report(filepath.Join(o.out, ginkgoReport), filepath.Join(o.out, junitReport), left, os.Stdout)
	if err != nil {
		return false, errors.Join(failed, err)
	}
	fmt.Println(counts)
	return failed == nil && counts.passed > 0 && counts.failed == 0, nil
}

// emptied makes a folder, or removes from it what a run before wrote. Whatever else is there is somebody's.
func emptied(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{ginkgoReport, junitReport, logFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// start builds what is missing and a cluster without a network. Both results may be there with an error, too.
func start(ctx context.Context, o options) (*bed.Bed, string, error) {
	module, err := bed.Module(ctx)
	if err != nil {
		return nil, "", err
	}
	build := exec.CommandContext(ctx, filepath.Join(module, "test/k8s/build.sh"), "e2e")
	build.Stderr = os.Stderr
	bin, err := build.Output()
	if err != nil {
		return nil, "", fmt.Errorf("build.sh: %w", err)
	}
	programs, err := os.MkdirTemp("", "weir-conformance-")
	if err != nil {
		return nil, "", err
	}
	if err := bed.Build(ctx, module, os.Getenv("WEIR_BIN"), programs); err != nil {
		return nil, programs, err
	}
	b, err := bed.OpenAny(bed.Options{
		Prefix: o.prefix, Bin: strings.TrimSpace(string(bin)), Nodes: o.nodes, Programs: programs, E2E: true,
		Ephemeral: !o.keep, Log: os.Stdout,
	})
	if err != nil {
		return nil, programs, err
	}
	return b, programs, b.Up(ctx)
}

// install installs weir and CoreDNS, and waits until both are there.
func install(ctx context.Context, b *bed.Bed, programs string, nodes int) error {
	args, err := bed.InstallArgs("loadBalancer.serviceTopology=true")
	if err != nil {
		return err
	}
	weir := append([]string{filepath.Join(programs, "weir")}, args...)
	module, err := bed.Module(ctx)
	if err != nil {
		return err
	}
	steps := [][]string{weir}
	for i := 1; i <= nodes; i++ {
		steps = append(steps, []string{"kubectl", "label", "node", bed.NodeName(i), fmt.Sprintf("topology.kubernetes.io/zone=z%d", i)})
	}
	if err := b.RoutePods(); err != nil {
		return err
	}
	for _, argv := range append(steps, [][]string{
		{"kubectl", "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"},
		{"kubectl", "apply", "-f", filepath.Join(module, "test/k8s/testdata/manifests/coredns.yaml")},
		{"kubectl", "-n", "kube-system", "rollout", "status", "deploy/coredns", "--timeout=180s"},
	}...) {
		cmd, err := b.OnControlPlane(ctx, argv...)
		if err != nil {
			return err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
		}
	}
	return nil
}

// test runs the tests and prints a line for each.
func test(ctx context.Context, b *bed.Bed, o options, left []exception) error {
	argv := []string{
		"ginkgo", "--procs=" + strconv.Itoa(o.procs), "--no-color", "-v", "--silence-skips=false",
		"--timeout=6h", "--poll-progress-after=0", "--output-interceptor-mode=none",
		"--focus=" + `\[sig-network\].*` + o.focus,
	}
	for _, l := range left {
		argv = append(argv, "--skip="+l.pattern.String())
	}
	argv = append(argv, filepath.Join(b.Dir(), "bin/e2e.test"), "--",
		"--kubeconfig="+b.Kubeconfig(), "--provider=skeleton", "--report-dir="+o.out, "--e2e-output-dir="+o.out,
		"--disable-log-dump", "--num-nodes="+strconv.Itoa(o.nodes))
	cmd, err := b.OnControlPlane(ctx, argv...)
	if err != nil {
		return err
	}
	cmd.Dir = o.out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	log, err := os.Create(filepath.Join(o.out, logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	lines := &progress{out: os.Stdout}
	cmd.Stdout = io.MultiWriter(log, lines)
	cmd.Stderr = cmd.Stdout
	return cmd.Run()
}
