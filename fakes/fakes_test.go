package fakes_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

func newCluster(t *testing.T, o fakes.Options) *fakes.Cluster {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	c, err := fakes.New(agent, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.NoError(t, c.Close(), "again")
		require.Empty(t, c.Violations())
		goleak.VerifyNone(t, leaks)
	})
	return c
}

func apply(t *testing.T, c *fakes.Cluster, docs string) {
	t.Helper()
	findings, err := c.Apply(docs)
	require.NoError(t, err)
	require.Empty(t, findings)
}

func podOf(name, more string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: a, labels: {app: %s}}\n%s\n", name, name, more)
}

func TestNodesMustBeFewAndMany(t *testing.T) {
	_, err := fakes.New(agent, fakes.Options{Nodes: fakes.MaxNodes + 1})
	require.ErrorContains(t, err, "1 to 80 are allowed")
	_, err = fakes.New(agent, fakes.Options{Nodes: -1})
	require.Error(t, err)
	c := newCluster(t, fakes.Options{Nodes: 1})
	require.Len(t, c.Nodes(), 1)
}

func TestPodsAreSpread(t *testing.T) {
	c := newCluster(t, fakes.Options{Nodes: 3})
	apply(t, c, podOf("one", "")+podOf("two", "")+podOf("three", "")+podOf("fixed", "spec: {nodeName: node2}")+
		podOf("wants", `status: {podIPs: [{ip: 10.244.3.9}, {ip: "fd00:10:244:3::9"}]}`)+
		podOf("foreign", `status: {podIPs: [{ip: 10.0.0.9}]}`))
	at := map[string]int{}
	for _, p := range c.Pods() {
		at[p.Node]++
		require.True(t, p.Running)
		require.Len(t, p.IPs, 2)
		require.True(t, p.Identity.IsCluster())
	}
	require.Equal(t, map[string]int{"node1": 2, "node2": 2, "node3": 2}, at)
	require.Equal(t, "node2", c.Pod("a/fixed").Node)
	require.Equal(t, "10.244.3.9", c.Addr("a/wants").String())
	require.Equal(t, "node3", c.Pod("a/wants").Node)
	node := c.Pod("a/one").Node
	apply(t, c, podOf("one", ""))
	require.Equal(t, node, c.Pod("a/one").Node, "a pod stays")
}

func TestPodsAreMadeAnewWhenTheirShapeChanges(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, podOf("x", "")+podOf("w", ""))
	before := c.Pod("a/x")
	apply(t, c, strings.Replace(podOf("x", ""), "app: x", "app: z", 1))
	require.Equal(t, before.IPs, c.Pod("a/x").IPs, "labels are no shape")
	require.NotEqual(t, before.Identity, c.Pod("a/x").Identity)
	apply(t, c, podOf("x", "spec: {nodeName: "+before.Node+", containers: [{name: c, ports: [{containerPort: 7}]}]}"))
	require.NotEqual(t, before.IPs, c.Pod("a/x").IPs)
	require.Equal(t, "a/x", c.Probe("a/w", "a/x", 7, "TCP").Answer.By)

	apply(t, c, podOf("x", "status: {phase: Succeeded}"))
	require.Len(t, c.Pods(), 1, "what has finished is gone")
	_, err := c.Delete(podOf("w", "") + podOf("nobody", ""))
	require.NoError(t, err)
	require.Empty(t, c.Pods())
	require.Panics(t, func() { c.Pod("a/w") })
	require.Panics(t, func() { c.Probe("a/x", "a/w", 1, "TCP") })
}

func TestHostNetworkAndNodesAndOutside(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, podOf("host", "spec: {nodeName: node2, hostNetwork: true, containers: [{name: c, ports: [{containerPort: 9}]}]}")+
		podOf("x", "spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 80}]}]}"))
	for _, p := range []struct{ from, to string }{{"a/x", "a/host"}, {"node1", "a/host"}, {"a/x", "node1"}} {
		v := c.Probe(p.from, p.to, 9, "TCP")
		require.True(t, v.Allowed, "%s", v)
		require.Empty(t, v.Note)
	}
	for _, from := range []string{"a/host", "node1", "node2", fakes.Outside} {
		for _, protocol := range []string{"TCP", "UDP", "ICMP"} {
			v := c.Probe(from, "a/x", 80, protocol)
			require.True(t, v.Allowed, "%s %s: %s", from, protocol, v)
		}
	}
	require.True(t, c.Probe("a/x", fakes.Outside, 0, "ICMP").Allowed)
}

