package operator

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nodeGC removes the CiliumNodes of Nodes that are gone and stay away. One that comes back within the
// interval finds its pod CIDRs again.
type nodeGC struct {
	op         *Operator
	clients    *clients
	nodes      *view[*node]
	agentNodes *view[*agentNode]
	missing    map[types.UID]time.Time // since when a CiliumNode has been seen without its Node
}

func (g *nodeGC) run(ctx context.Context) {
	g.missing = map[types.UID]time.Time{}
	// Looked at more often than the interval, so that a node is not kept for two of them.
	interval := g.op.config.NodeGC
	every(ctx, interval/2, func(ctx context.Context) { g.collect(ctx, time.Now()) })
}

func (g *nodeGC) collect(ctx context.Context, now time.Time) {
	orphans := map[types.UID]time.Time{}
	for _, n := range g.agentNodes.list() {
		if _, alive := g.nodes.get(n.Name); alive || n.keep {
			continue
		}
		since, known := g.missing[n.UID]
		if !known {
			since = now
		}
		orphans[n.UID] = since
		if now.Sub(since) < g.op.config.NodeGC {
			continue
		}
		if err := g.remove(ctx, n); err != nil {
			g.op.log.Warn("will try again", "duty", "node-gc", "error", err)
			continue
		}
	}
	g.missing = orphans
}

// remove deletes a CiliumNode after asking once more, of the server itself, for its Node.
func (g *nodeGC) remove(ctx context.Context, n *agentNode) error {
	_, err := g.clients.core.Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("look for Node %s: %w", n.Name, err)
	}
	err = g.clients.dynamic.Resource(ciliumNodes).Delete(ctx, n.Name, exactly(n))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete CiliumNode %s: %w", n.Name, err)
	}
	g.op.log.Info("removed the CiliumNode of a Node that is gone", "node", n.Name)
	return nil
}

// exactly makes a deletion fail if the object has changed since it was read, or is another one.
func exactly(o metav1.Object) metav1.DeleteOptions {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}}
}
