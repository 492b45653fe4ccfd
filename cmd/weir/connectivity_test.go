package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/conntest"
	kubernetes "github.com/weirnet/weir/adapters/kubernetes/playground"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/playground"
	"github.com/weirnet/weir/ports"
)

// newPlayground is a cluster of fakes with real agents.
func newPlayground(t *testing.T, nodes int) (*playground.Playground, *fakes.Cluster) {
	t.Helper()
	c, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		return runtime.New(runtime.Config{Node: node, Datapath: "fake", SocketLB: true, NodePorts: servesAll}, runtime.Deps(d))
	}, fakes.Options{Nodes: nodes})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	p, err := playground.New(c)
	require.NoError(t, err)
	return p, c
}

// connectivityTest runs the command on a playground and returns its status and what it said.
func connectivityTest(t *testing.T, p ports.Playground, args ...string) (int, string) {
	t.Helper()
	var out, errs bytes.Buffer
	g := newGlobals(strings.NewReader(""), &out, &errs)
	g.getenv = func(string) string { return "" }
	g.playground = func(kubernetes.Options) (ports.Playground, error) { return p, nil }
	code := run(t.Context(), g, append([]string{"connectivity", "test"}, args...))
	return code, out.String() + errs.String()
}

// The whole suite, on fakes: what the tables expect is what agents and kernels do.
func TestConnectivityPassesOnFakes(t *testing.T) {
	p, c := newPlayground(t, 2)
	report := filepath.Join(t.TempDir(), "report.xml")
	code, out := connectivityTest(t, p, "--junit-file", report, "--junit-property", "lab=fake",
		"--external-other-ip", playground.Other[0].Addr().String(), "--external-other-ip", playground.Other[1].Addr().String(), "--external-port", "0", "--verbose")
	require.Equal(t, exitOK, code, out)
	require.Empty(t, c.Violations())
	require.Contains(t, out, "🏃[cilium-test-1] Running ")
	require.Regexp(t, `✅ \[cilium-test-1\] All \d+ tests \(\d+ actions\) successful, 0 tests skipped`, out)

	b, err := os.ReadFile(report)
	require.NoError(t, err)
	var suites struct {
		Suite struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Cases    []struct {
				Name string `xml:"name,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(b, &suites))
	require.Len(t, suites.Suite.Cases, len(connectivity.Tests())-1, "connections are looked at if they were made")
	require.Contains(t, out, "tests of Cilium's are not there, for want of: layer 7 (")
	require.Zero(t, suites.Suite.Failures)

	policies, err := p.Policies(t.Context(), "node1")
	require.NoError(t, err)
	require.Empty(t, policies, "no policy stays")
}

func TestConnectivityOnOneNode(t *testing.T) {
	p, _ := newPlayground(t, 1)
	code, out := connectivityTest(t, p, "--test", "no-policies", "--test", "client-ingress")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "Single-node environment detected")
	require.NotContains(t, out, "echo-other-node")
}

// leaky is a playground whose policies are in force by name, on nobody.
type leaky struct{ *playground.Playground }

func (l *leaky) Apply(ctx context.Context, docs ...connectivity.Document) error {
	var kept []connectivity.Document
	for _, d := range docs {
		for _, part := range manifest.SplitYAML(d.Content) {
			var o map[string]any
			if err := yaml.Unmarshal(part, &o); err != nil {
				return err
			}
			spec, _ := o["spec"].(map[string]any)
			for _, selector := range []string{"endpointSelector", "podSelector"} {
				if spec[selector] != nil {
					spec[selector] = map[string]any{"matchLabels": map[string]any{"nobody": "here"}}
				}
			}
			content, err := yaml.Marshal(o)
			if err != nil {
				return err
			}
			kept = append(kept, connectivity.Document{Name: d.Name, Content: content})
		}
	}
	return l.Playground.Apply(ctx, kept...)
}

// contrary is a playground in which probes come out the other way round.
type contrary struct{ *playground.Playground }

func (c *contrary) Probe(ctx context.Context, pod cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error) {
	out, err := c.Playground.Probe(ctx, pod, job)
	for i, o := range out {
		was := o.Result
		out[i].Result = connectivity.Silent
		if was == connectivity.Silent {
			out[i].Result = connectivity.Answered
		}
	}
	return out, err
}

// runAll runs every test on a playground, without patience, and returns the report.
func runAll(t *testing.T, p ports.Playground) *connectivity.Report {
	t.Helper()
	o := conntest.Options{Namespace: connectivity.DefaultNamespace, PolicyTimeout: 2 * time.Second, Other: playground.Other}
	var out bytes.Buffer
	report, err := conntest.New(p, o, conntest.NewPrinter(&out, time.Now), time.Now).Run(t.Context())
	require.NoError(t, err, out.String())
	require.Len(t, report.Tests, len(connectivity.Tests())-1)
	return report
}

// Every test fails if its policies apply to nobody.
func TestConnectivityEveryPolicyMatters(t *testing.T) {
	p, _ := newPlayground(t, 2)
	policies := map[string]bool{}
	for _, test := range connectivity.Tests() {
		policies[test.Name] = len(test.Policies) > 0
	}
	for _, r := range runAll(t, &leaky{p}).Tests {
		assert.Equal(t, policies[r.Name], r.Failed(), "%s %s", r.Name, r.Error)
		assert.Empty(t, r.Error, r.Name)
	}
}

// Every action of every test fails if traffic does the opposite of what it should.
func TestConnectivityEveryActionMatters(t *testing.T) {
	p, _ := newPlayground(t, 2)
	for _, r := range runAll(t, &contrary{p}).Tests {
		assert.Empty(t, r.Skip, r.Name)
		if r.Name == "no-unexpected-packet-drops" || r.Name == "check-log-errors" {
			continue // nobody talks
		}
		assert.Positive(t, r.Actions, r.Name)
		assert.Len(t, r.Failures, r.Actions, r.Name)
	}
}

// A network that lets through what a policy forbids is told, with the status and evidence.
func TestConnectivityFindsALeak(t *testing.T) {
	p, _ := newPlayground(t, 2)
	report := filepath.Join(t.TempDir(), "report.xml")
	code, out := connectivityTest(t, &leaky{p}, "--test", "^client-ingress$", "--junit-file", report, "--cleanup")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "❌ [cilium-test-1] 1/1 tests failed")
	require.Contains(t, out, "expected to be dropped at ingress, but client-0 answered")
	require.Contains(t, out, "🔎 node node1:")
	require.Contains(t, out, "1 tests failed")
	b, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Contains(t, string(b), `<failure message="`)

	pods, err := p.Pods(t.Context(), connectivity.DefaultNamespace)
	require.NoError(t, err)
	require.Empty(t, pods, "--cleanup")
}

// deaf is a playground whose pods have no UDP server.
type deaf struct{ *playground.Playground }

func (d *deaf) Probe(ctx context.Context, pod cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error) {
	out, err := d.Playground.Probe(ctx, pod, job)
	for i, p := range job.Probes {
		if p.Kind == connectivity.UDP && err == nil {
			out[i] = connectivity.Outcome{Index: i, Result: connectivity.Refused, Detail: "port unreachable"}
		}
	}
	return out, err
}

func TestConnectivityTellsRefusalFromSilence(t *testing.T) {
	p, _ := newPlayground(t, 2)
	code, out := connectivityTest(t, &deaf{p}, "--test", "no-policies/pod-to-pod-udp", "--test", "all-ingress-deny$/pod-to-pod-udp")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "expected to be allowed, but was: refused (port unreachable)")
	require.Contains(t, out, "expected to be dropped at ingress, which is silence, but was refused (port unreachable)")
	require.Contains(t, out, "2/2 tests failed")
}

func TestConnectivityFilters(t *testing.T) {
	p, _ := newPlayground(t, 2)
	code, out := connectivityTest(t, p, "--test", "egress", "--test", "!knp", "--test", "!/pod-to-world")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "Test [client-egress]")
	require.NotContains(t, out, "knp")
	require.NotContains(t, out, "Test [client-ingress]")

	code, out = connectivityTest(t, p, "--test", "nothing-of-that-name")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "no test has such a name")
	require.NotContains(t, out, "Deploying", "that can be said before")
}

