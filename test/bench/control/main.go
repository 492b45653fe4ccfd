// Command control measures the control plane as a whole: a real agent over the real kernel in a network
// namespace of its own, a directory of manifests as its cluster, the CNI plugin as a process, and traffic
// that says when a change is in effect. It needs root, and the programs built (make build).
//
// The exit status is 1 if something could not be measured or, with -check, a target was missed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	bin            string
	services, many int
	endpoints      int
	policies, pods int
	rounds, starts int
	yaml, verbose  bool
	only           *regexp.Regexp
	settle         time.Duration
	keepLog        string
}

// choose reads the expression that selects parts. One that selects none is a mistake.
func choose(expression string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if !slices.ContainsFunc(parts[:], re.MatchString) {
		return nil, fmt.Errorf("-only %s: no such part; there are %s", expression, strings.Join(parts[:], ", "))
	}
	return re, nil
}

func main() {
	var o options
	var format, only string
	var check bool
	flag.StringVar(&o.bin, "bin", "bin", "directory with weir-agent and weir-cni")
	flag.IntVar(&o.services, "services", 5000, "services that are there while changes are measured")
	flag.IntVar(&o.many, "many", 20000, "services of the large start; 0: none")
	flag.IntVar(&o.endpoints, "endpoints", 10, "endpoints of each service")
	flag.IntVar(&o.policies, "policies", 1000, "policies")
	flag.IntVar(&o.pods, "pods", 200, "local pods")
	flag.IntVar(&o.rounds, "rounds", 50, "changes of each kind")
	flag.IntVar(&o.starts, "starts", 3, "starts of each kind")
	flag.BoolVar(&o.yaml, "yaml", false, "manifests as YAML; otherwise JSON")
	flag.BoolVar(&o.verbose, "v", false, "tell what is being done")
	flag.DurationVar(&o.settle, "settle", 5*time.Second, "wait before memory is read")
	flag.StringVar(&only, "only", "", "regular expression: parts to measure ("+strings.Join(parts[:], ", ")+")")
	flag.StringVar(&o.keepLog, "log", "", "keep the agent's log in this file")
	flag.StringVar(&format, "o", "", "json, or a table")
	flag.BoolVar(&check, "check", false, "exit with 1 if a target is missed")
	flag.Parse()
	var err error
	if o.only, err = choose(only); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(2)
	}
	r, err := measure(o)
	if r != nil {
		if format == "json" {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			_ = e.Encode(r)
		} else {
			r.print(os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(1)
	}
	for _, x := range r.Rows {
		if check && x.missed() {
			os.Exit(1)
		}
	}
}

func measure(o options) (*report, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("network namespaces and eBPF need root")
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"weir-agent", "weir-cni"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return nil, fmt.Errorf("%w (make build)", err)
		}
	}
	// A namespace and a cgroup for each run; files for each pod.
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 65536, Max: 65536})
	b, err := newBed(bin)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if o.keepLog != "" {
		defer func() {
			data, _ := os.ReadFile(b.log())
			_ = os.WriteFile(o.keepLog, data, 0o644)
		}()
	}
	// Interrupted, it clears up as well; whatever was being measured fails with the agent.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM)
	go func() {
		<-interrupted
		b.close()
		os.Exit(1)
	}()
	m := &measurement{options: o, bed: b, files: writer{dir: b.cluster(), yaml: o.yaml}, report: &report{Kernel: release(), CPUs: runtime.NumCPU()}}
	err = m.all()
	m.report.Load = load()
	return m.report, err
}

func release() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(data))
}

func load() (one float64) {
	data, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(data), &one)
	return one
}
