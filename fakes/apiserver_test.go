package fakes_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes"
)

// An operator's pod may talk to the API server and to nobody else, a webhook may be asked by the API server and by nobody
// else, wherever the API server is: the policies follow it, also with connections that are open.
func TestPoliciesFollowTheAPIServer(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	server := func(addr string) {
		apply(t, c, fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [%s], conditions: {ready: true}}]
ports: [{name: https, port: 6443, protocol: TCP}]
`, addr))
	}
	const listens = "containers: [{name: c, ports: [{containerPort: 6443}]}]"
	outside, node2 := fakes.OutsideAddresses[0], c.Node("node2").Addresses[0]
	server(outside.String())
	apply(t, c, podOf("operator", "spec: {nodeName: node1, "+listens+"}")+podOf("webhook", "spec: {nodeName: node1, "+listens+"}")+
		podOf("other", "spec: {nodeName: node2, "+listens+"}")+podOf("two", "spec: {nodeName: node2, hostNetwork: true, "+listens+"}")+`---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: operator, namespace: a}
spec: {endpointSelector: {matchLabels: {app: operator}}, egress: [{toEntities: [kube-apiserver]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: webhook, namespace: a}
spec: {endpointSelector: {matchLabels: {app: webhook}}, ingress: [{fromEntities: [kube-apiserver]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: other, namespace: a}
spec: {endpointSelector: {matchLabels: {app: other}}, egress: [{toEntities: [world]}]}
`)
	reaches := func(from, to string) bool {
		t.Helper()
		v := c.ProbeAddr(from, c.Addr(to), 6443, "TCP")
		t.Log(v)
		return v.Allowed
	}
	pass := func(from, to string, want bool) {
		t.Helper()
		require.Equal(t, want, reaches(from, to), "%s to %s", from, to)
	}
	last := func(from string) flow.Flow {
		t.Helper()
		flows, err := c.Flows(context.Background(), flow.Query{Allow: []flow.Filter{{SourcePod: []string{from}}}})
		require.NoError(t, err)
		require.NotEmpty(t, flows)
		return flows[len(flows)-1]
	}

	pass("a/operator", fakes.Outside, true)
	f := last("a/operator")
	require.Equal(t, identity.KubeAPIServer, f.Dest.Identity, "the number that people know")
	require.Equal(t, []string{"cidr:172.30.0.1/32", "reserved:kube-apiserver", "reserved:world", "reserved:world-ipv4"}, f.Dest.Labels)
	require.Equal(t, "CiliumNetworkPolicy a/operator egress[0]", f.Egress.String())
	pass(fakes.Outside, "a/webhook", true)
	pass("a/operator", "a/two", false)
	pass("a/two", "a/webhook", false)
	pass("a/other", fakes.Outside, true) // it is a part of the world
	server(node2.String())
	require.NoError(t, c.Settle())
	pass("a/operator", fakes.Outside, false)
	pass("a/operator", "a/two", true)
	require.Equal(t, identity.KubeAPIServer, last("a/operator").Dest.Identity)
	pass(fakes.Outside, "a/webhook", false)
	pass("node2", "a/webhook", true) // by the overlay
	out, answer, _ := c.Open("a/operator", "a/two", 6443, datapath.ProtoTCP)
	require.True(t, answer.Connected, "%+v", answer)
	in, answer, _ := c.Open("node2", "a/webhook", 6443, datapath.ProtoTCP)
	require.True(t, answer.Connected, "%+v", answer)
	pass("a/other", fakes.Outside, true)

	server(c.Node("node1").Addresses[0].String())
	require.NoError(t, c.Settle())
	_, trace := out.Send("more")
	require.NotNil(t, trace.Drop(), "open connections are judged anew")
	_, trace = in.Send("more")
	require.NotNil(t, trace.Drop(), "in both directions")
	pass("a/operator", "a/two", false)
	pass("a/operator", "node1", true)
	require.Equal(t, identity.Host, last("a/operator").Dest.Identity)
	pass("node2", "a/webhook", false)

	// An agent that restarts finds it again.
	require.NoError(t, c.KillAgent("node1"))
	server(outside.String())
	require.NoError(t, c.StartAgent("node1"))
	require.NoError(t, c.Settle())
	pass("a/operator", fakes.Outside, true)
	pass("a/operator", "node1", false)
	_, err := c.Delete("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubernetes, namespace: default}}")
	require.NoError(t, err)
	require.NoError(t, c.Settle())
	pass("a/operator", fakes.Outside, false)
	pass(fakes.Outside, "a/webhook", false)
	pass("a/other", fakes.Outside, true)
}
