package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// suite is a test binary of the guest.
type suite struct {
	pkg  string // its folder in the repository
	run  string // which of its tests; empty: all
	env  string // words for its environment
	args string // of the test binary, besides
	data []string
}

// suites run in this order. Each starts in its folder, as go test would start it, and data names what it
// reads from the repository.
var suites = []suite{
	{pkg: "adapters/ebpf", env: "REQUIRE=root,bpf"},
	{pkg: "adapters/rtnetlink", env: "REQUIRE=root,bpf"},
	// Emulation is slow, and cutting every packet after every byte is no question of the kernel.
	{pkg: "test/differential", run: "^(TestCorpus|TestRandom|TestSockets|TestChoiceOfBackends)$", env: "REQUIRE=root,bpf", args: "-packets 2000 -calls 2000"},
	// The third test of the lab is about processes, not about the kernel.
	{pkg: "test/lab", run: "^(TestDemo|TestProbeAgreesWithMatrix)$", env: "REQUIRE=root,bpf WEIR_BIN=/bin", data: []string{"deploy/demo"}},
}

// guestRoot is where the repository would be in the guest.
const guestRoot = "/weir"

// commands that the guest has in /bin.
var commands = []string{"weir", "weir-agent", "weir-cni"}

// built are the binaries on the host, and the script that runs the suites.
type built struct {
	root   string // of the repository
	dir    string
	script string
}

// testBinary is the name of a suite's binary.
func (s suite) testBinary() string { return strings.ReplaceAll(s.pkg, "/", "-") + ".test" }

// build compiles commands and tests into dir.
func build(ctx context.Context, dir, pattern string) (*built, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	b := &built{root: strings.TrimSpace(string(out)), dir: dir}
	compile := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stderr = b.root, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
		return nil
	}
	const stripped = "-ldflags=-s -w"
	if err := compile("build", "-trimpath", "-buildvcs=false", stripped, "-o", dir+"/", "./cmd/..."); err != nil {
		return nil, err
	}
	var script strings.Builder
	for _, s := range suites {
		if err := compile("test", "-c", "-trimpath", stripped, "-o", filepath.Join(dir, s.testBinary()), "./"+s.pkg); err != nil {
			return nil, err
		}
		script.WriteString(s.script(pattern))
	}
	b.script = script.String()
	return b, nil
}

// script is what the guest's shell does for a suite. The pattern narrows the suite's tests further.
func (s suite) script(pattern string) string {
	run := ""
	if s.run != "" {
		run = " -test.run '" + s.run + "'"
	}
	if pattern != "" {
		run = " -test.run '" + strings.ReplaceAll(pattern, "'", `'\''`) + "'"
	}
	// Collecting garbage is dear under emulation, memory is not.
	return fmt.Sprintf("echo; echo '%s %s'; cd %s\nGOGC=400 %s /suites/%s -test.v=test2json -test.timeout 15m%s %s\n"+
		"rc=$?; read -r up rest </proc/uptime; echo; echo \"%s %s $rc $up\"\n",
		markBegin, s.pkg, path.Join(guestRoot, s.pkg), s.env, s.testBinary(), run, s.args, markEnd, s.pkg)
}

// put writes everything that the suites need into the guest's file system.
func (b *built) put(a *archive) {
	for _, c := range commands {
		a.program("bin/"+c, filepath.Join(b.dir, c))
	}
	for _, s := range suites {
		a.program("suites/"+s.testBinary(), filepath.Join(b.dir, s.testBinary()))
		a.dir(path.Join(guestRoot, s.pkg))
		for _, d := range s.data {
			a.tree(path.Join(guestRoot, d), filepath.Join(b.root, d))
		}
		if data := filepath.Join(b.root, s.pkg, "testdata"); exists(data) {
			a.tree(path.Join(guestRoot, s.pkg, "testdata"), data)
		}
	}
	a.file("suites.sh", []byte(b.script))
}
