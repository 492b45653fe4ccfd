package operator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// unmanagedAge is how long a pod, and the agent of its node, are left to themselves: the agent publishes the
	// endpoints that it has.
	unmanagedAge = 30 * time.Second
	// unmanagedOverlap is how long after its agent became ready a pod may have been made and still have started
	// without it: the kubelet looks at CNI's configuration every few seconds.
	unmanagedOverlap = 30 * time.Second
)

// unmanagedDuty makes pods anew that run without a CiliumEndpoint because they are older than the network: those
// of the cluster's DNS, which others wait for. One goes at a time, and only one that somebody makes anew.
//
// A pod that was made while the agent of its node was ready is left alone: a new one would fare no better.
type unmanagedDuty struct {
	op      *Operator
	log     *slog.Logger
	clients *clients
	agents  *view[*agentPod]
	managed map[types.UID]bool   // pods that have an endpoint
	told    map[types.UID]string // why pods without one are left alone
}

func newUnmanagedDuty(op *Operator, c *clients, agents *view[*agentPod]) *unmanagedDuty {
	return &unmanagedDuty{op: op, log: op.log.With("duty", "unmanaged-pods"), clients: c, agents: agents, managed: map[types.UID]bool{}, told: map[types.UID]string{}}
}

func (d *unmanagedDuty) run(ctx context.Context) {
	every(ctx, d.op.config.UnmanagedPods, func(ctx context.Context) {
		if err := d.search(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Warn("will try again", "error", err)
		}
	})
}

// search looks for pods without an endpoint, and restarts the first that may be.
func (d *unmanagedDuty) search(ctx context.Context, now time.Time) error {
	list, err := d.clients.core.Pods("").List(ctx, metav1.ListOptions{LabelSelector: d.op.config.UnmanagedSelector, FieldSelector: "status.phase=Running"})
	if err != nil {
		return fmt.Errorf("list Pods %s: %w", d.op.config.UnmanagedSelector, err)
	}
	managed, told := map[types.UID]bool{}, map[types.UID]string{}
	var alone []*corev1.Pod
	for i := range list.Items {
		p := &list.Items[i]
		if p.Spec.HostNetwork || p.DeletionTimestamp != nil {
			continue
		}
		has := d.managed[p.UID]
		if !has {
			if has, err = d.hasEndpoint(ctx, p); err != nil {
				return err
			}
		}
		if managed[p.UID] = has; !has {
			alone = append(alone, p)
		}
	}
	d.managed = managed
	d.op.metrics.unmanaged.Set(float64(len(alone)))
	defer func() { d.told = told }()
	for i, p := range alone {
		why := d.stays(p, now)
		if why == "" {
			for _, later := range alone[i+1:] {
				told[later.UID] = d.told[later.UID]
			}
			return d.restart(ctx, p)
		}
		if d.told[p.UID] != why {
			d.log.Info("a pod has no endpoint and is left alone", "pod", p.Namespace+"/"+p.Name, "node", p.Spec.NodeName, "because", why)
		}
		told[p.UID] = why
	}
	return nil
}

// hasEndpoint asks the server whether a pod has a CiliumEndpoint of its own.
func (d *unmanagedDuty) hasEndpoint(ctx context.Context, p *corev1.Pod) (bool, error) {
	e, err := d.clients.metadata.Resource(ciliumEndpoints).Namespace(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for CiliumEndpoint %s/%s: %w", p.Namespace, p.Name, err)
	}
	owner := podOf(&e.ObjectMeta)
	return owner == "" || owner == p.UID, nil
}

// stays says why a pod without an endpoint is left alone; empty if it is to be made anew.
func (d *unmanagedDuty) stays(p *corev1.Pod, now time.Time) string {
	if metav1.GetControllerOf(p) == nil {
		return "nobody would make it anew"
	}
	if now.Sub(p.CreationTimestamp.Time) < unmanagedAge {
		return "it is young"
	}
	var agent *agentPod
	for _, a := range d.agents.list() {
		if a.node == p.Spec.NodeName && a.ready {
			agent = a
		}
	}
	switch {
	case agent == nil:
		return "the agent of its node is not ready"
	case now.Sub(agent.readySince) < unmanagedAge:
		return "the agent of its node has just become ready"
	case p.CreationTimestamp.Sub(agent.readySince) > unmanagedOverlap:
		return "it was made while the agent of its node was ready: another CNI plugin may have served it; look at /etc/cni/net.d"
	}
	return ""
}

// restart deletes a pod as it was seen, so that its owner makes it anew.
func (d *unmanagedDuty) restart(ctx context.Context, p *corev1.Pod) error {
	uid, version := p.UID, p.ResourceVersion
	err := d.clients.core.Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // it went, or has changed: the next search sees it
	case err != nil:
		return fmt.Errorf("restart unmanaged Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	d.op.metrics.unmanagedRestarts.Inc()
	d.log.Info("restarted a pod that is older than the network", "pod", p.Namespace+"/"+p.Name, "node", p.Spec.NodeName)
	return nil
}
