package fakes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Settle waits until every running agent has taken in everything that the cluster told it, has written
// all of it to its kernel, and has published its endpoints with the identity of their pods' labels. It
// waits at most Options.Patience and says then what is missing.
func (c *Cluster) Settle() error { return c.settle(context.Background()) }

func (c *Cluster) settle(ctx context.Context) error {
	if err := c.await(ctx, c.unsettled); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// pause bounds how long await goes without looking: retries of failed writes wake nobody.
const pause = time.Millisecond

// await waits until nothing is missing.
func (c *Cluster) await(ctx context.Context, missing func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Patience)
	defer cancel()
	last := ""
	for {
		what, err := missing(ctx)
		if ctx.Err() == nil {
			if err != nil {
				return err
			}
			if what == "" {
				return nil
			}
			last = what
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", last, ctx.Err())
		case <-c.poked:
		case <-time.After(pause):
		}
	}
}

// unsettled names something that is not settled.
func (c *Cluster) unsettled(ctx context.Context) (string, error) {
	changes := c.store.Changes()
	w := c.world()
	for _, n := range c.nodes {
		a := n.Agent()
		if a == nil {
			continue
		}
		if what, err := w.unsettled(ctx, n, a); err != nil || what != "" {
			return fmt.Sprintf("node %s: %s", n.Name, what), err
		}
	}
	if c.store.Changes() != changes {
		return "the cluster changes", nil
	}
	return "", nil
}

// world is what the cluster's objects say.
type world struct {
	pods       map[cluster.Name]cluster.Pod
	namespaces map[string]cluster.Namespace
	endpoints  map[cluster.Name]cluster.Endpoint
}

func (c *Cluster) world() world {
	w := world{
		pods: map[cluster.Name]cluster.Pod{}, namespaces: map[string]cluster.Namespace{},
		endpoints: map[cluster.Name]cluster.Endpoint{},
	}
	for _, e := range c.store.Snapshot() {
		switch e := e.(type) {
		case cluster.PodUpsert:
			w.pods[e.Pod.Name] = e.Pod
		case cluster.NamespaceUpsert:
			w.namespaces[e.Namespace.Name] = e.Namespace
		case cluster.EndpointUpsert:
			w.endpoints[e.Endpoint.Name] = e.Endpoint
		}
	}
	return w
}

func (w world) unsettled(ctx context.Context, n *Node, a Agent) (string, error) {
	if !n.Source.Idle() {
		return "events of the cluster are on their way", nil
	}
	if err := a.Ready(ctx); err != nil {
		return err.Error(), nil
	}
	list, err := a.Endpoints(ctx)
	if err != nil {
		return err.Error(), nil
	}
	for _, e := range list {
		if what := w.unpublished(n, e); what != "" {
			return fmt.Sprintf("pod %s: %s", e.Pod, what), nil
		}
	}
	for name, e := range w.endpoints {
		if e.Node == n.Name && !slices.ContainsFunc(list, func(i ports.EndpointInfo) bool { return i.Pod == name }) {
			return fmt.Sprintf("pod %s is gone, its endpoint still published", name), nil
		}
	}
	s, err := a.Status(ctx)
	if err != nil {
		return err.Error(), nil
	}
	for _, t := range s.Tables {
		if t.Pending > 0 {
			return fmt.Sprintf("table %s has %d rows to write: %s", t.Name, t.Pending, t.Error), nil
		}
	}
	return "", nil
}

// unpublished says what an endpoint lacks.
func (w world) unpublished(n *Node, e ports.EndpointInfo) string {
	if e.State != "ready" {
		return "its endpoint is " + e.State
	}
	pod, known := w.pods[e.Pod]
	if known && !slices.Equal(e.Labels, cluster.PodLabels(pod, w.namespaces[e.Pod.Namespace]).Strings()) {
		return fmt.Sprintf("its endpoint still has the labels %s", e.Labels)
	}
	pub, ok := w.endpoints[e.Pod]
	if !ok || pub.Node != n.Name || pub.Identity != e.Identity || !slices.Equal(pub.IPs, e.IPs) {
		return fmt.Sprintf("its endpoint is not published with identity %s", e.Identity)
	}
	return ""
}