func TestServicesGetAddresses(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	service := func(name, more string) string {
		return "---\n{apiVersion: v1, kind: Service, metadata: {name: " + name + ", namespace: a}, spec: {selector: {app: x}, ports: [{port: 80}]" + more + "}}\n"
	}
	apply(t, c, podOf("x", "spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}")+podOf("w", "")+
		service("both", "")+service("four", ", ipFamilyPolicy: SingleStack")+service("given", ", clusterIP: 10.96.1.2")+service("headless", ", clusterIP: None"))
	require.Len(t, c.Service("a/both"), 2)
	require.Len(t, c.Service("a/four"), 1)
	seen := map[string]bool{}
	for _, s := range []string{"a/both", "a/four", "a/given"} {
		for _, f := range c.Service(s) {
			require.False(t, seen[f.String()], "%s is given out twice", f)
			seen[f.String()] = true
			require.Equal(t, "a/x", c.ProbeAddr("a/w", f.Addr(), f.Port(), "TCP").Answer.By)
		}
	}
	before := c.Service("a/both")
	apply(t, c, service("both", ", sessionAffinity: ClientIP"))
	require.Equal(t, before, c.Service("a/both"))
	require.Panics(t, func() { c.Service("a/none") })
}

func TestFindings(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	files := []ports.LabManifest{
		{File: "one.yaml", Content: []byte("apiVersion: v1\nkind: Node\nmetadata: {name: node9}\n" + podOf("x", "spec: {nodeName: node9}") + podOf("w", ""))},
		{File: "two.yaml", Content: []byte("kind: [\n---\n{apiVersion: cilium.io/v2, kind: CiliumNode, metadata: {name: node1}}")},
		{File: "three.yaml", Content: []byte("{apiVersion: v1, kind: Node, metadata: {name: node1, labels: {zone: z}}}")},
	}
	findings, err := c.ApplyFiles(t.Context(), files...)
	require.NoError(t, err)
	var texts []string
	for _, f := range findings {
		texts = append(texts, f.String())
	}
	require.Len(t, texts, 4, "%q", texts)
	require.Contains(t, texts[0], `one.yaml: Node node9: metadata.name: "node9" is no node of this cluster`)
	require.Contains(t, texts[1], "one.yaml: Pod a/x: spec.nodeName")
	require.Contains(t, texts[2], "two.yaml: CiliumNode node1: is written by agents")
	require.Contains(t, texts[3], "two.yaml: not valid YAML")
	require.Len(t, c.Pods(), 1, "the others take effect")
	nodes, err := c.Node("node2").Agent().Nodes(t.Context())
	require.NoError(t, err)
	require.Equal(t, "z", nodes[0].Labels["zone"])
	require.NotEmpty(t, nodes[0].PodCIDRs)
	findings, err = c.Delete("{apiVersion: v1, kind: Node, metadata: {name: node1}}")
	require.NoError(t, err)
	require.Len(t, findings, 1)
}

func TestKilledAgentWritesNothing(t *testing.T) {
	var writes atomic.Int64
	c := newCluster(t, fakes.Options{OnWrite: func(fakes.Write) { writes.Add(1) }, Patience: 100 * time.Millisecond})
	apply(t, c, shop)
	require.Positive(t, writes.Load())
	for _, n := range []string{"node1", "node2"} {
		require.NoError(t, c.KillAgent(n))
		require.Nil(t, c.Node(n).Agent())
		require.ErrorIs(t, c.AwaitAgent(t.Context(), n), ports.ErrClosed)
	}
	before := writes.Load()
	apply(t, c, guard)
	require.Equal(t, before, writes.Load())
	v := c.Probe("default/stranger", "shop/db", 5432, "TCP")
	require.True(t, v.Allowed, "the policy has nobody to put it in force: %s", v)
	require.NoError(t, c.StartAgent("node1"))
	require.NoError(t, c.StartAgent("node2"))
	require.NoError(t, c.StartAgent("node2"), "it runs already")
	require.False(t, c.Probe("default/stranger", "shop/db", 5432, "TCP").Allowed)

	c.Doom("node1", 0)
	_, _ = c.Apply(strings.Replace(guard, "5432", "5433", 1) + podOf("more", "spec: {nodeName: node1}"))
	require.Nil(t, c.Node("node1").Agent(), "its first write was its end")
	require.False(t, c.Pod("a/more").Running)
	require.Panics(t, func() { c.Addr("a/more") })
	require.NoError(t, c.StartAgent("node1"))
	require.True(t, c.Pod("a/more").Running)
}

