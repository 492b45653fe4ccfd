package operator

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/kubernetes"
)

var rbac = schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}

// account makes a service account that may do what Rules says.
func (r *rig) account(name string, c Config) *rest.Config {
	r.t.Helper()
	config := r.cluster.ServiceAccount(r.t, c.Namespace, name)
	everywhere, there := Rules(c)
	for _, g := range []struct {
		role, binding, namespace string
		rules                    []kubernetes.Rule
	}{{"ClusterRole", "ClusterRoleBinding", "", everywhere}, {"Role", "RoleBinding", c.Namespace, there}} {
		var rules []any
		for _, x := range g.rules {
			verbs := make([]any, len(x.Verbs))
			for i, v := range x.Verbs {
				verbs[i] = v
			}
			rules = append(rules, map[string]any{"apiGroups": []any{x.Group}, "resources": []any{x.Resource}, "verbs": verbs})
		}
		meta := map[string]any{"name": name}
		r.create(rbac.WithResource(map[bool]string{true: "clusterroles", false: "roles"}[g.namespace == ""]), g.namespace,
			map[string]any{"apiVersion": rbac.String(), "kind": g.role, "metadata": meta, "rules": rules})
		r.create(rbac.WithResource(map[bool]string{true: "clusterrolebindings", false: "rolebindings"}[g.namespace == ""]), g.namespace,
			map[string]any{"apiVersion": rbac.String(), "kind": g.binding, "metadata": meta,
				"roleRef":  map[string]any{"apiGroup": rbac.Group, "kind": g.role, "name": name},
				"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": name, "namespace": c.Namespace}}})
	}
	return config
}

// An operator that may not read the lease says so.
func TestHealthNamesMissingRights(t *testing.T) {
	r := newRig(t)
	c := r.config()
	op, err := New(Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	op.election, err = newElection(c, r.cluster.ServiceAccount(t, c.Namespace, "nobody"), "nobody", op.log)
	require.NoError(t, err)
	op.health.election = op.election
	require.NoError(t, op.Start(func(err error) { t.Error(err) }))
	t.Cleanup(func() { r.stop(op) })
	r.eventually(func() string {
		code, body := r.healthz(op)
		return want(code == 503 && strings.Contains(body, "no leader is known: ") && strings.Contains(body, "forbidden"), true)
	})
}

// An operator with exactly the rights of Rules does all its duties.
func TestRulesAreEnough(t *testing.T) {
	r := newRig(t)
	values := []string{"enable-cilium-endpoint-slice=true", "cilium-endpoint-gc-interval=1s", "nodes-gc-interval=1s", "identity-gc-interval=1s",
		"identity-heartbeat-timeout=1s", "unmanaged-pod-watcher-interval=1"}
	c := r.config(values...)
	config := r.account("operator-least", c)

	r.node("n1", corev1.Taint{Key: taintKey, Effect: corev1.TaintEffectNoSchedule})
	r.pod("kube-system", "agent-n1", "n1", agentLabels)
	r.ready("kube-system", "agent-n1", true)
	r.create(ciliumNodes, "", ciliumNode("gone", "10.20.9.0/24"))
	r.create(ciliumEndpoints, "default", endpoint("orphan", "10.20.0.9", "", nil))
	p := r.pod("default", "alive", "n1", nil)
	r.ready("default", "alive", true)
	r.create(ciliumEndpoints, "default", endpoint("alive", "10.20.0.8", "n1", p))
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "p", goodSpec))
	r.create(ciliumClusterPolicies, "", policyDoc("CiliumClusterwideNetworkPolicy", "cp", goodSpec))
	r.create(ciliumIdentities, "", identityDoc("4711"))

	r.unmanaged("dns", "n1")

	log := &lockedBuffer{}
	op, err := New(Options{Config: c, Log: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	least, err := kubernetes.Connect(kubernetes.Options{Config: config, QPS: 100, Burst: 200})
	require.NoError(t, err)
	op.rest = least
	op.election, err = newElection(c, least, "least", op.log)
	require.NoError(t, err)
	op.health.election = op.election
	require.NoError(t, op.Start(func(err error) { t.Error(err) }))
	t.Cleanup(func() { r.stop(op) })

	r.eventually(func() string { return want(r.nodeState("n1"), "network-unavailable=False(CiliumIsUp)") })
	r.eventually(func() string { return want(len(r.podCIDRs("n1")), 1) })
	r.eventually(func() string { return want(r.get(ciliumNodes, "", "gone") == nil, true) })
	r.eventually(func() string { return want(r.get(ciliumEndpoints, "default", "orphan") == nil, true) })
	r.eventually(func() string { return r.valid(ciliumPolicies, "default", "p", "True") })
	r.eventually(func() string { return r.valid(ciliumClusterPolicies, "", "cp", "True") })
	r.eventually(func() string { return want(r.inSlices(), "default/alive=10.20.0.8 ") })
	r.eventually(func() string {
		i := r.get(ciliumIdentities, "", "4711")
		return want(i == nil || i.GetAnnotations()["weir.io/retired-since"] != "", true)
	})
	// Who is as old as the test may go; the duty itself waits longer.
	least.Wrap(op.metrics.counted)
	api, err := newClients(least, op.election.mayWrite)
	require.NoError(t, err)
	agents, err := newView(agentListWatch(api, c), podExample, convertAgent)
	require.NoError(t, err)
	require.NoError(t, agents.informer.GetStore().Add(&agentPod{ObjectMeta: metav1.ObjectMeta{Name: "agent-n1"}, node: "n1", ready: true, readySince: time.Now()}))
	require.NoError(t, newUnmanagedDuty(op, api, agents).search(r.ctx, time.Now().Add(time.Hour)))
	require.NotNil(t, r.get(corePods, "default", "dns").GetDeletionTimestamp())
	// Slices change and go, and the status of a node is written.
	p2 := r.pod("default", "second", "n1", nil)
	r.create(ciliumEndpoints, "default", endpoint("second", "10.20.0.7", "n1", p2))
	r.eventually(func() string { return want(r.inSlices(), "default/alive=10.20.0.8 default/second=10.20.0.7 ") })
	r.delete(corePods, "default", "alive")
	r.delete(corePods, "default", "second")
	r.eventually(func() string { return want(len(r.list(ciliumEndpointSlices)), 0) })
	r.patch(ciliumNodes, "", "n1", `{"status":{"ipam":{"operator-status":{"error":"old"}}}}`, "status")
	r.eventually(func() string { return want(r.failure("n1"), "") })
	time.Sleep(1500 * time.Millisecond) // another round of everything periodic
	require.NotContains(t, log.String(), "forbidden")
	require.NotContains(t, log.String(), "level=ERROR")

	for _, gvr := range []schema.GroupVersionResource{rbac.WithResource("clusterroles"), rbac.WithResource("clusterrolebindings")} {
		require.NoError(t, r.api.dynamic.Resource(gvr).Delete(r.ctx, "operator-least", metav1.DeleteOptions{}))
	}
}
