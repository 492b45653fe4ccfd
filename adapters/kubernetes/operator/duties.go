package operator

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// duty is one of the things that a leader does.
type duty struct {
	name  string
	views []cache.SharedIndexInformer // that have to be complete before it begins
	run   func(ctx context.Context)   // works until the context ends
}

func (d duty) ready() bool {
	for _, v := range d.views {
		if !v.HasSynced() {
			return false
		}
	}
	return true
}

// duties puts together what a leader does, with views of its own: they read when their duties run.
func (op *Operator) duties(c *clients) (out []duty, err error) {
	nodes, err := newView(nodeListWatch(c), nodeExample, convertNode)
	if err != nil {
		return nil, err
	}
	agentNodes, err := newView(listWatch(c.dynamic, ciliumNodes), unstructuredExample, convertCiliumNode)
	if err != nil {
		return nil, err
	}
	agents, err := newView(agentListWatch(c, op.config), podExample, convertAgent)
	if err != nil {
		return nil, err
	}
	add := func(name string, run func(context.Context), views ...cache.SharedIndexInformer) {
		out = append(out, duty{name, views, run})
	}

	nodeWork, err := newNodeDuty(op, c, nodes, agentNodes)
	if err != nil {
		return nil, err
	}
	add("nodes", nodeWork.run, nodes.informer, agentNodes.informer)
	readiness, err := newReadinessDuty(op, c, nodes, agents)
	if err != nil {
		return nil, err
	}
	add("readiness", readiness.run, nodes.informer, agents.informer)
	add("node-gc", (&nodeGC{op: op, clients: c, nodes: nodes, agentNodes: agentNodes}).run, nodes.informer, agentNodes.informer)
	add("endpoint-gc", (&endpointGC{op: op, clients: c, log: op.log.With("duty", "endpoint-gc"), nodes: nodes}).run, nodes.informer)
	if op.config.UnmanagedPods > 0 {
		add("unmanaged-pods", newUnmanagedDuty(op, c, agents).run, agents.informer)
	}
	identities, err := newIdentityGC(op, c)
	if err != nil {
		return nil, err
	}
	add("identity-gc", identities.run)

	groups, err := newView(listWatch(c.dynamic, ciliumCIDRGroups), unstructuredExample, convertGroup)
	if err != nil {
		return nil, err
	}
	for _, kind := range []schema.GroupVersionResource{ciliumPolicies, ciliumClusterPolicies} {
		policies, err := newView(listWatch(c.dynamic, kind), unstructuredExample, convertPolicy)
		if err != nil {
			return nil, err
		}
		work, err := newPolicyDuty(op, c, kind, policies, groups)
		if err != nil {
			return nil, err
		}
		add(kind.Resource, work.run, policies.informer, groups.informer)
	}

	if op.config.EndpointSlices {
		endpoints, err := newView(listWatch(c.dynamic, ciliumEndpoints), unstructuredExample, convertEndpoint)
		if err != nil {
			return nil, err
		}
		objects, err := newView(listWatch(c.dynamic, ciliumEndpointSlices), unstructuredExample, convertSlice)
		if err != nil {
			return nil, err
		}
		work, err := newSliceDuty(op, c, endpoints, objects)
		if err != nil {
			return nil, err
		}
		add("endpoint-slices", work.run, endpoints.informer, objects.informer)
	}
	return out, nil
}

// perform does all duties until the context ends. awaited is called with the names of the duties that have not
// begun yet, whenever there are fewer of them; at last with none.
func perform(ctx context.Context, duties []duty, awaited func(names []string)) {
	var all sync.WaitGroup
	defer all.Wait()
	started := map[cache.SharedIndexInformer]bool{}
	for _, d := range duties {
		for _, v := range d.views {
			if !started[v] {
				started[v] = true
				all.Go(func() { v.RunWithContext(ctx) })
			}
		}
	}
	names := make([]string, len(duties))
	for i, d := range duties {
		names[i] = d.name
	}
	awaited(names)
	var mu sync.Mutex
	for _, d := range duties {
		all.Go(func() {
			if !awaitReady(ctx, d.ready) {
				return
			}
			mu.Lock()
			names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == d.name })
			awaited(names)
			mu.Unlock()
			d.run(ctx)
		})
	}
	<-ctx.Done()
}

func awaitReady(ctx context.Context, ready func() bool) bool {
	for !ready() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return ctx.Err() == nil
}
