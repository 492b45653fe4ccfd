package operator

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const taintKey = "node.cilium.io/agent-not-ready"

var agentLabels = map[string]string{"k8s-app": "cilium"}

func (r *rig) nodeState(name string) string {
	r.t.Helper()
	n, err := r.api.core.Nodes().Get(r.ctx, name, metav1.GetOptions{})
	require.NoError(r.t, err)
	s := ""
	for _, t := range n.Spec.Taints {
		if t.Key == taintKey || t.Key == "mine" {
			s += fmt.Sprintf("%s:%s ", t.Key, t.Effect)
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			s += fmt.Sprintf("network-unavailable=%s(%s)", c.Status, c.Reason)
		}
	}
	return s
}

func TestTaintFollowsTheAgent(t *testing.T) {
	r := newRig(t)
	r.node("n1", corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute}, corev1.Taint{Key: taintKey, Effect: corev1.TaintEffectNoExecute},
		corev1.Taint{Key: taintKey, Effect: corev1.TaintEffectNoSchedule})
	r.node("n2", corev1.Taint{Key: taintKey, Effect: corev1.TaintEffectNoSchedule})
	r.operator()
	r.pod("kube-system", "agent-n1", "n1", agentLabels)
	r.pod("kube-system", "other", "n2", map[string]string{"k8s-app": "other"})
	r.ready("kube-system", "other", true)
	r.never(500*time.Millisecond, func() string {
		return want(r.nodeState("n1"), "mine:NoExecute "+taintKey+":NoExecute "+taintKey+":NoSchedule ")
	})
	r.ready("kube-system", "agent-n1", true)
	up := "network-unavailable=False(CiliumIsUp)"
	r.eventually(func() string { return want(r.nodeState("n1"), "mine:NoExecute "+up) })
	require.Equal(t, taintKey+":NoSchedule ", r.nodeState("n2"), "another's pod says nothing")

	// An agent that is not ready any more, or about to end, keeps new pods away.
	r.ready("kube-system", "agent-n1", false)
	tainted := "mine:NoExecute " + taintKey + ":NoSchedule " + up
	r.eventually(func() string { return want(r.nodeState("n1"), tainted) })
	r.ready("kube-system", "agent-n1", true)
	r.eventually(func() string { return want(r.nodeState("n1"), "mine:NoExecute "+up) })

	// The node of a pod that ends is tainted, and left as it is when the pod has gone.
	grace := int64(30)
	require.NoError(t, r.api.core.Pods("kube-system").Delete(r.ctx, "agent-n1", metav1.DeleteOptions{GracePeriodSeconds: &grace}))
	r.eventually(func() string { return want(r.nodeState("n1"), tainted) })
	r.delete(corePods, "kube-system", "agent-n1")
	r.never(500*time.Millisecond, func() string { return want(r.nodeState("n1"), tainted) })
	r.pod("kube-system", "agent-n1-new", "n1", agentLabels)
	r.ready("kube-system", "agent-n1-new", true)
	r.eventually(func() string { return want(r.nodeState("n1"), "mine:NoExecute "+up) })
}

func TestTaintSwitches(t *testing.T) {
	r := newRig(t)
	r.node("n1", corev1.Taint{Key: taintKey, Effect: corev1.TaintEffectNoSchedule})
	r.node("n2")
	r.pod("kube-system", "agent-n1", "n1", agentLabels)
	r.ready("kube-system", "agent-n1", true)
	r.pod("kube-system", "agent-n2", "n2", agentLabels)
	op := r.operator("remove-cilium-node-taints=false", "set-cilium-node-taints=false", "set-cilium-is-up-condition=false")
	r.eventually(r.leads(op))
	r.eventually(func() string { return want(len(r.podCIDRs("n2")), 1) })
	r.never(500*time.Millisecond, func() string {
		return want(r.nodeState("n1"), taintKey+":NoSchedule ") + want(r.nodeState("n2"), "")
	})
	r.stop(op)
	r.operator("set-cilium-node-taints=true", "agent-not-ready-taint-key=mine")
	r.eventually(func() string { return want(r.nodeState("n2"), "mine:NoSchedule ") })
}

func TestTaintsFor(t *testing.T) {
	other := corev1.Taint{Key: "other", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	ours := corev1.Taint{Key: "key", Effect: corev1.TaintEffectNoSchedule}
	hard := corev1.Taint{Key: "key", Effect: corev1.TaintEffectNoExecute}
	type list = []corev1.Taint
	for _, c := range []struct {
		have               list
		ready, remove, set bool
		want               list
	}{
		{nil, true, true, true, nil},
		{list{ours, other, hard}, true, true, true, list{other}},
		{list{ours, other}, true, false, true, list{ours, other}},
		{list{other}, false, true, true, list{other, ours}},
		{list{other}, false, true, false, list{other}},
		{list{hard}, false, true, true, list{hard}},
	} {
		require.Equal(t, c.want, taintsFor(c.have, "key", c.ready, c.remove, c.set), "%+v", c)
	}
}
