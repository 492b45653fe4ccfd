package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

func installed() *fakeHelm {
	return &fakeHelm{current: &helm.Release{Name: "cilium", Namespace: "kube-system", Revision: 3, ChartVersion: "0.1.0", AppVersion: "v0.0.0-test"}}
}

func TestClusterStatus(t *testing.T) {
	r := onCluster(t, newFakeCluster(), installed(), "cilium", "status")
	require.Zero(t, r.code, r.err)
	assert.Equal(t, `    /¯¯\
 /¯¯\__/¯¯\    Cilium:             OK
 \__/¯¯\__/    Operator:           OK
 /¯¯\__/¯¯\    Envoy DaemonSet:    disabled
 \__/¯¯\__/    Hubble Relay:       disabled
    \__/       ClusterMesh:        disabled

DaemonSet              cilium                   Desired: 2, Ready: 2/2, Available: 2/2
Deployment             cilium-operator          Desired: 1, Ready: 1/1, Available: 1/1
Containers:            cilium                   Running: 2
                       cilium-operator          Running: 1
Cluster Pods:          5/5 managed by Cilium
KubeProxyReplacement:  True
IPAM:                  kubernetes
Routing:               Tunnel [vxlan]
Encryption:            Disabled
BandwidthManager:      Disabled
Helm chart version:    0.1.0
Image versions         cilium             docker.io/weirnet/weir:v0.0.0-test: 2
                       cilium-operator    docker.io/weirnet/weir:v0.0.0-test: 1
`, r.out)
	assert.Equal(t, r, onCluster(t, newFakeCluster(), installed(), "weir", "status", "--wait"), "what is well needs no waiting")
}

func TestClusterStatusNamesWhatIsWrong(t *testing.T) {
	f := newFakeCluster()
	ds := &f.overview.Components[0]
	ds.Ready, ds.Available, ds.Unavailable = 1, 1, 1
	ds.Pods[1].Problem = "container cilium-agent: CrashLoopBackOff (last exit status 1: kernel too old)"
	f.overview.Components[1] = cluster.Component{Kind: "Deployment", Name: "cilium-operator"}
	f.overview.Managed = 3
	f.agents["cilium-a"] = agent.NewInspector(agent.State{Status: ports.Status{Node: "n1", Problems: []string{"table policy is full"}}}, 0)
	f.config["enable-wireguard"] = "true"
	r := onCluster(t, f, &fakeHelm{}, "cilium", "status")
	require.Equal(t, exitFailed, r.code)
	for _, line := range []string{
		"Cilium:             3 errors", "Operator:           1 errors",
		"Desired: 2, Ready: 1/2, Available: 1/2, Unavailable: 1/2",
		"cilium-a                 node n1: table policy is full",
		"cilium-b                 node n2: container cilium-agent: CrashLoopBackOff (last exit status 1: kernel too old)",
		"1 pods of DaemonSet cilium are not ready", "Deployment cilium-operator not found", "3/5 managed by Cilium",
		"Helm chart version:    not installed by Helm",
		"Encryption:            Disabled   (enable-wireguard=true is set, and not available yet)",
	} {
		assert.Contains(t, r.out, line)
	}
	assert.Contains(t, r.err, "status check failed")
}

func TestClusterStatusAsJSON(t *testing.T) {
	r := onCluster(t, newFakeCluster(), installed(), "cilium", "status", "-o", "json")
	require.Zero(t, r.code, r.err)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.out), &v))
	for _, k := range []string{"image_count", "phase_count", "pod_state", "pods_count", "cilium_status", "cilium_endpoints", "errors",
		"collection_errors", "helm_chart_version", "config_errors"} {
		assert.Contains(t, v, k)
	}
	assert.Equal(t, map[string]any{"all": 5.0, "by_cilium": 5.0}, v["pods_count"])
	assert.Equal(t, map[string]any{"cilium-a": 2.0, "cilium-b": 2.0}, v["cilium_endpoints"])
}

func TestClusterStatusWaitEnds(t *testing.T) {
	f := newFakeCluster()
	f.agents["cilium-b"] = nil
	r := onCluster(t, f, installed(), "cilium", "status", "--wait", "--wait-duration", "0s")
	require.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, "node n2: the agent does not say how it is: container not running")
	assert.Contains(t, r.err, "not good within 0s")
}

func TestVersionOfACluster(t *testing.T) {
	r := onCluster(t, newFakeCluster(), installed(), "cilium", "version", "--client")
	require.Zero(t, r.code)
	assert.Regexp(t, `^cilium-cli: v0\.0\.0-test compiled with go\S+ on linux/\w+\ncilium image \(default\): v0\.0\.0-test\ncilium image \(stable\): v0\.0\.0-test\n$`, r.out)
	assert.Contains(t, onCluster(t, newFakeCluster(), installed(), "cilium", "version").out, "cilium image (running): weir:v0.0.0-test\n")
	f := newFakeCluster()
	f.overview.Components[0].Pods = nil
	r = onCluster(t, f, installed(), "cilium", "version")
	require.Zero(t, r.code)
	assert.Contains(t, r.out, "cilium image (running): unknown. Unable to obtain cilium version. Reason: no agent runs")
	assert.Contains(t, onCluster(t, newFakeCluster(), installed(), "weir", "version").out, "Daemon: weir:v0.0.0-test\n")
}
