package operator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Others write a node's taints at the same time: nobody loses anything.
func TestTaintsBesideOtherWriters(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	r.pod("kube-system", "agent-n1", "n1", agentLabels)
	r.operator()
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	var others sync.WaitGroup
	written := 0
	others.Go(func() { // adds one taint after the other, each over what it read
		for ctx.Err() == nil && written < 40 {
			n, err := r.api.core.Nodes().Get(ctx, "n1", metav1.GetOptions{})
			if err != nil {
				continue
			}
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: fmt.Sprintf("other-%d", written), Effect: corev1.TaintEffectNoSchedule})
			if _, err = r.api.core.Nodes().Update(ctx, n, metav1.UpdateOptions{}); err == nil {
				written++
			} else if !apierrors.IsConflict(err) && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 6 {
		r.ready("kube-system", "agent-n1", i%2 == 0)
		r.eventually(func() string {
			return want(strings.Contains(r.nodeState("n1"), taintKey), i%2 != 0)
		})
	}
	others.Wait()
	n, err := r.api.core.Nodes().Get(r.ctx, "n1", metav1.GetOptions{})
	require.NoError(t, err)
	for i := range written {
		require.Contains(t, n.Spec.Taints, corev1.Taint{Key: fmt.Sprintf("other-%d", i), Effect: corev1.TaintEffectNoSchedule})
	}
	require.Len(t, n.Spec.Taints, written+2, "the admission puts one on every new node")
}

// An agent applies its part of the CiliumNode, also before the operator made it, and again and again: each
// has its own fields.
func TestCiliumNodeBesideItsAgent(t *testing.T) {
	r := newRig(t)
	apply := func(i int) {
		_, err := r.api.dynamic.Resource(ciliumNodes).Apply(r.ctx, "n1", &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": map[string]any{"name": "n1"},
			"spec": map[string]any{"ipam": map[string]any{}, "addresses": []any{map[string]any{"type": "InternalIP", "ip": fmt.Sprintf("192.0.2.%d", i)}}},
		}}, metav1.ApplyOptions{FieldManager: "weir-agent", Force: true})
		require.NoError(t, err)
	}
	apply(0)
	op := r.operator()
	r.node("n1")
	r.eventually(r.leads(op))
	for i := range 30 {
		apply(i)
	}
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.0.0/24") })
	r.patch(ciliumNodes, "", "n1", `{"spec":{"ipam":{"podCIDRs":null}}}`)
	for i := range 30 {
		apply(i)
	}
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.0.0/24") })
	list, _, _ := unstructured.NestedSlice(r.get(ciliumNodes, "", "n1").Object, "spec", "addresses")
	require.Equal(t, "192.0.2.29", list[0].(map[string]any)["ip"])
}