// grumbling is a playground whose kernels and programs complain.
type grumbling struct{ *playground.Playground }

func (g *grumbling) Status(ctx context.Context, node string) (ports.Status, error) {
	s, err := g.Playground.Status(ctx, node)
	if node == "node2" {
		s.Counters = append(s.Counters, ports.Counter{Reason: datapath.ReasonFlowInsert, Direction: datapath.Egress, Packets: 3})
	}
	return s, err
}

func (g *grumbling) Logs(_ context.Context, deliver func(pod, line string)) error {
	deliver("cilium-a", "time=1 level=INFO msg=fine")
	for _, msg := range []string{"configuration", "socket", "socket", "table"} {
		deliver("cilium-b", "time=2 level=ERROR msg="+msg)
	}
	return nil
}

func TestConnectivityLooksAtDropsAndLogs(t *testing.T) {
	p, _ := newPlayground(t, 2)
	report := filepath.Join(t.TempDir(), "report.xml")
	only := []string{"--test", "^no-unexpected-packet-drops$", "--test", "^check-log-errors$"}
	code, out := connectivityTest(t, p, only...)
	require.Equal(t, exitOK, code, out)
	code, out = connectivityTest(t, &grumbling{p}, append(only, "--junit-file", report)...)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "node node2 has dropped 3 packets: CT: Map insertion failed (reason 155); 0 of them during this run")
	require.NotContains(t, out, "node node1 has dropped")
	require.Contains(t, out, "cilium-b says 1 times: time=2 level=ERROR msg=configuration")
	require.Contains(t, out, "2/2 tests failed (4/5 actions)", "one of two nodes, and three kinds of lines in two logs")
	b, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Contains(t, string(b), "CT: Map insertion failed")
	code, out = connectivityTest(t, &grumbling{p}, "--test", "^no-unexpected-packet-drops$", "--expected-drop-reasons", "+CT: Map insertion failed")
	require.Equal(t, exitOK, code, out)
}

