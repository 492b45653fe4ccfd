package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	kubernetes "github.com/weirnet/weir/adapters/kubernetes/playground"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/fakes/playground"
	"github.com/weirnet/weir/ports"
)

// How a run of the connectivity test ends when it does not come to its end.

// interrupting is a playground in which somebody presses Ctrl-C while pods talk under a policy.
type interrupting struct {
	*playground.Playground
	press func()
}

func (i *interrupting) Probe(ctx context.Context, pod cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error) {
	list, err := i.Playground.Policies(context.WithoutCancel(ctx), "node1")
	if err == nil && len(list) > 0 {
		i.press()
		return nil, ctx.Err()
	}
	return i.Playground.Probe(ctx, pod, job)
}

// junit is as much of a report as these tests look at.
type junit struct {
	Suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Cases    []struct {
			Name  string `xml:"name,attr"`
			Error *struct {
				Message string `xml:"message,attr"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func readJUnit(t *testing.T, path string) (out junit) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(b, &out), "%s", b)
	return out
}

func TestConnectivityInterrupted(t *testing.T) {
	p, _ := newPlayground(t, 2)
	for _, flags := range [][]string{nil, {"--cleanup"}} {
		ctx, press := context.WithCancel(t.Context())
		report := filepath.Join(t.TempDir(), "report.xml")
		var out bytes.Buffer
		g := newGlobals(strings.NewReader(""), &out, &out)
		g.getenv = func(string) string { return "" }
		g.playground = func(kubernetes.Options) (ports.Playground, error) { return &interrupting{p, press}, nil }
		code := run(ctx, g, append([]string{"connectivity", "test", "--test", "no-policies-extra", "--test", "ccnp", "--junit-file", report}, flags...))
		text := out.String()
		require.Equal(t, exitFailed, code, text)
		for _, node := range []string{"node1", "node2"} {
			list, err := p.Policies(t.Context(), node)
			require.NoError(t, err)
			require.Empty(t, list, "of the whole cluster or not")
		}
		require.Contains(t, text, "Interrupted; removing policies")
		require.NotContains(t, text, "❌", "the end of a run is no failure of the network")
		pods, err := p.Pods(t.Context(), connectivity.DefaultNamespace)
		require.NoError(t, err)
		if flags == nil {
			require.Contains(t, text, "No policy of the test is left.")
			require.Contains(t, text, "kubectl delete namespace cilium-test-1 cilium-test-1-ccnp1")
			require.NotEmpty(t, pods)
		} else {
			require.Empty(t, pods)
		}
		j := readJUnit(t, report)
		require.Equal(t, 1, j.Suite.Errors)
		require.Equal(t, 2, j.Suite.Tests, "no-policies-extra, and what ended the run")
		require.Contains(t, j.Suite.Cases[1].Error.Message, "interrupted in test ingress-from-specific-namespace-ccnp")
	}
}

// A pause ends with the run, too.
func TestConnectivityPause(t *testing.T) {
	p, _ := newPlayground(t, 2)
	pipe, w, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	g := newGlobals(pipe, &out, &out)
	f := connectivityFlags{pause: true, tests: []string{"^client-ingress$", "^echo-ingress$"}}
	f.Namespace, f.ConnectTimeout, f.RequestTimeout = connectivity.DefaultNamespace, time.Second, time.Second
	require.NoError(t, f.complete(g))
	pause := f.PauseOnFail
	f.PauseOnFail = func(ctx context.Context) error {
		list, err := p.Policies(ctx, "node1")
		require.NoError(t, err)
		require.NotEmpty(t, list, "a pause is there to look at what the policies do")
		time.AfterFunc(10*time.Millisecond, cancel)
		return pause(ctx)
	}
	require.ErrorContains(t, f.run(ctx, g, &leaky{p}), "interrupted after test client-ingress")
	list, err := p.Policies(t.Context(), "node1")
	require.NoError(t, err)
	require.Empty(t, list)

	code, text := connectivityTest(t, &leaky{p}, "--test", "^client-ingress$", "--pause-on-fail")
	require.Equal(t, exitFailed, code, text)
	require.Contains(t, text, "press the Enter key")
	require.Contains(t, text, "the standard input has ended")
}

// What is somebody else's is left alone and named.
func TestConnectivityLeavesOthersAlone(t *testing.T) {
	p, c := newPlayground(t, 1)
	report := filepath.Join(t.TempDir(), "report.xml")
	code, text := connectivityTest(t, p, "--test-namespace", "kube-system", "--force-deploy", "--cleanup", "--junit-file", report)
	require.Equal(t, exitFailed, code, text)
	require.Contains(t, text, "namespace kube-system is there and not the test's")
	require.Equal(t, 1, readJUnit(t, report).Suite.Errors)
	services, err := p.Services(t.Context(), "kube-system")
	require.NoError(t, err)
	require.NotEmpty(t, services)

	_, err = c.Apply(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mine, namespace: cilium-test-1}
spec: {podSelector: {}}
`)
	require.NoError(t, err)
	f := connectivityFlags{}
	f.Namespace, f.PolicyTimeout = connectivity.DefaultNamespace, 100*time.Millisecond
	var buf bytes.Buffer
	err = f.run(t.Context(), newGlobals(strings.NewReader(""), &buf, &buf), p)
	require.ErrorContains(t, err, "namespace cilium-test-1 is not free of policies: ")
	require.ErrorContains(t, err, "NetworkPolicy cilium-test-1/mine is still in force")

	code, text = connectivityTest(t, p, "--junit-file", filepath.Join(t.TempDir(), "no", "such", "directory"))
	require.Equal(t, exitFailed, code, text)
	require.NotContains(t, text, "Deploying", "not after minutes")
}
