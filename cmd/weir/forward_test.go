package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

func TestCommandsRunInTheAgentsPods(t *testing.T) {
	f := newFakeCluster()
	r := onCluster(t, f, installed(), "cilium", "--context", "kind", "bpf", "lb", "list", "-n", "kube-system", "--kubeconfig=/tmp/k", "--backends")
	require.Zero(t, r.code, r.err)
	assert.ElementsMatch(t, []string{"cilium-a: cilium-dbg bpf lb list --backends", "cilium-b: cilium-dbg bpf lb list --backends"}, f.execs)
	one := weir(fixture(), "", "bpf", "lb", "list", "--backends").out
	assert.Equal(t, "==== n1 ====\n"+one+"\n==== n2 ====\n"+one, r.out)

	f = newFakeCluster()
	r = onCluster(t, f, installed(), "weir", "--node", "n2", "endpoint", "list")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, []string{"cilium-b: cilium-dbg endpoint list"}, f.execs)
	assert.Equal(t, weir(fixture(), "", "endpoint", "list").out, r.out, "one agent's answer has no heading")

	f = newFakeCluster()
	r = onCluster(t, f, installed(), "weir", "status", "--node", "n1", "--brief")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, []string{"cilium-a: cilium-dbg status --brief"}, f.execs)
	assert.Equal(t, "OK\n", r.out)

	r = onCluster(t, newFakeCluster(), installed(), "weir", "identity", "list", "-o", "json")
	require.Zero(t, r.code, r.err)
	var byNode map[string][]map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.out), &byNode))
	assert.Len(t, byNode["n1"], 3)
	assert.Len(t, byNode["n2"], 3)
}

func TestCommandsThatOneAgentCannotAnswer(t *testing.T) {
	f := newFakeCluster()
	f.agents["cilium-b"] = nil
	r := onCluster(t, f, installed(), "weir", "node", "list")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, "==== n1 ====\n")
	assert.Contains(t, r.err, "node n2: container not running")

	r = onCluster(t, newFakeCluster(), installed(), "weir", "endpoint", "get", "no/such")
	require.Equal(t, exitFailed, r.code, "all agents said no")
	assert.Contains(t, r.err, "no/such")

	f = newFakeCluster()
	f.pods = nil
	assert.Contains(t, onCluster(t, f, installed(), "weir", "node", "list").err, "no agents in namespace kube-system")
	f.pods = []cluster.Pod{{Name: "cilium-a", Node: "n1", Phase: "Pending"}}
	assert.Contains(t, onCluster(t, f, installed(), "weir", "node", "list").err, "none of the 1 agents runs")
	assert.Contains(t, onCluster(t, newFakeCluster(), installed(), "weir", "node", "list", "--node", "n9").err, `no running agent on node "n9"; there are agents on: n1, n2`)
}

func TestUsageIsCheckedBeforeAgentsAreAsked(t *testing.T) {
	f := newFakeCluster()
	r := onCluster(t, f, installed(), "weir", "bpf", "lb", "list", "--nope")
	assert.Equal(t, exitUsage, r.code)
	assert.Empty(t, f.execs)
}

func TestFlowsOfAllAgentsAreOneStory(t *testing.T) {
	r := onCluster(t, newFakeCluster(), installed(), "hubble", "observe", "--verdict", "DROPPED", "--last", "3", "-o", "compact")
	require.Zero(t, r.code, r.err)
	var times []string
	for _, line := range strings.Split(strings.TrimSpace(r.out), "\n") {
		if !strings.Contains(line, "EVENTS LOST") {
			times = append(times, line[:19])
		}
	}
	assert.Len(t, times, 3, "the latest three of both nodes together")
	assert.IsNonDecreasing(t, times)
	assert.NotContains(t, r.out, "====")

	f := newFakeCluster()
	r = onCluster(t, f, installed(), "weir", "observe", "-n", "shop", "--follow")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, f.execs, "cilium-a: cilium-dbg observe -n shop --follow -o json", "-n is observe's own")
	f.agents["cilium-a"] = nil
	r = onCluster(t, f, installed(), "weir", "observe")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "node n1: container not running")
	assert.NotEmpty(t, r.out, "the other node's flows are shown")
}

func TestMonitor(t *testing.T) {
	f := newFakeCluster()
	r := onCluster(t, f, installed(), "cilium", "monitor", "-t", "drop")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, f.execs, "cilium-a: cilium-dbg observe --follow --since 0s -o json --verdict DROPPED")
	r = onCluster(t, f, installed(), "cilium", "monitor", "--type", "l7")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "not available: events of type l7")
	assert.Equal(t, exitUsage, onCluster(t, f, installed(), "cilium", "monitor", "--type", "nonsense").code)
}

func TestHubbleStatusAndNodes(t *testing.T) {
	f := newFakeCluster()
	r := onCluster(t, f, installed(), "hubble", "status")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, "Healthcheck (via the agents' pods): Ok\nCurrent/Max Flows: 8/8,190 (0.10%)\nFlows/s: 1.00\nConnected Nodes: 2/2\n", r.out)
	f.agents["cilium-b"] = nil
	r = onCluster(t, f, installed(), "hubble", "status")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "Unavailable Nodes: 1\n  - n2 (container not running)\n")
	r = onCluster(t, f, installed(), "hubble", "list", "nodes")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, `NAME   STATUS        AGE      FLOWS/S   CURRENT/MAX-FLOWS
n1     Connected     1h0m0s   0.50      4/4095 (  0.10%)
n2     Unavailable   N/A      N/A       N/A
`, r.out)
	f.agents["cilium-a"] = nil
	assert.Equal(t, exitFailed, onCluster(t, f, installed(), "hubble", "status").code)
	r = inPod("hubble", "status")
	require.Zero(t, r.code, r.err)
	assert.Contains(t, r.out, "weir.sock): Ok")
}

func TestEncryptionIsToldAsItIs(t *testing.T) {
	assert.Equal(t, "Encryption: Disabled (2/2 nodes)\n", onCluster(t, newFakeCluster(), installed(), "cilium", "encryption", "status").out)
	assert.Equal(t, "Encryption: Disabled\n", inPod("cilium-dbg", "encrypt", "status").out)
	r := onCluster(t, newFakeCluster(), installed(), "cilium", "bgp", "peers", "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "not available: there is no BGP speaker")
}

func TestNames(t *testing.T) {
	for called, want := range map[string]string{"weir": "weir", "cilium": "cilium", "cilium-dbg": "cilium-dbg", "hubble": "hubble", "weir.test": "weir"} {
		assert.Equal(t, want, programName(called))
	}
	for name := range programs {
		r := inPod(name, "--help")
		assert.Zero(t, r.code)
		assert.Contains(t, r.out, "Usage:\n  "+name)
	}
	r := inPod("cilium-dbg", "install")
	assert.Equal(t, exitUsage, r.code, "an agent installs nothing")
}
