package weir_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The rules of the house: core ← ports ← adapters, fakes ← cmd. DESIGN says why in full; each rule
// below carries its reason, which is printed with a violation.

const module = "github.com/weirnet/weir"

// room is a part of the tree and what its packages may import, besides the standard library and
// themselves.
type room struct {
	name       string
	imports    []string // rooms and folders of ours
	thirdParty []string // modules of others by import path prefix; "*" is all, subject to libraries below
	why        string
}

// The first room whose folder holds a package is the package's room.
var rooms = []room{
	{name: "core", why: "core decides and does nothing else: standard library and core only, so that it can be tested and reused without a kernel or a cluster"},
	{name: "ports/porttest", imports: []string{"core", "ports"}, thirdParty: []string{"github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak"},
		why: "the contract suites know the ports and test helpers, and no implementation"},
	{name: "ports", imports: []string{"core"}, why: "ports are interfaces and plain types; whoever implements one must not inherit anybody's libraries"},
	{name: "adapters/internal/kubetest", imports: []string{"adapters/internal", "test/authority"}, thirdParty: []string{"*"},
		why: "the API server of adapters' tests has the same certificates as the cluster of nodes below test"},
	{name: "adapters", imports: []string{"core", "ports", "adapters/internal", "bpf"}, thirdParty: []string{"*"},
		why: "adapters know core and ports, never another adapter, a fake or a command: they are wired together in cmd only"},
	{name: "fakes", imports: []string{"core", "ports", "fakes"}, thirdParty: []string{"*"},
		why: "fakes know core, ports and other fakes: a simulation must not need what it stands in for"},
	{name: "bpf", imports: []string{"core"}, thirdParty: []string{"github.com/cilium/ebpf"},
		why: "bpf holds the programs and their generated bindings; what drives them is adapters/ebpf"},
	{name: "deploy", why: "what is deployed is data: manifests, charts, and the Go that embeds them"},
	{name: "cmd", imports: []string{"core", "ports", "adapters", "fakes", "cmd", "deploy"}, thirdParty: []string{"*"},
		why: "commands wire and print; they reach the kernel through adapters"},
	{name: "test/authority", why: "what a helper of adapters' tests uses as well brings nothing along"},
	{name: "test", imports: []string{""}, thirdParty: []string{"*"}},
}

// library is a module of others that only some folders may import directly.
type library struct {
	prefix  string
	allowed []string
	why     string
}

