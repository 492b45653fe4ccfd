package connectivity

import (
	"bytes"
	"encoding/xml"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
)

func TestJudge(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	open := Action{Answerers: []string{"echo-1", "echo-2"}, Sources: []netip.Addr{a}}
	shut := Action{Expect: DropIngress}
	named := Action{Probe: Probe{Name: "echo."}, Addrs: []netip.Addr{a, b}}
	for _, tc := range []struct {
		action  Action
		outcome Outcome
		want    string
	}{
		{open, Outcome{Result: Answered, By: "echo-2", Source: a}, ""},
		{open, Outcome{Result: Answered, By: "echo-2"}, ""},
		{open, Outcome{Result: Answered, By: "stranger", Source: a}, `answered by "stranger"; expected: [echo-1 echo-2]`},
		{open, Outcome{Result: Answered, By: "echo-1", Source: b}, "arrived from 10.0.0.2; expected: [10.0.0.1]"},
		{open, Outcome{Result: Silent}, "expected to be allowed, but was: no answer"},
		{open, Outcome{Result: Refused, Detail: "reset"}, "expected to be allowed, but was: refused (reset)"},
		{open, Outcome{}, "expected to be allowed, but was: "},
		{shut, Outcome{Result: Silent}, ""},
		{shut, Outcome{Result: Answered}, "expected to be dropped at ingress, but an answer came"},
		{shut, Outcome{Result: Answered, By: "x"}, "expected to be dropped at ingress, but x answered"},
		{shut, Outcome{Result: Refused}, "expected to be dropped at ingress, which is silence, but was refused"},
		{shut, Outcome{Result: Unreachable, Detail: "no route"}, "expected to be dropped at ingress, which is silence, but was unreachable (no route)"},
		{shut, Outcome{}, "expected to be dropped at ingress, which is silence, but was "},
		{named, Outcome{Result: Answered, Addrs: []netip.Addr{b, a}}, ""},
		{named, Outcome{Result: Answered, Addrs: []netip.Addr{b}}, "echo. leads to [10.0.0.2]; expected: [10.0.0.1 10.0.0.2]"},
	} {
		assert.Equal(t, tc.want, Judge(tc.action, tc.outcome), "%+v", tc)
	}
}

func TestFilter(t *testing.T) {
	for _, tc := range []struct {
		patterns       []string
		test, scenario string
		want           bool
	}{
		{nil, "a", "s", true},
		{[]string{""}, "a", "s", true},
		{[]string{"client"}, "client-egress", "pod-to-pod", true},
		{[]string{"^client$"}, "client-egress", "pod-to-pod", false},
		{[]string{"client", "!knp"}, "client-egress-knp", "pod-to-pod", false},
		{[]string{"!knp"}, "client-egress", "pod-to-pod", true},
		{[]string{"no-policies/pod-to-pod$"}, "no-policies", "pod-to-pod", true},
		{[]string{"no-policies/pod-to-pod$"}, "no-policies", "dns", false},
		{[]string{"no-policies/pod-to-pod$"}, "client-egress", "pod-to-pod", false},
		{[]string{"!/dns"}, "no-policies", "dns", false},
		{[]string{"!/dns"}, "no-policies", "pod-to-pod", true},
		{[]string{"a/x", "b"}, "b", "y", true},
	} {
		f, err := NewFilter(tc.patterns)
		require.NoError(t, err)
		assert.Equal(t, tc.want, f.Scenario(tc.test, tc.scenario) && f.Test(tc.test), "%v %s/%s", tc.patterns, tc.test, tc.scenario)
		if tc.want {
			assert.True(t, f.Test(tc.test), "%v: a test with a chosen scenario is chosen", tc.patterns)
		}
	}
	for _, bad := range []string{"(", "a/[", "!*"} {
		_, err := NewFilter([]string{bad})
		assert.ErrorContains(t, err, "allowed: TEST or TEST/SCENARIO", bad)
	}
}

func aReport() *Report {
	action := Action{
		Scenario: "pod-to-pod", Name: "http-ipv4-0", From: cluster.Name{Namespace: "t", Name: "client"}, To: "t/echo",
		Probe: Probe{Kind: HTTP, Addr: netip.MustParseAddr("10.0.0.9"), Port: 8080},
	}
	return &Report{Namespace: "t", Started: time.Unix(0, 0), Tests: []TestResult{
		{Name: "good", Took: 1500 * time.Millisecond, Actions: 3, Skipped: []SkippedScenario{{"dns", "none"}}},
		{Name: "left", Skip: "nothing to do"},
		{Name: "bad", Took: time.Second, Actions: 2, Failures: []Failure{{action, "expected <better> \x1b[31m"}}, Evidence: []string{"node n1:\nflow"}},
		{Name: "broken", Error: "no agent"},
	}}
}

func TestReportLines(t *testing.T) {
	r := aReport()
	require.Equal(t, 2, r.Failed())
	require.Equal(t, []string{
		"❌ [t] 2/3 tests failed (1/5 actions), 1 tests skipped, 1 scenarios skipped:",
		"Test [bad]:",
		"  🟥 bad/pod-to-pod/http-ipv4-0: t/client -> t/echo (http 10.0.0.9:8080): expected <better> \x1b[31m",
		"Test [broken]:",
		"  🟥 no agent",
	}, r.Lines())
	r.Tests = r.Tests[:2]
	require.Equal(t, []string{"✅ [t] All 1 tests (3 actions) successful, 1 tests skipped, 1 scenarios skipped."}, r.Lines())
}

func TestJUnit(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, aReport().WriteJUnit(&b, []Property{{"lab", "k8s & more"}}))
	var got junitSuites
	require.NoError(t, xml.Unmarshal(b.Bytes(), &got), b.String())
	s := got.Suites[0]
	require.Equal(t, []int{4, 2, 1}, []int{s.Tests, s.Failures, s.Skipped})
	require.Equal(t, "2.500", s.Time)
	require.Equal(t, []junitProperty{{"lab", "k8s & more"}}, s.Properties)
	require.Equal(t, "nothing to do", s.Cases[1].Skipped.Message)
	require.Equal(t, "1 of 2 actions failed", s.Cases[2].Failure.Message)
	require.Contains(t, s.Cases[2].Failure.Text, "expected <better> [31m")
	require.Equal(t, "node n1:\nflow", s.Cases[2].SystemOut)
	require.Equal(t, "no agent", s.Cases[3].Failure.Message)
	require.Nil(t, s.Cases[0].Failure)
}

func TestProbeText(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for want, p := range map[string]Probe{
		"10.0.0.1:80": {Addr: v4, Port: 80}, "[fd00::1]:80": {Addr: v6, Port: 80}, "fd00::1": {Addr: v6}, "a.b.": {Name: "a.b."}, "a.b.:80": {Name: "a.b.", Port: 80},
	} {
		assert.Equal(t, want, p.String())
	}
}
