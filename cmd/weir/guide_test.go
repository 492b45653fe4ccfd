package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/deploy"
)

// The commands that people learn from guides to Cilium, in the words of the guides. Each has to be
// understood; those with a reason are understood and not available yet.
var guideCommands = []struct{ line, missing string }{
	{line: "cilium version --client"},
	{line: "cilium install --set kubeProxyReplacement=true"},
	{line: "cilium status --wait"},
	{line: "cilium status"},
	{line: "cilium connectivity test --list"}, // the test itself needs pods that run
	{line: "hubble observe"},
	{line: "hubble observe --namespace production"},
	{line: "hubble observe --pod production/backend-7f9c8b-xkp2q"},
	{line: "hubble observe --verdict DROPPED"},
	{line: "hubble observe --verdict POLICY_DENIED"},
	{line: "hubble observe --from-pod production/frontend-abc123 --to-pod production/backend-xyz789 --protocol TCP"},
	{line: "hubble observe --verdict DROPPED --follow"},
	{line: "hubble observe --pod production/my-pod --follow"},
	{line: "hubble observe --pod production/my-pod --protocol DNS", missing: "flows of DNS"},
	{line: "hubble observe --verdict POLICY_DENIED -o json"},
	{line: "hubble status"},
	{line: "cilium bpf lb list"},
	{line: "cilium bpf identity list"},
	{line: "cilium bpf policy get"},
	{line: "cilium bpf nat list"},
	{line: "cilium bpf ct list global"},
	{line: "cilium-dbg encrypt status"},
	{line: "cilium hubble enable --ui", missing: "there is no relay and no user interface"},
	{line: "cilium hubble port-forward", missing: "there is no relay"},
	{line: "cilium hubble ui", missing: "there is no user interface"},
}

func TestGuideCommands(t *testing.T) {
	for _, tt := range guideCommands {
		t.Run(tt.line, func(t *testing.T) {
			words := strings.Fields(tt.line)
			var r result
			if words[0] == agentProgram {
				r = inPod(words[0], words[1:]...)
			} else {
				h := installed()
				if len(words) > 1 && words[1] == "install" {
					h = &fakeHelm{}
				}
				r = onCluster(t, newFakeCluster(), h, words[0], words[1:]...)
			}
			if tt.missing != "" {
				assert.Equal(t, exitFailed, r.code)
				assert.Contains(t, r.err, "not available: "+tt.missing)
				return
			}
			assert.Zero(t, r.code, r.err)
			assert.NotContains(t, r.err, "--help", "no mistake of usage")
		})
	}
}

// inPod runs a command line where an agent's socket is.
func inPod(program string, args ...string) result {
	var out, errs strings.Builder
	g := newGlobals(strings.NewReader(""), &out, &errs)
	g.program = program
	g.getenv = func(string) string { return "" }
	g.connect = fixtureAgent
	return result{code: run(testContext, g, args), out: out.String(), err: errs.String()}
}

// jq '.flow.drop_reason_desc' finds the reason.
func TestDropReasonsForJQ(t *testing.T) {
	r := onCluster(t, newFakeCluster(), installed(), "hubble", "observe", "--verdict", "POLICY_DENIED", "-o", "json")
	require.Zero(t, r.code, r.err)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.NotEmpty(t, lines)
	for _, l := range lines {
		if strings.Contains(l, `"lost_events"`) {
			continue
		}
		var v struct {
			Flow struct {
				Reason string `json:"drop_reason_desc"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(l), &v))
		assert.Contains(t, []string{"POLICY_DENIED", "POLICY_DENY"}, v.Flow.Reason)
	}
}

// The values of the guide's helm commands, as --set gives them, are taken by the chart.
func TestGuideValues(t *testing.T) {
	chart, err := helm.Load(deploy.Chart(), "")
	require.NoError(t, err)
	for _, line := range []string{
		"kubeProxyReplacement=true k8sServiceHost=10.80.0.1 k8sServicePort=6443 ipam.mode=kubernetes routingMode=tunnel tunnelProtocol=vxlan " +
			"hubble.relay.enabled=true hubble.ui.enabled=true encryption.enabled=true encryption.type=wireguard",
		"hubble.relay.enabled=true hubble.ui.enabled=true hubble.metrics.enabled={dns,drop,tcp,flow,icmp,http}",
		"encryption.enabled=true encryption.type=wireguard encryption.wireguard.userspaceFallback=false",
		"ingressController.enabled=true ingressController.default=true gatewayAPI.enabled=true",
		"bgpControlPlane.enabled=true",
		"bandwidthManager.enabled=true bandwidthManager.bbr=true",
	} {
		values, err := helm.Sources{Set: strings.Fields(line)}.Values()
		require.NoError(t, err)
		out, err := chart.Render("cilium", "kube-system", "", values)
		require.NoError(t, err, line)
		var anything any
		for _, document := range strings.Split(out.Manifest, "\n---") {
			require.NoError(t, yaml.Unmarshal([]byte(document), &anything))
		}
		assert.NotEmpty(t, configIn(out.Manifest)["kube-proxy-replacement"])
	}
}
