package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fate is what became of a mutant.
type fate string

const (
	killed   fate = "killed"
	survived fate = "SURVIVED"
	skipped  fate = "skipped"
	broken   fate = "BROKEN" // does not apply or does not compile: the list needs mending
)

// outcome is a fate and how it came about.
type outcome struct {
	fate
	how  string
	took time.Duration
}

// runner tries mutants in one tree.
type runner struct {
	tree  *tree
	limit time.Duration // for one step
	bpf   string        // why programs cannot be compiled or loaded; empty: they can
	kube  string        // why there is no server of the Kubernetes API; empty: there is
	// unsteady are the steps that failed once without any mutant. Their word counts only if they repeat it.
	unsteady map[string]bool
}

// try applies a mutant, runs its suite and brings the tree back.
func (r *runner) try(ctx context.Context, m mutant) (o outcome) {
	begin := time.Now()
	defer func() { o.took = time.Since(begin) }()
	if why := r.lacks(m.by); why != "" {
		return outcome{fate: skipped, how: why}
	}
	undo, err := r.tree.mutate(m)
	if err != nil {
		return outcome{fate: broken, how: err.Error()}
	}
	defer func() {
		if err := undo(); err != nil {
			o = outcome{fate: broken, how: err.Error()}
		}
	}()
	if m.by.bpf {
		if out, err := r.command(ctx, "go", "generate", "./bpf/..."); err != nil {
			return outcome{fate: broken, how: "does not compile:\n" + tail(out)}
		}
	}
	ran := 0
	for _, s := range m.by.steps {
		s = r.present(s)
		if s == nil {
			continue
		}
		ran++
		out, err := r.test(ctx, s)
		if err != nil && ranTests(out) && r.unsteady[s.String()] {
			out, err = r.test(ctx, s)
		}
		switch {
		case ctx.Err() != nil:
			return outcome{fate: skipped, how: "interrupted"}
		case err == nil:
			continue
		case !ranTests(out):
			return outcome{fate: broken, how: "does not compile:\n" + tail(out)}
		}
		return outcome{fate: killed, how: noticedBy(out)}
	}
	if ran == 0 {
		return outcome{fate: broken, how: "none of its packages has tests"}
	}
	return outcome{fate: survived, how: m.why}
}

// lacks says what a suite needs and the machine has not; empty: nothing.
func (r *runner) lacks(s suite) string {
	switch {
	case s.bpf && r.bpf != "":
		return r.bpf
	case s.kube && r.kube != "":
		return r.kube
	}
	return ""
}

// present leaves the packages of a step that are there; nil if none is.
func (r *runner) present(s step) step {
	out := slices.DeleteFunc(slices.Clone(s), func(arg string) bool {
		return strings.HasPrefix(arg, "./") && !r.tree.has(arg)
	})
	if !slices.ContainsFunc(out, func(arg string) bool { return strings.HasPrefix(arg, "./") }) {
		return nil
	}
	return out
}

// test runs a step. With -trimpath both trees share the compilers' cache.
func (r *runner) test(ctx context.Context, s step) (string, error) {
	args := []string{"test", "-trimpath", "-vet=off", "-count=1", "-failfast", "-timeout", r.limit.String()}
	args = append(args, s...)
	if r.tree.drawn(s) {
		// That a property fails is enough; nobody reads its smallest example.
		args = append(args, "-args", "-rapid.shrinktime=0s", "-rapid.nofailfile")
	}
	return r.command(ctx, "go", args...)
}

// command runs a program in the tree with all that it starts, and ends them all when the time is over.
func (r *runner) command(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit+2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = r.tree.root
	cmd.Env = compiler(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

var (
	notBuilt = regexp.MustCompile(`(?m)\[(build|setup) failed\]$`)
	failing  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	// A package that ends without naming a test: a panic, a deadline, an os.Exit.
	failedPackage = regexp.MustCompile(`(?m)^FAIL\t(\S+)\t`)
)

// ranTests tells a test that failed from one that could not be compiled.
func ranTests(out string) bool {
	return !notBuilt.MatchString(out) && (failing.MatchString(out) || failedPackage.MatchString(out))
}

// noticedBy names the package and the test in it that failed, the innermost one, or else what it died of.
func noticedBy(out string) string {
	if at := failing.FindStringIndex(out); at != nil {
		// A package's line follows its tests.
		m := failedPackage.FindStringSubmatchIndex(out[at[0]:])
		tests, pkg := out[at[0]:], ""
		if m != nil {
			tests, pkg = out[at[0]:at[0]+m[0]], out[at[0]+m[2]:at[0]+m[3]]
		}
		all := failing.FindAllStringSubmatch(tests, -1)
		name := all[0][1]
		for _, m := range all {
			if strings.HasPrefix(m[1], name+"/") {
				name = m[1]
			}
		}
		return strings.TrimSpace(inModule(pkg) + " " + name)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
	}
	if m := failedPackage.FindStringSubmatch(out); m != nil {
		return inModule(m[1])
	}
	return "?"
}

// inModule leaves the module's path out of a package's.
func inModule(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/weirnet/weir/")
}

// tail is the end of an output, where the reason stands.
func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// whyNoBPF says what is missing to compile the programs and load them; empty: nothing.
func whyNoBPF(root string) string {
	if os.Geteuid() != 0 {
		return "needs root to load programs"
	}
	cmd := exec.Command(filepath.Join(root, ".ci", "clang"))
	cmd.Env = append(compiler(os.Environ()), "CLANG_VERSION="+clangVersion())
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strings.TrimSpace(string(out))
	}
	if err != nil {
		return fmt.Sprintf("look for clang: %v", err)
	}
	return ""
}

// whyNoKube says where the server of the Kubernetes API is missed; empty: it is there. Tests that need it look in the
// same place.
func whyNoKube() string {
	dir := os.Getenv("WEIR_K8S_BIN")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Sprintf("look for kube-apiserver: %v", err)
		}
		dir = filepath.Join(cache, "weir-k8s", "bin")
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return fmt.Sprintf("needs %s in %s (make k8s-api)", name, dir)
		}
	}
	return ""
}

// compiler adds the programs' compiler to an environment that names none, so that the check can be run without
// make.
func compiler(env []string) []string {
	for key, program := range map[string]string{"BPF2GO_CC": "clang-", "BPF2GO_STRIP": "llvm-strip-"} {
		if os.Getenv(key) == "" {
			env = append(env, key+"="+program+clangVersion())
		}
	}
	return env
}

// clangVersion is the release that the Makefile compiles with, as its environment says it.
func clangVersion() string {
	if v, ok := strings.CutPrefix(os.Getenv("BPF2GO_CC"), "clang-"); ok && v != "" {
		return v
	}
	return "14"
}
