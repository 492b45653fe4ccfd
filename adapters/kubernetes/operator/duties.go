package operator

import (
	"context"
	"sync"

	"k8s.io/client-go/tools/cache"
)

// duties puts together what a leader does, and returns with it how the views that the duties share begin
// to read.
func (op *Operator) duties(c *clients) ([]duty, func(context.Context, *sync.WaitGroup), error) {
	var views []cache.SharedIndexInformer
	var duties []duty
	nodes, err := newView(nodeListWatch(c), nodeExample, convertNode)
	if err != nil {
		return nil, nil, err
	}
	agentNodes, err := newView(listWatch(c.dynamic, ciliumNodes), unstructuredExample, convertCiliumNode)
	if err != nil {
		return nil, nil, err
	}
	agents, err := newView(agentListWatch(c, op.config), podExample, convertAgent)
	if err != nil {
		return nil, nil, err
	}
	views = append(views, nodes.informer, agentNodes.informer, agents.informer)

	ready := func(vs ...cache.SharedIndexInformer) func() bool {
		return func() bool {
			for _, v := range vs {
				if !v.HasSynced() {
					return false
				}
			}
			return true
		}
	}
	nd, err := newNodeDuty(op, c, nodes, agentNodes)
	if err != nil {
		return nil, nil, err
	}
	duties = append(duties, duty{"nodes", ready(nodes.informer, agentNodes.informer), nd.run})
	rd, err := newReadinessDuty(op, c, nodes, agents)
	if err != nil {
		return nil, nil, err
	}
	duties = append(duties, duty{"readiness", ready(nodes.informer, agents.informer), rd.run})
	gc := &nodeGC{op: op, clients: c, nodes: nodes, agentNodes: agentNodes}
	duties = append(duties, duty{"node-gc", ready(nodes.informer, agentNodes.informer), gc.run})

	return duties, func(ctx context.Context, all *sync.WaitGroup) {
		for _, v := range views {
			all.Add(1)
			go func() {
				defer all.Done()
				v.RunWithContext(ctx)
			}()
		}
	}, nil
}
