package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/core/manifest"
)

// pageSize is how many objects are asked for at once where a list is only looked through.
const pageSize = 500

// endpointGC removes CiliumEndpoints that nobody looks after any more: the pod is gone or has ended and its
// node's agent did not say so, or the node is gone.
//
// Lists only say whom to suspect. Before an endpoint is removed the server itself is asked for its pod or
// node, so that no list that is late or cut short costs a living pod its endpoint; and only the very version
// that the list showed is removed.
type endpointGC struct {
	op      *Operator
	clients *clients
	log     *slog.Logger
	nodes   *view[*node]
	absent  map[string]time.Time // since when endpoints' nodes have been missing
}

func (g *endpointGC) run(ctx context.Context) {
	g.absent = map[string]time.Time{}
	every(ctx, g.op.config.EndpointGC, func(ctx context.Context) {
		if err := g.collect(ctx, time.Now()); err != nil && ctx.Err() == nil {
			g.log.Warn("will try again", "error", err)
		}
	})
}

func (g *endpointGC) collect(ctx context.Context, now time.Time) error {
	// Endpoints first: a pod that comes meanwhile is in the list of pods.
	var endpoints []metav1.ObjectMeta
	err := g.each(ctx, ciliumEndpoints, "", func(m *metav1.PartialObjectMetadata) {
		e := identity(m)
		e.OwnerReferences = m.OwnerReferences
		e.Annotations = map[string]string{manifest.NodeAnnotation: m.Annotations[manifest.NodeAnnotation]}
		endpoints = append(endpoints, e)
	})
	if err != nil {
		return err
	}
	if len(endpoints) == 0 {
		return nil
	}
	pods := map[types.NamespacedName]types.UID{}
	err = g.each(ctx, corePods, "status.phase!=Succeeded,status.phase!=Failed", func(m *metav1.PartialObjectMetadata) {
		pods[types.NamespacedName{Namespace: m.Namespace, Name: m.Name}] = m.UID
	})
	if err != nil {
		return err
	}
	absent := map[string]time.Time{}
	var errs []error
	for i := range endpoints {
		if err := g.judge(ctx, &endpoints[i], pods, absent, now); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	g.absent = absent
	return errors.Join(errs...)
}

// judge removes an endpoint if it is to be.
func (g *endpointGC) judge(ctx context.Context, e *metav1.ObjectMeta, pods map[types.NamespacedName]types.UID, absent map[string]time.Time, now time.Time) error {
	owner := podOf(e)
	uid, running := pods[types.NamespacedName{Namespace: e.Namespace, Name: e.Name}]
	if !running || owner != "" && owner != uid {
		gone, why, err := g.podGone(ctx, e, owner)
		if err != nil || !gone {
			return err
		}
		return g.remove(ctx, e, why)
	}
	name := e.Annotations[manifest.NodeAnnotation]
	if _, alive := g.nodes.get(name); alive || name == "" {
		return nil
	}
	since, known := g.absent[name]
	if !known {
		since = now
	}
	absent[name] = since
	if now.Sub(since) < g.op.config.EndpointGC {
		return nil
	}
	_, err := g.clients.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return g.remove(ctx, e, "its node is gone")
	case err != nil:
		return fmt.Errorf("look for Node %s: %w", name, err)
	}
	return nil
}

// podOf is the pod that owns an endpoint; empty if the endpoint doesn't say.
func podOf(e *metav1.ObjectMeta) types.UID {
	for _, o := range e.OwnerReferences {
		if o.Kind == "Pod" && o.APIVersion == "v1" {
			return o.UID
		}
	}
	return ""
}

// podGone asks the server whether an endpoint's pod is gone.
func (g *endpointGC) podGone(ctx context.Context, e *metav1.ObjectMeta, owner types.UID) (gone bool, why string, err error) {
	p, err := g.clients.core.Pods(e.Namespace).Get(ctx, e.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, "its pod is gone", nil
	case err != nil:
		return false, "", fmt.Errorf("look for Pod %s/%s: %w", e.Namespace, e.Name, err)
	case owner != "" && p.UID != owner:
		return true, "its pod is gone; there is another one of that name", nil
	case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		return true, "its pod has ended", nil
	}
	return false, "", nil
}

func (g *endpointGC) remove(ctx context.Context, e *metav1.ObjectMeta, why string) error {
	err := g.clients.dynamic.Resource(ciliumEndpoints).Namespace(e.Namespace).Delete(ctx, e.Name, exactly(e))
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // gone already, or somebody looks after it
	case err != nil:
		g.op.metrics.endpointObjects.WithLabelValues("fail").Inc()
		return fmt.Errorf("delete CiliumEndpoint %s/%s: %w", e.Namespace, e.Name, err)
	}
	g.op.metrics.endpointObjects.WithLabelValues("success").Inc()
	g.log.Info("removed an endpoint", "endpoint", e.Namespace+"/"+e.Name, "because", why)
	return nil
}

// each looks through all objects of a kind, page by page. An error means that f did not see them all.
func (g *endpointGC) each(ctx context.Context, gvr schema.GroupVersionResource, fields string, f func(*metav1.PartialObjectMetadata)) error {
	o := metav1.ListOptions{Limit: pageSize, FieldSelector: fields}
	for {
		page, err := g.clients.metadata.Resource(gvr).List(ctx, o)
		if err != nil {
			return fmt.Errorf("list %s: %w", gvr.Resource, err)
		}
		for i := range page.Items {
			f(&page.Items[i])
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return nil
		}
	}
}