var libraries = []library{
	{"github.com/cilium/ebpf", []string{"bpf", "adapters/ebpf", "adapters/internal", "test"}, "eBPF types stop at the adapter"},
	{"github.com/jsimonetti/rtnetlink", []string{"adapters/rtnetlink", "adapters/lab", "adapters/internal", "test"}, "netlink types stop at the adapter"},
	{"github.com/mdlayher/netlink", []string{"adapters/rtnetlink", "adapters/lab", "adapters/ebpf", "adapters/nftables", "adapters/internal", "test"}, "netlink types stop at the adapter"},
	{"github.com/google/nftables", []string{"adapters/nftables"}, "rules of nftables are made by their adapter"},
	{"github.com/vishvananda/netlink", nil, "rtnetlink is the library for links and routes"},
	{"github.com/florianl/go-tc", []string{"adapters/ebpf", "adapters/internal", "test"}, "traffic control is how programs are attached, which is the eBPF adapter's"},
	{"helm.sh/helm", []string{"adapters/helm", "test"}, "Helm's types stop at the adapter"},
	{"k8s.io", []string{"adapters/kubernetes", "adapters/helm", "adapters/internal", "test"}, "Kubernetes types stop at the adapter"},
	{"sigs.k8s.io/controller-runtime", []string{"adapters/kubernetes", "adapters/internal", "test"}, "Kubernetes types stop at the adapter"},
	{"github.com/containernetworking", []string{"adapters/cni", "adapters/lab", "adapters/internal", "cmd/weir-cni", "test"}, "CNI types stop at the adapter and its plugin"},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// graph holds packages by import path.
type graph map[string]pkg

// load lists every package of the module with all it depends on, as built for Linux.
func load() (graph, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	g := graph{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		g[p.ImportPath] = p
	}
}

// local turns an import path of this module into a folder.
func local(path string) (folder string, ours bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// within says whether a folder is another or inside it; everything is inside "".
func within(folder, outer string) bool {
	return outer == "" || folder == outer || strings.HasPrefix(folder, outer+"/")
}

func roomOf(folder string) (room, bool) {
	for _, r := range rooms {
		if within(folder, r.name) {
			return r, true
		}
	}
	return room{}, false
}

// unit is the part of a room whose packages may import each other freely: an adapter, or for other
// rooms the whole room.
func unit(r room, folder string) string {
	if r.name != "adapters" {
		return r.name
	}
	parts := strings.SplitN(folder, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// violations checks every import of every package of ours. Since the rule for core and ports holds
// for each package in them, it holds for what they reach; closure checks that once more.
func (g graph) violations() []string {
	var out []string
	for path, p := range g {
		folder, ours := local(path)
		if !ours || folder == "" {
			continue
		}
		r, ok := roomOf(folder)
		if !ok {
			out = append(out, fmt.Sprintf("%s: belongs to no room; packages live under %s", folder, roomNames()))
			continue
		}
		for _, imp := range p.Imports {
			if why := g.forbidden(r, folder, imp); why != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", folder, strings.TrimPrefix(imp, module+"/"), why))
			}
		}
	}
	slices.Sort(out)
	return out
}

// forbidden gives the reason why a package may not import another, or "".
func (g graph) forbidden(r room, folder, imp string) string {
	if g[imp].Standard || imp == "C" && r.name != "core" {
		return ""
	}
	if target, ours := local(imp); ours {
		if within(target, unit(r, folder)) || slices.ContainsFunc(r.imports, func(a string) bool { return within(target, a) }) {
			return ""
		}
		return r.why
	}
	for _, l := range libraries {
		if within(imp, l.prefix) && !slices.ContainsFunc(l.allowed, func(a string) bool { return within(folder, a) }) {
			return fmt.Sprintf("%s (allowed in: %s)", l.why, strings.Join(l.allowed, ", "))
		}
	}
	if slices.ContainsFunc(r.thirdParty, func(a string) bool { return a == "*" || within(imp, a) }) {
		return ""
	}
	return r.why
}

// closure lists everything of others that packages of a room reach, with the way to it.
func (g graph) closure(roomName string) []string {
	var out []string
	for path := range g {
		folder, ours := local(path)
		if !ours || folder == "" {
			continue
		}
		if r, ok := roomOf(folder); !ok || r.name != roomName {
			continue
		}
		seen := map[string]bool{}
		var walk func(path string, way []string)
		walk = func(path string, way []string) {
			if seen[path] || g[path].Standard {
				return
			}
			seen[path] = true
			way = append(slices.Clone(way), path)
			target, ours := local(path)
			if !ours || !within(target, "core") && !within(target, "ports") {
				out = append(out, strings.Join(way, " → "))
				return
			}
			for _, imp := range g[path].Imports {
				walk(imp, way)
			}
		}
		walk(path, nil)
	}
	slices.Sort(out)
	return out
}

func roomNames() string {
	var names []string
	for _, r := range rooms {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

func TestImportsFollowTheArrows(t *testing.T) {
	sources(t) // so that a change of any file invalidates a cached result; go list alone would not
	g, err := load()
	require.NoError(t, err)
	require.Contains(t, g, module+"/core/lb", "go list found the module's packages")
	for _, v := range g.violations() {
		t.Error(v)
	}
	for _, name := range []string{"core", "ports"} {
		for _, way := range g.closure(name) {
			t.Errorf("%s reaches what is neither the standard library nor core: %s", name, way)
		}
	}
}

// TestRulesCatchViolations holds the checks themselves against a made-up tree.
func TestRulesCatchViolations(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"core/lb", "fmt", true},
		{"core/lb", "core/datapath", true},
		{"core/lb", "ports", false},
		{"core/lb", "github.com/stretchr/testify/assert", false},
		{"core/lb", "C", false},
		{"ports", "core/lb", true},
		{"ports", "github.com/stretchr/testify/assert", false},
		{"ports/porttest", "github.com/stretchr/testify/assert", true},
		{"ports/porttest", "fakes/kernel", false},
		{"adapters/ebpf", "bpf", true},
		{"adapters/ebpf", "ports", true},
		{"adapters/ebpf", "github.com/cilium/ebpf/link", true},
		{"adapters/ebpf", "adapters/ebpf/layout", true},
		{"adapters/ebpf/layout", "adapters/ebpf", true},
		{"adapters/ebpf", "adapters/internal/netns", true},
		{"adapters/ebpf", "adapters/rtnetlink", false},
		{"adapters/ebpf", "test/authority", false},
		{"adapters/internal/kubetest", "test/authority", true},
		{"adapters/internal/kubetest", "test/lab", false},
		{"test/authority", "core/lb", false},
		{"adapters/ebpf", "adapters/ebpfx", false},
		{"adapters/ebpf", "fakes/kernel", false},
		{"adapters/ebpf", "cmd/weir", false},
		{"adapters/cni", "github.com/cilium/ebpf", false},
		{"adapters/cni", "github.com/cilium/ebpfother", true},
		{"adapters/filestore", "k8s.io/api/core/v1", false},
		{"fakes/agent", "fakes/kernel", true},
		{"fakes/kernel", "adapters/ebpf", false},
		{"fakes/kernel", "github.com/cilium/ebpf", false},
		{"cmd/weir", "adapters/lab", true},
		{"cmd/weir", "fakes/kernel", true},
		{"cmd/weir", "github.com/spf13/cobra", true},
		{"cmd/weir", "github.com/cilium/ebpf", false},
		{"cmd/weir", "github.com/mdlayher/netlink", false},
		{"test/e2e", "adapters/lab", true},
		{"test/e2e", "github.com/cilium/ebpf", true},
		{"util", "fmt", false},
	} {
		target := tc.to
		if first, _, _ := strings.Cut(target, "/"); slices.Contains([]string{"core", "ports", "adapters", "fakes", "bpf", "cmd", "test"}, first) {
			target = module + "/" + target
		}
		g := graph{"fmt": {ImportPath: "fmt", Standard: true}}
		g[module+"/"+tc.from] = pkg{ImportPath: module + "/" + tc.from, Imports: []string{target}}
		assert.Equal(t, tc.ok, len(g.violations()) == 0, "%s imports %s: %v", tc.from, tc.to, g.violations())
	}

	g := graph{
		module + "/core/a":  {Imports: []string{module + "/core/b"}},
		module + "/core/b":  {Imports: []string{"example.org/x"}},
		module + "/ports":   {Imports: []string{module + "/core/a"}},
		module + "/cmd/any": {Imports: []string{"example.org/x"}},
	}
	assert.Equal(t, []string{
		module + "/core/a → " + module + "/core/b → example.org/x",
		module + "/core/b → example.org/x",
	}, g.closure("core"))
	assert.Len(t, g.closure("ports"), 1)
}
