package fakes_test

import (
	"fmt"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/fakes"
)

// agent is the real agent; the fakes know only ports.
func agent(node string, d fakes.Deps) fakes.Agent {
	return runtime.New(runtime.Config{Node: node, Datapath: "fake"}, runtime.Deps(d))
}

const shop = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default}
`

const guard = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
`

// Your own manifests, tried on the real agents before any cluster sees them.
func Example() {
	c, err := fakes.New(agent, fakes.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	findings, err := c.Apply(shop + "---" + guard)
	fmt.Println(findings, err)
	fmt.Println("web:     ", c.Probe("shop/web", "shop/db", 5432, "TCP"))
	fmt.Println("stranger:", c.Probe("default/stranger", "shop/db", 5432, "TCP"))
	// Output:
	// [] <nil>
	// web:      allowed (egress: no policy; ingress: NetworkPolicy shop/db ingress[0])
	// stranger: denied (egress: no policy; ingress: default deny (NetworkPolicy shop/db))
}
