package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// The condition of a node whose network works; Cilium's words.
const (
	upReason  = "CiliumIsUp"
	upMessage = "Cilium is running on this node"
)

// node is a Node.
type node struct {
	metav1.ObjectMeta
	taints  []corev1.Taint
	network *corev1.NodeCondition // NetworkUnavailable
}

// agentPod is an agent's pod.
type agentPod struct {
	metav1.ObjectMeta
	node       string
	ready      bool
	readySince time.Time
}

var (
	nodeExample = &corev1.Node{}
	podExample  = &corev1.Pod{}
)

func nodeListWatch(c *clients) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.core.Nodes().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.core.Nodes().Watch(ctx, o)
		},
	}
}

func agentListWatch(c *clients, config Config) cache.ListerWatcher {
	pods := c.core.Pods(config.Namespace)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = config.AgentLabels
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = config.AgentLabels
			return pods.Watch(ctx, o)
		},
	}
}

func convertNode(o runtime.Object) (*node, error) {
	in, ok := o.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("want a Node, got %T", o)
	}
	n := &node{ObjectMeta: identity(in), taints: in.Spec.Taints}
	for i, c := range in.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			n.network = &in.Status.Conditions[i]
		}
	}
	return n, nil
}

func convertAgent(o runtime.Object) (*agentPod, error) {
	in, ok := o.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("want a Pod, got %T", o)
	}
	p := &agentPod{ObjectMeta: identity(in), node: in.Spec.NodeName}
	for _, c := range in.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && in.DeletionTimestamp == nil {
			p.ready, p.readySince = true, c.LastTransitionTime.Time
		}
	}
	return p, nil
}

// readinessDuty keeps pods from nodes whose agent is not ready, and lets them in when it is.
type readinessDuty struct {
	op      *Operator
	log     *slog.Logger
	clients *clients
	nodes   *view[*node]
	agents  *view[*agentPod]
	queue   *queue
}

func newReadinessDuty(op *Operator, c *clients, nodes *view[*node], agents *view[*agentPod]) (*readinessDuty, error) {
	d := &readinessDuty{op: op, log: op.log.With("duty", "readiness"), clients: c, nodes: nodes, agents: agents, queue: newQueue("readiness", op.metrics)}
	if err := agents.informer.AddIndexers(cache.Indexers{"node": func(o any) ([]string, error) { return []string{o.(*agentPod).node}, nil }}); err != nil {
		return nil, err
	}
	if err := nodes.changed(func(n *node) { d.queue.Add(n.Name) }); err != nil {
		return nil, err
	}
	return d, agents.changed(func(p *agentPod) {
		if p.node != "" {
			d.queue.Add(p.node)
		}
	})
}

func (d *readinessDuty) run(ctx context.Context) { d.queue.work(ctx, d.log, d.reconcile) }

func (d *readinessDuty) reconcile(ctx context.Context, name string) error {
	n, ok := d.nodes.get(name)
	if !ok {
		return nil
	}
	pods, err := d.agents.informer.GetIndexer().ByIndex("node", name)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		// Nobody can say; and while the pod of an update is on its way nothing has changed for the others.
		return nil
	}
	ready := slices.ContainsFunc(pods, func(o any) bool { return o.(*agentPod).ready })
	if ready && d.op.config.SetNetwork {
		// First, because who waits for the taint to go may look at the condition.
		if err := d.networkUp(ctx, n); err != nil {
			return err
		}
	}
	return d.taint(ctx, n, ready)
}

// taintsFor returns the taints that a node should have.
func taintsFor(have []corev1.Taint, key string, ready, remove, set bool) []corev1.Taint {
	tainted := slices.ContainsFunc(have, func(t corev1.Taint) bool { return t.Key == key })
	switch {
	case ready && remove && tainted:
		return slices.DeleteFunc(slices.Clone(have), func(t corev1.Taint) bool { return t.Key == key })
	case !ready && set && !tainted:
		// New pods stay away; those that run there have a datapath.
		return append(slices.Clone(have), corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	return have
}

func (d *readinessDuty) taint(ctx context.Context, n *node, ready bool) error {
	c := d.op.config
	want := taintsFor(n.taints, c.TaintKey, ready, c.RemoveTaint, c.SetTaint)
	if len(want) == len(n.taints) {
		return nil
	}
	// The list of taints is one value, and others write it too: the test fails if one of them did.
	var have any = n.taints
	if len(n.taints) == 0 {
		have = nil
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/spec/taints", "value": have},
		{"op": "add", "path": "/spec/taints", "value": want},
	})
	if err != nil {
		return err
	}
	_, err = d.clients.core.Nodes().Patch(ctx, n.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: manager})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("write taints of Node %s: %w", n.Name, err)
	}
	d.log.Info("node's taint", "node", n.Name, "key", c.TaintKey, "agentReady", ready, "tainted", len(want) > len(n.taints))
	return nil
}

func (d *readinessDuty) networkUp(ctx context.Context, n *node) error {
	if n.network != nil && n.network.Status == corev1.ConditionFalse && n.network.Reason == upReason {
		return nil
	}
	now := metav1.NewTime(time.Now())
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: upReason, Message: upMessage,
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}}})
	if err != nil {
		return err
	}
	_, err = d.clients.core.Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: manager}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("write condition NetworkUnavailable of Node %s: %w", n.Name, err)
	}
	d.log.Info("node's network is up", "node", n.Name)
	return nil
}
