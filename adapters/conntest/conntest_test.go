package conntest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// stub answers what a test sets; the whole suite runs on fakes in cmd/weir.
type stub struct {
	ports.Playground
	nodes    []connectivity.Node
	pods     []connectivity.Pod
	apply    func(connectivity.Document) error
	policies []policy.Ref
	image    error
	probe    func(connectivity.Job) ([]connectivity.Outcome, error)
	api      []netip.AddrPort
	status   func(node string) (ports.Status, error)
	remove   func(docs []connectivity.Document) error
}

func (s *stub) Cluster() string                                    { return "stub" }
func (s *stub) Image(context.Context) (string, error)              { return "weir:1", s.image }
func (s *stub) Nodes(context.Context) ([]connectivity.Node, error) { return s.nodes, nil }
func (s *stub) DeletePolicies(context.Context, string) error       { return nil }
func (s *stub) Foreign(context.Context, string) (bool, error)      { return false, nil }
func (s *stub) Status(_ context.Context, node string) (ports.Status, error) {
	return s.status(node)
}
func (s *stub) Delete(_ context.Context, docs ...connectivity.Document) error {
	if s.remove != nil {
		return s.remove(docs)
	}
	return nil
}
func (s *stub) APIServers(context.Context) ([]netip.AddrPort, error)     { return s.api, nil }
func (s *stub) Policies(context.Context, string) ([]policy.Ref, error)   { return s.policies, nil }
func (s *stub) Pods(context.Context, string) ([]connectivity.Pod, error) { return s.pods, nil }
func (s *stub) Probe(_ context.Context, _ cluster.Name, j connectivity.Job) ([]connectivity.Outcome, error) {
	return s.probe(j)
}

