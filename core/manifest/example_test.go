package manifest_test

import (
	"fmt"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// In Cilium's dialect an empty rule isolates and allows nobody.
func ExampleDecode() {
	o, _ := manifest.Decode("", []byte(`{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
		"metadata": {"name": "deny", "namespace": "shop"},
		"spec": {"endpointSelector": {}, "ingress": [{}]}}`))
	p := o.Upserts()[0].(cluster.PolicyUpsert).Policy
	fmt.Println(p.Ref, "applies to", p.Specs[0].Subject)
	fmt.Println("isolates:", p.Specs[0].IsolateIngress, "peers:", len(p.Specs[0].Rules[0].Peers), "anyone:", p.Specs[0].Rules[0].AnyPeer)

	_, findings := manifest.Decode("deny.yaml", []byte(`{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
		"metadata": {"name": "deny", "namespace": "shop"},
		"spec": {"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": "70000"}]}]}]}}`))
	fmt.Println(findings[0].Field)
	// Output:
	// CiliumNetworkPolicy shop/deny applies to k8s:io.kubernetes.pod.namespace=shop
	// isolates: true peers: 0 anyone: false
	// spec.ingress[0].toPorts[0].ports[0].port
}
