package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/core/ipam"
)

// cidrRest is how long a pod CIDR is left alone after its node has gone: connections to the pods that
// lived there are over by then. The node's CiliumNode has waited for nodes-gc-interval before that.
const cidrRest = 5 * time.Minute

// countInterval is the time between counts of nodes and pod CIDRs for the metrics.
const countInterval = 5 * time.Second

// agentNode is a CiliumNode.
type agentNode struct {
	metav1.ObjectMeta
	podCIDRs []netip.Prefix
	bad      string // what is wrong with its pod CIDRs
	failure  string // status.ipam.operator-status.error
	keep     bool   // whoever looks after it does not want it collected
}

var unstructuredExample = &unstructured.Unstructured{}

// keepAnnotation, on a CiliumNode, says that it stays although it has no Node.
const keepAnnotation = "cilium.io/do-not-gc"

func convertCiliumNode(o runtime.Object) (*agentNode, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("want a CiliumNode, got %T", o)
	}
	n := &agentNode{ObjectMeta: identity(u)}
	_, n.keep = u.GetAnnotations()[keepAnnotation]
	list, _, err := unstructured.NestedStringSlice(u.Object, "spec", "ipam", "podCIDRs")
	if err != nil {
		n.bad = err.Error()
	}
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			n.bad = fmt.Sprintf("%q is no CIDR", s)
			continue
		}
		n.podCIDRs = append(n.podCIDRs, p)
	}
	n.failure, _, _ = unstructured.NestedString(u.Object, "status", "ipam", "operator-status", "error")
	return n, nil
}

// nodeDuty makes a CiliumNode for every Node and, in mode cluster-pool, gives it pod CIDRs.
type nodeDuty struct {
	log        *slog.Logger
	clients    *clients
	nodes      *view[*node]
	agentNodes *view[*agentNode]
	queue      *queue
	metrics    *metrics

	mu   sync.Mutex        // while a node is worked on, or counted
	pool *ipam.ClusterPool // nil in other modes
}

func newNodeDuty(op *Operator, c *clients, nodes *view[*node], agentNodes *view[*agentNode]) (*nodeDuty, error) {
	d := &nodeDuty{log: op.log.With("duty", "nodes"), clients: c, nodes: nodes, agentNodes: agentNodes, queue: newQueue("nodes", op.metrics), metrics: op.metrics}
	if op.config.IPAM == IPAMClusterPool {
		var err error
		if d.pool, err = ipam.NewClusterPool(op.config.PodV4, op.config.PodV6, cidrRest); err != nil {
			return nil, err
		}
	}
	if err := nodes.changed(func(n *node) { d.queue.Add(n.Name) }); err != nil {
		return nil, err
	}
	return d, agentNodes.changed(func(n *agentNode) { d.queue.Add(n.Name) })
}

func (d *nodeDuty) run(ctx context.Context) {
	if d.pool != nil {
		// All that nodes have is known before the first of them gets anything; the oldest speak first.
		known := d.agentNodes.list()
		slices.SortFunc(known, func(a, b *agentNode) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		for _, n := range known {
			d.claim(n)
		}
	}
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		every(ctx, countInterval, d.count)
	}()
	d.queue.work(ctx, d.log, func(ctx context.Context, name string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.reconcile(ctx, name)
	})
	<-counted
}

// count brings the metrics up to date.
func (d *nodeDuty) count(context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	nodes := d.nodes.list()
	if d.pool == nil {
		d.metrics.nodes(len(nodes), 0, nil)
		return
	}
	use := d.pool.Use()
	waiting := 0
	for _, n := range nodes {
		if len(d.pool.Prefixes(n.Name)) < len(use) {
			waiting++
		}
	}
	d.metrics.nodes(len(nodes), waiting, use)
}

// claim takes over what a CiliumNode says.
func (d *nodeDuty) claim(n *agentNode) {
	denied, evicted := d.pool.Claim(n.Name, n.CreationTimestamp.Time, n.podCIDRs, time.Now())
	for _, c := range denied {
		d.log.Warn("an older node has this pod CIDR; this node gets another one", "node", n.Name, "podCIDR", c)
	}
	for _, e := range evicted {
		d.log.Warn("a pod CIDR goes to the older of two nodes that have it", "older", n.Name, "younger", e)
		d.queue.Add(e)
	}
}

