package main

import (
	"fmt"
	"slices"
	"strings"
)

// mutant is one change that some test must notice.
type mutant struct {
	name string // area/what
	file string // below the root
	old  string // stands in the file exactly once
	new  string
	why  string // what would go wrong, in one line
	by   suite  // the tests that should notice
}

// suite is a way of finding a mutant. Steps run until one notices: the fastest first, and what they would
// repeat of each other left out.
type suite struct {
	bpf   bool // the programs are compiled anew first; needs root and clang
	kube  bool // needs the server of the Kubernetes API
	steps []step
}

// and adds the steps of another suite, for which it needs what that one does.
func (s suite) and(o suite) suite {
	return suite{bpf: s.bpf || o.bpf, kube: s.kube || o.kube, steps: slices.Concat(s.steps, o.steps)}
}

// step is the arguments of a "go test".
type step []string

func (s step) String() string { return "go test " + strings.Join(s, " ") }

// tests is a suite of ordinary tests, one step for each list of packages.
func tests(packages ...string) suite {
	var s suite
	for _, p := range packages {
		s.steps = append(s.steps, step(strings.Fields(p)))
	}
	return s
}

// inMatrix are the policy cases as the matrix decides them. With real packets they take minutes, and a lab that is
// ended in the middle would stay behind.
const inMatrix = "./test/policycases -skip ^TestLab$"

// Packages by the room whose mutants they find. A later step is for what only a wired agent shows.
var (
	inPolicy   = tests("./core/policy", inMatrix)
	inLB       = tests("./core/lb")
	inManifest = tests("./core/manifest", inMatrix)
	inEngine   = tests("./core/engine", "./fakes ./fakes/cluster", "./adapters/runtime ./cmd/weir", "./test/sim")
	inRuntime  = tests("./adapters/runtime", "./fakes ./fakes/cluster ./cmd/weir", "./test/sim")
	inFake     = tests("./fakes/kernel", "./test/differential")
)

// inPins are the tests of what is pinned and listed, for changes of the adapter itself; inTuple those of tuples.
var (
	inPins  = tests("./adapters/ebpf -run Former|Translations")
	inTuple = tests("./core/datapath", "./test/differential -run Random")
)

// slowLive are the tests of adapters/ebpf that need seconds each.
const slowLive = "^(TestLive.*|TestPort|TestRestartAdoptsEverything|TestChangeOfMechanismLeavesOneProgram)$"

// inBPF runs single packets first, then connections between real namespaces.
var inBPF = suite{bpf: true, steps: []step{
	{"./adapters/ebpf", "-skip", slowLive},
	{"./test/differential"},
	{"./adapters/ebpf", "-run", slowLive},
}}

// inSockets and inOutside run what looks at services only.
var (
	inSockets = suite{bpf: true, steps: []step{
		{"./adapters/ebpf", "-run", "Sockets|SocketAffinity"},
		{"./test/differential", "-run", "^TestSockets$"},
	}}
	inOutside = suite{bpf: true, steps: []step{
		{"./test/differential", "-run", "^(TestRandom|TestCorpus|TestServicesFromOutsideCases)$"},
		{"./adapters/ebpf", "-run", "^TestLiveServices"},
	}}
)

// all lists every mutant.
func all() []mutant {
	return slices.Concat(policyMutants, lbMutants, engineMutants, runtimeMutants, fakeMutants, bpfMutants, fastMutants, simMutants, nodePortMutants, natMutants,
		closedMutants, groupMutants, serviceMutants, kubeMutants, configMutants, cniMutants, deviceMutants)
}

// apply makes the change in a file's text.
func (m mutant) apply(text string) (string, error) {
	switch n := strings.Count(text, m.old); {
	case m.old == m.new:
		return "", fmt.Errorf("%s: old and new text are the same", m.name)
	case n == 0:
		return "", fmt.Errorf("%s: %s does not hold the text any more:\n%s", m.name, m.file, m.old)
	case n > 1:
		return "", fmt.Errorf("%s: %s holds the text %d times; name more of it:\n%s", m.name, m.file, n, m.old)
	}
	return strings.Replace(text, m.old, m.new, 1), nil
}