func TestVerdictWithoutAgents(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, shop+"---"+guard)
	require.NoError(t, c.KillAgent("node1"))
	require.NoError(t, c.KillAgent("node2"))
	v := c.Probe("default/stranger", "shop/db", 5432, "TCP")
	require.False(t, v.Allowed)
	require.Equal(t, datapath.ReasonPolicyDenied, v.Reason)
	require.Nil(t, v.Ingress)
	require.Equal(t, "denied (egress: no policy)", v.String())
}

func TestFlowsAreComplete(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, shop+"---"+guard)
	for i := 1; i <= 50; i++ {
		a, _ := c.Dial("default/stranger", "shop/db", 5432, datapath.ProtoTCP)
		require.False(t, a.Connected)
		drops, err := c.Flows(context.Background(), flow.Query{All: true, Allow: []flow.Filter{{Verdict: []string{"DROPPED"}}}})
		require.NoError(t, err)
		require.Len(t, drops, i, "none is still on its way")
	}
	require.NoError(t, c.KillAgent(c.Pod("shop/db").Node))
	_, _ = c.Dial("default/stranger", "shop/db", 5432, datapath.ProtoTCP)
	require.NoError(t, c.StartAgent(c.Pod("shop/db").Node))
	drops, err := c.Flows(context.Background(), flow.Query{All: true, Allow: []flow.Filter{{Verdict: []string{"DROPPED"}}}})
	require.NoError(t, err)
	require.Len(t, drops, 1, "the new agent reads what happened without one")
}

func TestAgentThatNeverGetsReady(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	_, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		return agent("somebody-else", d)
	}, fakes.Options{Patience: 50 * time.Millisecond})
	require.ErrorContains(t, err, "agent of node1")
	require.ErrorContains(t, err, "waiting for its node object")
	goleak.VerifyNone(t, leaks)
}

func TestNativeRouting(t *testing.T) {
	start := func(node string, d fakes.Deps) fakes.Agent {
		return runtime.New(runtime.Config{Node: node, Datapath: "fake", Routing: engine.Direct}, runtime.Deps(d))
	}
	c, err := fakes.New(start, fakes.Options{Native: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()); require.Empty(t, c.Violations()) }()
	serving := ", containers: [{name: c, ports: [{containerPort: 80}]}]}"
	apply(t, c, podOf("client", "spec: {nodeName: node1"+serving)+podOf("closed", "spec: {nodeName: node2"+serving)+
		podOf("open", "spec: {nodeName: node2"+serving))
	apply(t, c, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: only-client, namespace: a},
  spec: {podSelector: {matchLabels: {app: closed}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}}`)

	names := []string{"a/client", "a/closed", "a/open", "node1", "node2", fakes.Outside}
	for _, from := range names {
		for _, to := range names[:3] {
			if from == to {
				continue
			}
			for _, protocol := range []string{"TCP", "UDP", "ICMP"} {
				v := c.Probe(from, to, 80, protocol)
				// A node is judged like everybody else, but for the one that the pod is on.
				want := to != "a/closed" || from == "a/client" || from == "node2"
				require.Equal(t, want, v.Allowed, "%s to %s %s: %s", from, to, protocol, v)
			}
		}
	}

	conn, _, trace := c.Open("a/client", "a/closed", 80, datapath.ProtoTCP)
	require.NotNil(t, conn)
	hooks := map[kernel.Hook]bool{}
	for _, s := range trace.Steps {
		hooks[s.Hook] = true
		require.NotEqual(t, kernel.Tunnel, s.Result.Action)
	}
	require.True(t, hooks[kernel.FromNetwork])
	_, trace = conn.Send("hello")
	for _, s := range trace.Steps {
		require.Contains(t, []kernel.Hook{kernel.FromPod, kernel.FromNetwork}, s.Hook, "in the middle of a flow the stack is not met")
	}
}
