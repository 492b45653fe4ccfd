package operator

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrape reads the metrics as Prometheus does: by name with labels, the value.
func (r *rig) scrape(op *Operator) map[string]string {
	r.t.Helper()
	resp, err := http.Get("http://" + op.serving.listener.Addr().String() + "/metrics")
	require.NoError(r.t, err)
	defer resp.Body.Close()
	require.Equal(r.t, 200, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	out := map[string]string{}
	for _, line := range strings.Split(string(body), "\n") {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			out[line[:i]] = line[i+1:]
		}
	}
	return out
}

// metric waits until a metric has a value.
func (r *rig) metric(op *Operator, name, value string) {
	r.t.Helper()
	r.eventually(func() string { return want(r.scrape(op)[name], value) })
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	r.node("n2")
	r.create(ciliumIdentities, "", identityDoc("4711"))
	r.create(ciliumEndpoints, "default", endpoint("orphan", "10.20.0.9", "", nil))
	p := r.pod("default", "a", "n1", nil)
	r.create(ciliumEndpoints, "default", endpoint("a", "10.20.0.8", "n1", p))
	op := r.named("a", "identity-gc-interval=1s", "identity-heartbeat-timeout=1s", "cilium-endpoint-gc-interval=1s",
		"enable-cilium-endpoint-slice=true", "cluster-pool-ipv4-cidr=10.20.0.0/24")
	r.eventually(r.leads(op))
	r.metric(op, `leader_election_master_status{name="cilium-operator-resource-lock"}`, "1")
	r.metric(op, `cilium_operator_endpoint_gc_objects{outcome="success"}`, "1")
	r.metric(op, `cilium_operator_identity_gc_entries{status="retired"}`, "1")
	r.metric(op, `cilium_operator_identity_gc_entries{status="alive"}`, "0")
	r.metric(op, `cilium_operator_identity_gc_entries{status="deleted"}`, "1")
	r.metric(op, `cilium_operator_ipam_nodes{category="total"}`, "2")
	r.metric(op, `cilium_operator_ipam_nodes{category="in-deficit"}`, "1")
	r.metric(op, `cilium_operator_ipam_pod_cidrs{family="IPv4",state="total"}`, "1")
	r.metric(op, `cilium_operator_ipam_pod_cidrs{family="IPv4",state="allocated"}`, "1")
	r.eventually(func() string { return want(r.scrape(op)[`cilium_operator_number_of_ceps_per_ces_count`] != "0", true) })
	all := r.scrape(op)
	for _, name := range []string{
		`cilium_operator_ces_sync_total{outcome="success"}`, `cilium_operator_identity_gc_runs{outcome="success"}`, `cilium_operator_unmanaged_pods`,
		`cilium_operator_k8s_workqueue_adds_total{name="nodes"}`, `cilium_operator_k8s_workqueue_depth{name="readiness"}`,
		`cilium_operator_process_resident_memory_bytes`, `go_goroutines`,
	} {
		assert.Contains(t, all, name)
	}
	assert.Regexp(t, regexp.MustCompile(`cilium_operator_k8s_client_api_calls_total\{host="127.0.0.1:\d+",method="PATCH",return_code="200"\}`), all)

	// One that stands by says so, and keeps quiet about what it does not know.
	b := r.named("b", "enable-metrics=true")
	r.metric(b, `leader_election_master_status{name="cilium-operator-resource-lock"}`, "0")
	assert.NotContains(t, r.scrape(b), `cilium_operator_ipam_nodes{category="total"}`)
	r.stop(op)
	r.metric(b, `cilium_operator_ipam_nodes{category="total"}`, "2")
}

func TestMetricsOffOrInUse(t *testing.T) {
	c, err := NewConfig(map[string]string{"enable-metrics": "false"})
	require.NoError(t, err)
	assert.Empty(t, c.MetricsAddr)
	m := newMetrics("v1", &election{})
	s, err := m.serve("127.0.0.1:0")
	require.NoError(t, err)
	defer s.stop()
	_, err = m.serve(s.listener.Addr().String())
	assert.ErrorContains(t, err, "operator-prometheus-serve-addr")
	assert.ErrorContains(t, err, "address already in use")
}