// restarting is a playground whose pods have been restarted some times.
type restarting struct {
	*playground.Playground
	times int
}

func (r *restarting) Pods(ctx context.Context, namespace string) ([]connectivity.Pod, error) {
	list, err := r.Playground.Pods(ctx, namespace)
	for i := range list {
		list[i].Restarts = r.times
	}
	return list, err
}

func TestConnectivityLooksAtConnectionsMadeBefore(t *testing.T) {
	p, _ := newPlayground(t, 2)
	r := &restarting{p, 1}
	file := filepath.Join(t.TempDir(), "restarts")
	later := []string{"--include-conn-disrupt-test", "--test", "^no-interrupted-connections$", "--conn-disrupt-test-restarts-path", file}
	code, out := connectivityTest(t, r, later...)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "make them first")
	code, out = connectivityTest(t, r, append(later, "--conn-disrupt-test-setup")...)
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "Waiting for deployment cilium-test-1-ccnp1/test-conn-disrupt-client")
	code, out = connectivityTest(t, r, later...)
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "All 1 tests (1 actions) successful, 0 tests skipped")
	require.NotContains(t, out, "Deploying deployment test-conn-disrupt", "an upgrade's new image must not end the connections")
	r.times = 3
	code, out = connectivityTest(t, r, later...)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "pod cilium-test-1-ccnp1/test-conn-disrupt-client-0 lost its connection: its container was restarted 3 times, and 1 times")
	require.NoError(t, p.DeleteNamespace(t.Context(), "cilium-test-1-ccnp1"))
	code, out = connectivityTest(t, r, later...)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "is gone")
}

// What Cilium's test has and this one has not is told, and is no success.
func TestConnectivityTellsWhatIsNotThere(t *testing.T) {
	p, _ := newPlayground(t, 1)
	code, out := connectivityTest(t, p, "--test", "^to-fqdns$")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "nothing is left to run: test to-fqdns is not there: no DNS names in policies")
	require.NotContains(t, out, "Deploying", "that can be said before")
	code, out = connectivityTest(t, p, "--test", "^client-egress(-l7)?$/pod-to-pod$", "--test", "^client-egress-l7$")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "Skipping test [client-egress-l7] [2/2] (not there: no layer 7)")
	require.Contains(t, out, "All 1 tests (")
	require.Contains(t, out, "1 tests skipped")
	code, out = connectivityTest(t, p, "--test", "^no-interrupted-connections$")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "(--include-conn-disrupt-test is not given)")
}

