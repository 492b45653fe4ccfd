package operator

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var dnsLabels = map[string]string{"k8s-app": "kube-dns"}

// unmanaged makes a running pod of the cluster's DNS that has no endpoint and an owner.
func (r *rig) unmanaged(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	r.t.Helper()
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: dnsLabels, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "coredns", UID: "4711", Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	for _, f := range change {
		f(p)
	}
	p, err := r.api.core.Pods("default").Create(r.ctx, p, metav1.CreateOptions{})
	require.NoError(r.t, err)
	r.phase("default", name, "Running")
	return p
}

// agentReady sets since when an agent's pod is ready.
func (r *rig) agentReady(name string, since time.Time) {
	r.t.Helper()
	r.patch(corePods, "kube-system", name, fmt.Sprintf(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":%q}]}}`,
		since.UTC().Format(time.RFC3339)), "status")
}

// search is one search of a duty that believes the time to be another one, and which pods are left.
func (r *rig) search(d *unmanagedDuty, now time.Time) string {
	r.t.Helper()
	require.NoError(r.t, d.search(r.ctx, now))
	var left string
	for _, p := range r.list(corePods) {
		if p.GetLabels()["k8s-app"] == "kube-dns" && p.GetDeletionTimestamp() == nil { // no kubelet takes it away
			left += p.GetName() + " "
		}
	}
	return left
}

func TestUnmanagedPodsAreRestarted(t *testing.T) {
	r := newRig(t)
	op := r.make("a", "unmanaged-pod-watcher-interval=1h")
	agents, err := newView(agentListWatch(r.api, op.config), podExample, convertAgent)
	require.NoError(t, err)
	go agents.informer.RunWithContext(r.ctx)
	d := newUnmanagedDuty(op, r.api, agents)

	now := time.Now()
	r.pod("kube-system", "agent-n1", "n1", agentLabels)
	r.agentReady("agent-n1", now)
	r.pod("kube-system", "agent-n2", "n2", agentLabels)
	managed := r.unmanaged("managed", "n1")
	r.create(ciliumEndpoints, "default", endpoint("managed", "10.0.0.1", "n1", managed))
	r.unmanaged("dns1", "n1")
	r.unmanaged("dns2", "n1")
	r.unmanaged("host", "n1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	r.unmanaged("no-agent", "n2")
	r.unmanaged("nobodys", "n1", func(p *corev1.Pod) { p.OwnerReferences = nil })
	r.unmanaged("other", "n1", func(p *corev1.Pod) { p.Labels = map[string]string{"k8s-app": "else"} })
	r.eventually(func() string {
		for _, a := range agents.list() {
			if a.ready {
				return ""
			}
		}
		return "no agent is seen"
	})

	all := "dns1 dns2 host managed no-agent nobodys "
	assert.Equal(t, all, r.search(d, now.Add(10*time.Second)), "all is young")
	// One at a time.
	assert.Equal(t, "dns2 host managed no-agent nobodys ", r.search(d, now.Add(time.Minute)))
	assert.Equal(t, "host managed no-agent nobodys ", r.search(d, now.Add(time.Minute)))
	assert.Equal(t, "host managed no-agent nobodys ", r.search(d, now.Add(time.Hour)))
	assert.Len(t, d.told, 2, "why the two stay is told once")

	// A pod that was made while the agent was ready would come back as it is.
	r.agentReady("agent-n1", now.Add(-time.Hour))
	r.unmanaged("late", "n1")
	r.eventually(func() string {
		for _, a := range agents.list() {
			if a.ready && a.readySince.Before(now.Add(-time.Minute)) {
				return ""
			}
		}
		return "the change is not seen"
	})
	assert.Equal(t, "host late managed no-agent nobodys ", r.search(d, now.Add(time.Hour)))

	// An endpoint of another pod by that name is none.
	e := r.get(ciliumEndpoints, "default", "managed")
	has, err := d.hasEndpoint(r.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "managed", UID: "other"}})
	require.NoError(t, err)
	assert.False(t, has)
	assert.NotNil(t, e)
}

func TestUnmanagedSettings(t *testing.T) {
	for value, want := range map[string]time.Duration{"15": 15 * time.Second, "15s": 15 * time.Second, "0": 0, "0s": 0, "1m": time.Minute} {
		c, err := NewConfig(map[string]string{"unmanaged-pod-watcher-interval": value})
		require.NoError(t, err)
		assert.Equal(t, want, c.UnmanagedPods)
	}
	for _, bad := range []map[string]string{{"unmanaged-pod-watcher-interval": "soon"}, {"unmanaged-pod-watcher-interval": "-1"}, {"pod-restart-selector": "a=b=c"}} {
		_, err := NewConfig(bad)
		require.Error(t, err)
	}
	c, err := NewConfig(nil)
	require.NoError(t, err)
	assert.Equal(t, "k8s-app=kube-dns", c.UnmanagedSelector)
}
