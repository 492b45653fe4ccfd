package cluster_test

import (
	"context"
	"fmt"

	"github.com/weirnet/weir/core/cluster"
	fake "github.com/weirnet/weir/fakes/cluster"
)

// A node sees what users apply and what other nodes publish, in an order that is safe to apply.
func Example() {
	c := fake.New()
	for _, f := range c.Apply([]byte(`
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec: {podSelector: {}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 70000}]}]}
`)) {
		fmt.Println("finding:", f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err := c.Node("n1").Watch(ctx, func(e cluster.Event) {
		switch e := e.(type) {
		case cluster.PolicyUpsert:
			fmt.Println("policy", e.Policy.Ref)
		case cluster.PodUpsert:
			fmt.Println("pod", e.Pod.Name)
		case cluster.Synced:
			fmt.Println("synced")
			cancel()
		}
	})
	fmt.Println(err)
	// Output:
	// finding: NetworkPolicy shop/broken: spec.ingress[0].ports[0].port: 70000 is out of range; allowed: 1 to 65535
	// policy NetworkPolicy shop/deny-all
	// pod shop/web
	// synced
	// <nil>
}