func TestConnectivityFlags(t *testing.T) {
	p, _ := newPlayground(t, 1)
	for _, tc := range []struct{ args, want string }{
		{"--test (", "error parsing regexp"},
		{"--external-ip example.org", `--external-ip "example.org" is not an IP address`},
		{"--flow-validation strict", "allowed: disabled"},
		{"--hubble", "allowed: false"},
		{"--multi-cluster two", "not supported"},
		{"--curl-image x", "--image names another"},
		{"--deployment-pod-annotations [", "want a JSON object"},
		{"--no-such-flag", "unknown flag"},
		{"--test a/(", "error parsing regexp"},
		{"--test-concurrency 4", "tests run one after the other"},
		{"--print-flows", "on failure the flows of both ends are shown"},
		{"--expected-drop-reasons bad", "is no reason for a drop"},
		{"--log-check-levels debug", "want error or warning"},
		{"--conn-disrupt-test-setup", "want --include-conn-disrupt-test"},
		{"--include-conn-disrupt-test --force-deploy", "would end the connections"},
		{"--include-conn-disrupt-test --conn-disrupt-test-setup --cleanup", "would end the connections"},
		{"--connect-timeout 0s", "want more than 0"},
		{"--test-namespace A", "want at most 50"},
		{"--retry -1", "want 0 or more"},
		{"--source-concurrency -1", "want 0 or more"},
		{"extra", "unknown command"},
	} {
		code, out := connectivityTest(t, p, strings.Fields(tc.args)...)
		assert.Equal(t, exitUsage, code, tc.args)
		assert.Contains(t, out, tc.want, tc.args)
	}
	code, out := connectivityTest(t, p, "--hubble=false", "--flow-validation", "disabled", "--include-unsafe-tests", "--test-concurrency=1", "--test", "client-ingress$", "-t")
	require.Equal(t, exitOK, code, out)
	require.Regexp(t, `(?m)^\[\d\d:\d\d:\d\d\] 🏃`, out)
	code, out = connectivityTest(t, p, "--list")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "client-egress-to-cidr-deny")
}

// A policy of somebody else that is in the way is named, and what it drops is told.
func TestConnectivityWarnsOfOthersPolicies(t *testing.T) {
	p, c := newPlayground(t, 2)
	_, err := c.Apply(`
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: in-the-way}
spec: {endpointSelector: {matchLabels: {name: echo-other-node}}, ingress: [{}]}
`)
	require.NoError(t, err)
	f := connectivityFlags{}
	f.Namespace, f.PolicyTimeout = connectivity.DefaultNamespace, 100*time.Millisecond
	f.Filter, err = connectivity.NewFilter([]string{"no-policies/pod-to-pod$"})
	require.NoError(t, err)
	var buf bytes.Buffer
	err = f.run(t.Context(), newGlobals(strings.NewReader(""), &buf, &buf), p)
	require.ErrorContains(t, err, "1 tests failed")
	require.Contains(t, buf.String(), "⚠️  CiliumClusterwideNetworkPolicy in-the-way is in force")
	require.Contains(t, buf.String(), "going on, so that the tests show what is wrong")
	require.Contains(t, buf.String(), "expected to be allowed, but was: no answer")
}

// An agent that never takes a policy in is named, and the policies go away all the same.
func TestConnectivityWithoutAnAgent(t *testing.T) {
	p, c := newPlayground(t, 2)
	code, out := connectivityTest(t, p, "--test", "client-ingress$")
	require.Equal(t, exitOK, code, out)
	require.NoError(t, c.KillAgent("node2"))
	f := connectivityFlags{}
	f.Namespace, f.PolicyTimeout = connectivity.DefaultNamespace, 300*time.Millisecond
	var buf bytes.Buffer
	g := newGlobals(strings.NewReader(""), &buf, &buf)
	err := f.run(t.Context(), g, p)
	require.ErrorContains(t, err, "node2")
}

func TestTargets(t *testing.T) {
	got, err := targets("--external-ip", []string{"192.0.2.1", "::ffff:192.0.2.2"}, 80)
	require.NoError(t, err)
	require.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")}, got)
}