func (s *stub) Apply(_ context.Context, docs ...connectivity.Document) error {
	for _, d := range docs {
		if s.apply != nil {
			if err := s.apply(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func newRunner(s *stub, o Options) (*Runner, *bytes.Buffer) {
	var out bytes.Buffer
	o.Namespace = "t"
	return New(s, o, NewPrinter(&out, time.Now), time.Now), &out
}

func TestDeployNeedsNodes(t *testing.T) {
	r, _ := newRunner(&stub{}, Options{})
	_, err := r.Run(t.Context())
	require.ErrorContains(t, err, "no node can take test pods (there are none)")

	r, _ = newRunner(&stub{nodes: []connectivity.Node{{Name: "a", Unfit: "cordoned"}, {Name: "b", Unfit: "not ready"}}}, Options{})
	_, err = r.Run(t.Context())
	require.ErrorContains(t, err, "a: cordoned; b: not ready")

	r, _ = newRunner(&stub{nodes: []connectivity.Node{{Name: "a"}}, image: fmt.Errorf("no DaemonSet: %w", ports.ErrNotFound)}, Options{})
	_, err = r.Run(t.Context())
	require.ErrorContains(t, err, "--image names one")
}

func TestDeployTellsWhichPodIsNotReady(t *testing.T) {
	s := &stub{nodes: []connectivity.Node{{Name: "a"}}, pods: []connectivity.Pod{
		{Name: cluster.Name{Namespace: "t", Name: "client-x"}, Role: connectivity.RoleClient, Ready: true},
		{Name: cluster.Name{Namespace: "t", Name: "client2-x"}, Role: connectivity.RoleClient2, Problem: "ErrImagePull"},
	}}
	r, _ := newRunner(s, Options{DeployTimeout: time.Nanosecond})
	_, err := r.Run(t.Context())
	require.ErrorContains(t, err, "not ready after 1ns: client2: t/client2-x: ErrImagePull")
}

// What a cluster may refuse is told and left out; anything else ends the run.
func TestDeployGoesOnWithoutOptionalObjects(t *testing.T) {
	refused := ""
	s := &stub{nodes: []connectivity.Node{{Name: "a"}}, apply: func(d connectivity.Document) error {
		if d.Name == refused {
			return errors.New("denied by admission")
		}
		return nil
	}}
	refused = "service " + connectivity.ExternalIPService
	r, out := newRunner(s, Options{DeployTimeout: time.Nanosecond})
	_, err := r.Run(t.Context())
	require.ErrorContains(t, err, "not ready after", "it came as far as waiting for pods")
	require.Contains(t, out.String(), "denied by admission; going on without it")
	refused = "deployment client"
	r, _ = newRunner(s, Options{})
	_, err = r.Run(t.Context())
	require.ErrorContains(t, err, "deploy deployment client: denied by admission")
}

// An API server on a node is no place outside; of several one a family is taken.
func TestOutsideIsWhereTheAPIServerIs(t *testing.T) {
	ap := netip.MustParseAddrPort
	nodes := []connectivity.Node{{Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("172.18.0.2")}}}
	for _, tc := range []struct{ api, want []netip.AddrPort }{
		{nil, nil},
		{[]netip.AddrPort{ap("172.18.0.2:6443")}, nil},
		{[]netip.AddrPort{ap("172.18.0.2:6443"), ap("172.18.0.9:6443"), ap("[fc00::9]:6443"), ap("172.18.0.8:6443")}, []netip.AddrPort{ap("172.18.0.9:6443"), ap("[fc00::9]:6443")}},
	} {
		r, _ := newRunner(&stub{api: tc.api}, Options{})
		got, err := r.apiServersOutside(t.Context(), nodes)
		require.NoError(t, err)
		require.Equal(t, tc.want, got)
	}
}

func TestEnforceWaitsForTheVerySet(t *testing.T) {
	ref := func(name string) policy.Ref {
		return policy.Ref{Kind: "NetworkPolicy", Namespace: "t", Name: name}
	}
	doc := connectivity.Document{Name: "new.yaml", Content: []byte("kind: NetworkPolicy\nmetadata:\n  name: new\n  namespace: t\n")}
	s := &stub{}
	r, _ := newRunner(s, Options{PolicyTimeout: time.Nanosecond})
	r.world.Nodes = []connectivity.Node{{Name: "a"}}
	for want, have := range map[string][]policy.Ref{
		"agent of a: NetworkPolicy t/new is not in force yet": {ref("old")},
		"agent of a: NetworkPolicy t/old is still in force":   {ref("new"), ref("old")},
	} {
		s.policies = have
		require.ErrorContains(t, r.enforce(t.Context(), []connectivity.Document{doc}), want)
	}
	s.policies = []policy.Ref{ref("new"), {Kind: "NetworkPolicy", Namespace: "elsewhere", Name: "old"}}
	require.NoError(t, r.enforce(t.Context(), []connectivity.Document{doc}))
}

// Each pod gets its own actions, and time by what is expected.
func TestCarryOutGivesTimeByExpectation(t *testing.T) {
	var jobs []connectivity.Job
	s := &stub{probe: func(j connectivity.Job) ([]connectivity.Outcome, error) {
		jobs = append(jobs, j)
		out := make([]connectivity.Outcome, len(j.Probes))
		for i, p := range j.Probes {
			out[i] = connectivity.Outcome{Index: i, Result: connectivity.Answered, By: p.Addr.String()}
		}
		return out, nil
	}}
	r, _ := newRunner(s, Options{ConnectTimeout: time.Second, RequestTimeout: 7 * time.Second, Retries: 2, Concurrency: 1})
	from := func(name, to string, v connectivity.Verdict) connectivity.Action {
		return connectivity.Action{From: cluster.Name{Namespace: "t", Name: name}, Expect: v, Probe: connectivity.Probe{Addr: netip.MustParseAddr(to)}}
	}
	actions := []connectivity.Action{
		from("x", "10.0.0.1", connectivity.Allowed), from("y", "10.0.0.2", connectivity.DropEgress), from("x", "10.0.0.3", connectivity.DropIngress),
	}
	dots := 0
	out, err := r.carryOut(t.Context(), actions, func() { dots++ })
	require.NoError(t, err)
	require.Equal(t, 3, dots)
	for i, a := range actions {
		require.Equal(t, a.Probe.Addr.String(), out[i].By, "outcomes are in the order of the actions")
	}
	require.Len(t, jobs, 2)
	require.Equal(t, 7*time.Second, jobs[0].Probes[0].Timeout)
	require.Equal(t, 3, jobs[0].Probes[0].Tries)
	require.Equal(t, time.Second, jobs[0].Probes[1].Timeout)
	require.LessOrEqual(t, jobs[0].Probes[1].Tries, 1, "a leak must not get several chances to be missed, nor a drop to be believed")

	s.probe = func(connectivity.Job) ([]connectivity.Outcome, error) { return nil, nil }
	_, err = r.carryOut(t.Context(), actions, func() {})
	require.ErrorContains(t, err, "0 of 2 have an outcome")
}

// A node without an agent has no counters, and that is no fault; an agent that does not answer is.
func TestDropsPassOverNodesWithoutAgent(t *testing.T) {
	s := &stub{nodes: []connectivity.Node{{Name: "a"}, {Name: "b"}}, status: func(node string) (ports.Status, error) {
		if node == "b" {
			return ports.Status{}, fmt.Errorf("node b runs no agent: %w", ports.ErrNotFound)
		}
		return ports.Status{Counters: []ports.Counter{
			{Reason: 0, Packets: 9}, {Reason: 155, Direction: datapath.Ingress, Packets: 1}, {Reason: 155, Direction: datapath.Egress, Packets: 2},
		}}, nil
	}}
	r, _ := newRunner(s, Options{})
	n, problems, err := r.checkDrops(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"node a has dropped 3 packets: CT: Map insertion failed (reason 155)"}, problems, "nobody asked when the run began")
	r.dropped = map[string]map[datapath.Reason]uint64{"a": {}}
	_, problems, err = r.checkDrops(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"node a has dropped 3 packets: CT: Map insertion failed (reason 155); 3 of them during this run"}, problems)
	s.status = func(string) (ports.Status, error) { return ports.Status{}, errors.New("hangs") }
	_, _, err = r.checkDrops(t.Context())
	require.ErrorContains(t, err, "ask the agent of a for its counters: hangs")
}

// A policy that could not be removed is not forgotten: one of the whole cluster is in no namespace that is looked at.
func TestEnforceRemovesWhatStayed(t *testing.T) {
	wide := connectivity.Document{Name: "wide.yaml", Content: []byte("kind: CiliumClusterwideNetworkPolicy\nmetadata:\n  name: t-wide\n")}
	ref := policy.Ref{Kind: "CiliumClusterwideNetworkPolicy", Name: "t-wide"}
	s := &stub{policies: []policy.Ref{ref}}
	r, _ := newRunner(s, Options{PolicyTimeout: time.Nanosecond})
	r.world.Nodes = []connectivity.Node{{Name: "a"}}
	require.NoError(t, r.enforce(t.Context(), []connectivity.Document{wide}))
	s.remove = func([]connectivity.Document) error { return errors.New("API server away") }
	require.ErrorContains(t, r.enforce(t.Context(), nil), "remove the policies of the test before: API server away")
	var removed []connectivity.Document
	s.remove = func(docs []connectivity.Document) error { removed = docs; return nil }
	require.ErrorContains(t, r.enforce(t.Context(), nil), "t-wide is still in force")
	require.Equal(t, []connectivity.Document{wide}, removed)
	s.policies = nil
	require.NoError(t, r.enforce(t.Context(), nil))
}

// A policy with a group of addresses is not in force before the group is.
func TestEnforceWaitsForGroups(t *testing.T) {
	ref := policy.Ref{Kind: "CiliumNetworkPolicy", Namespace: "t", Name: "p"}
	doc := connectivity.Document{Name: "p.yaml", Content: []byte("kind: CiliumCIDRGroup\nmetadata:\n  name: t-g\n---\n" +
		"kind: CiliumNetworkPolicy\nmetadata:\n  name: p\n  namespace: t\nspec: {egress: [{toCIDRSet: [{cidrGroupRef: t-g}]}]}\n")}
	var findings []cluster.Finding
	s := &stub{policies: []policy.Ref{ref}, status: func(string) (ports.Status, error) { return ports.Status{Findings: findings}, nil }}
	r, _ := newRunner(s, Options{PolicyTimeout: time.Nanosecond})
	r.world.Nodes = []connectivity.Node{{Name: "a"}}
	findings = []cluster.Finding{{Object: ref.String(), Message: "CiliumCIDRGroup t-g does not exist", Warning: true}}
	require.ErrorContains(t, r.enforce(t.Context(), []connectivity.Document{doc}), "agent of a: CiliumNetworkPolicy t/p: CiliumCIDRGroup t-g does not exist")
	findings = []cluster.Finding{{Object: "CiliumNetworkPolicy else/where", Message: "x"}}
	require.NoError(t, r.enforce(t.Context(), []connectivity.Document{doc}))
}

func TestPrinter(t *testing.T) {
	var out strings.Builder
	p := NewPrinter(&out, func() time.Time { return time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) })
	p.Timestamp = true
	p.Say("a %d", 1)
	p.Dot()
	p.Dot()
	p.Debug("unseen")
	p.Indented("x\ny\n")
	p.Verbose = true
	p.Dot()
	p.Debug("seen")
	p.Warn("bad")
	require.Equal(t, strings.ReplaceAll("@a 1\n@..\n@     x\n@     y\n@seen\n@⚠️  bad\n", "@", "[03:04:05] "), out.String())
}

