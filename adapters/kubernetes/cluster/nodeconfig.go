package cluster

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weirnet/weir/adapters/kubernetes/nodeconfig"
	"github.com/weirnet/weir/core/config"
)

// NodeConfig is a CiliumNodeConfig, and the nodes that it selects.
type NodeConfig struct {
	config.Overlay
	Nodes   []string // by name
	Problem string   // why it selects none
}

// NodeConfigs lists the CiliumNodeConfigs of a namespace, by name; none where the kind is not defined. An empty
// namespace is that of the agents.
func (c *Cluster) NodeConfigs(ctx context.Context, namespace string) ([]NodeConfig, error) {
	if namespace == "" {
		namespace = c.namespace
	}
	client, err := nodeconfig.New(c.config, "", namespace)
	if err != nil {
		return nil, err
	}
	objects, err := client.List(ctx)
	if err != nil || len(objects) == 0 {
		return nil, err
	}
	nodes, err := c.metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	var out []NodeConfig
	for _, o := range objects {
		n := NodeConfig{Overlay: config.Overlay{Name: o.Namespace + "/" + o.Name, Values: o.Spec.Defaults}}
		for _, node := range nodes.Items {
			yes, err := nodeconfig.Selects(&o, node.Labels)
			if err != nil {
				n.Problem = err.Error()
			}
			if yes {
				n.Nodes = append(n.Nodes, node.Name)
			}
		}
		slices.Sort(n.Nodes)
		out = append(out, n)
	}
	return out, nil
}