func (d *nodeDuty) reconcile(ctx context.Context, name string) error {
	node, wanted := d.nodes.get(name)
	n, exists := d.agentNodes.get(name)
	switch {
	case !wanted && !exists:
		if d.pool != nil {
			d.release(name)
		}
		return nil
	case !exists:
		return d.create(ctx, node)
	}
	if d.pool == nil {
		return nil
	}
	d.claim(n)
	if !wanted {
		return nil // what it has it keeps until it is collected
	}
	return d.allocate(ctx, n)
}

func (d *nodeDuty) release(name string) {
	if had := d.pool.Release(name, time.Now()); len(had) > 0 {
		d.log.Info("pod CIDRs came back", "node", name, "podCIDRs", fmt.Sprint(had))
	}
}

// create makes the CiliumNode of a Node, with pod CIDRs if there are any left.
func (d *nodeDuty) create(ctx context.Context, n *node) error {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNode",
		"metadata": map[string]any{"name": n.Name},
		"spec":     map[string]any{"ipam": map[string]any{}},
	}}
	var full error
	if d.pool != nil {
		var got []netip.Prefix
		if got, full = d.pool.Allocate(n.Name, time.Now(), time.Now()); len(got) > 0 {
			_ = unstructured.SetNestedStringSlice(u.Object, texts(got), "spec", "ipam", "podCIDRs")
		}
	}
	_, err := d.clients.dynamic.Resource(ciliumNodes).Create(ctx, u, metav1.CreateOptions{FieldManager: manager})
	switch {
	case apierrors.IsAlreadyExists(err):
		// The view doesn't show it yet. When it does, the node comes up again.
		return nil
	case err != nil:
		return fmt.Errorf("create CiliumNode %s: %w", n.Name, err)
	}
	d.log.Info("made the CiliumNode", "node", n.Name, "podCIDRs", fmt.Sprint(d.prefixes(n.Name)))
	return full // the status is written when the view shows the new object
}

func (d *nodeDuty) prefixes(name string) []netip.Prefix {
	if d.pool == nil {
		return nil
	}
	return d.pool.Prefixes(name)
}

// allocate writes pod CIDRs into a CiliumNode, or why there are none into its status.
func (d *nodeDuty) allocate(ctx context.Context, n *agentNode) error {
	got, full := d.pool.Allocate(n.Name, n.CreationTimestamp.Time, time.Now())
	if full != nil && !errors.Is(full, ipam.ErrNoPrefix) {
		return full
	}
	if len(got) > 0 && (!sameSet(got, n.podCIDRs) || n.bad != "") {
		if n.bad != "" {
			d.log.Warn("pod CIDRs are replaced", "node", n.Name, "because", n.bad)
		}
		patch := map[string]any{"metadata": version(n), "spec": map[string]any{"ipam": map[string]any{"podCIDRs": texts(got)}}}
		if err := d.patch(ctx, n.Name, patch); err != nil {
			return fmt.Errorf("write pod CIDRs of CiliumNode %s: %w", n.Name, err)
		}
		d.log.Info("gave pod CIDRs", "node", n.Name, "podCIDRs", strings.Join(texts(got), " "))
		return full // the status follows when the view shows the new version
	}
	failure := ""
	if full != nil {
		failure = full.Error()
	}
	if failure != n.failure {
		if full != nil {
			d.log.Error("no pod CIDR for a node", "node", n.Name, "error", full)
		}
		patch := map[string]any{"metadata": version(n), "status": map[string]any{"ipam": map[string]any{"operator-status": map[string]any{"error": failure}}}}
		if err := d.patch(ctx, n.Name, patch, "status"); err != nil {
			return fmt.Errorf("write status of CiliumNode %s: %w", n.Name, err)
		}
	}
	return full
}

// patch changes a CiliumNode if it still has the version that the patch names.
func (d *nodeDuty) patch(ctx context.Context, name string, patch map[string]any, subresource ...string) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = d.clients.dynamic.Resource(ciliumNodes).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager}, subresource...)
	if apierrors.IsNotFound(err) {
		return nil // the view will tell, too
	}
	return err
}

// version makes a patch of what was read fail if it has changed since, or is another object of that name.
func version(o metav1.Object) map[string]any {
	return map[string]any{"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion()}
}

func texts(list []netip.Prefix) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return out
}

func sameSet(a, b []netip.Prefix) bool {
	less := func(x, y netip.Prefix) int { return strings.Compare(x.String(), y.String()) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), less), slices.SortedFunc(slices.Values(b), less))
}