func TestDescribeListsEveryTest(t *testing.T) {
	text := Describe()
	for _, test := range connectivity.Tests() {
		require.Contains(t, text, test.Name+" ")
		require.Contains(t, text, test.Summary)
	}
}

// Evidence is asked for by the end that tells a failure's flows from all others.
func TestInvolvedAddresses(t *testing.T) {
	addr := netip.MustParseAddr
	r, _ := newRunner(&stub{}, Options{})
	from, to := cluster.Name{Namespace: "t", Name: "client-x"}, cluster.Name{Namespace: "t", Name: "echo-x"}
	r.world.Pods = []connectivity.Pod{
		{Name: from, IPs: []netip.Addr{addr("10.0.0.1")}}, {Name: to, IPs: []netip.Addr{addr("10.0.0.2"), addr("fd00::2")}},
	}
	for _, tc := range []struct {
		what   string
		action connectivity.Action
		want   []netip.Addr
	}{
		{"service", connectivity.Action{Answerers: []string{"echo-x"}, Probe: connectivity.Probe{Addr: addr("10.96.0.9")}}, r.world.Pods[1].IPs},
		{"ping", connectivity.Action{Probe: connectivity.Probe{Addr: addr("10.0.0.2")}}, r.world.Pods[1].IPs},
		{"outside", connectivity.Action{Probe: connectivity.Probe{Addr: addr("192.0.2.1")}}, []netip.Addr{addr("192.0.2.1")}},
		{"name", connectivity.Action{Probe: connectivity.Probe{Name: "a."}}, r.world.Pods[0].IPs},
		{"API server", connectivity.Action{ToRole: connectivity.RoleAPIServer, Probe: connectivity.Probe{Addr: addr("10.96.0.1")}}, r.world.Pods[0].IPs},
	} {
		tc.action.From = from
		require.Equal(t, tc.want, r.involved(tc.action), tc.what)
	}
}
