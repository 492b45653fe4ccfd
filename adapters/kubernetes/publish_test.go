package kubernetes

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports/porttest"
)

func theNode() cluster.Node {
	return cluster.Node{Name: "n1", Labels: map[string]string{"zone": "a"},
		Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		Routers:   []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
}

func (d given) at(path ...string) any {
	var at any = map[string]any(d)
	for _, p := range path {
		m, _ := at.(map[string]any)
		at = m[p]
	}
	return at
}

func TestPublishNodeKeepsWhatOthersWrote(t *testing.T) {
	a := server(t)
	a.apply(nodeN1)
	a.apply(`
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n1, annotations: {whose: operator's}}
spec: {ipam: {podCIDRs: [10.9.0.0/24]}}
`)
	s := a.open(Options{Node: "n1", ClusterPool: true})
	require.NoError(t, s.PublishNode(t.Context(), theNode()))
	n := a.get(manifest.KindCiliumNode, "", "n1")
	assert.Equal(t, "operator's", n.text("metadata", "annotations", "whose"))
	assert.Equal(t, []any{"10.9.0.0/24"}, n.at("spec", "ipam", "podCIDRs"))
	assert.Equal(t, []any{map[string]any{"type": "InternalIP", "ip": "192.168.0.1"}, map[string]any{"type": "CiliumInternalIP", "ip": "10.0.0.1"}},
		n.at("spec", "addresses"))
	owners := n.at("metadata", "ownerReferences").([]any)
	require.Len(t, owners, 1)
	assert.Equal(t, a.get(manifest.KindNode, "", "n1").text("metadata", "uid"), given(owners[0].(map[string]any)).text("uid"))

	require.NoError(t, s.PublishNode(t.Context(), theNode()))
	assert.Equal(t, n.text("metadata", "resourceVersion"), a.get(manifest.KindCiliumNode, "", "n1").text("metadata", "resourceVersion"),
		"the same again writes nothing")

	// Once the store has seen the Node it need not ask for it.
	config, wire := a.wired()
	s = a.open(Options{Node: "n1", Config: config})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	require.NoError(t, s.PublishNode(t.Context(), theNode()))
	assert.NotContains(t, wire.seen, "get nodes")
	assert.Equal(t, []any{"10.0.0.0/24"}, a.get(manifest.KindCiliumNode, "", "n1").at("spec", "ipam", "podCIDRs"), "its own pod ranges")
}

func theEndpoint(uid string) cluster.Endpoint {
	return cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 7, Node: "n1",
		NodeIP: netip.MustParseAddr("192.168.0.1"), IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
		Ports: []policy.NamedPort{{Name: "http", Proto: 6, Port: 8080}}, UID: uid, ContainerID: "abc"}
}

// What is published is all there, also in the server's opinion, which drops fields that it doesn't know.
func TestPublishEndpointWritesEveryField(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	uid := a.get(manifest.KindPod, "shop", "web").text("metadata", "uid")
	s := a.open(Options{Node: "n1"})
	e := theEndpoint(uid)
	var err error
	e.Identity, err = s.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	e.EnforceIngress = true
	require.NoError(t, s.PublishEndpoint(t.Context(), e))
	o := a.get(manifest.KindCiliumEndpoint, "shop", "web")
	want := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(`{
		"id": 7, "state": "ready", "encryption": {},
		"networking": {"addressing": [{"ipv4": "10.0.0.5", "ipv6": "fd00::5"}], "node": "192.168.0.1"},
		"external-identifiers": {"container-id": "abc", "k8s-namespace": "shop", "k8s-pod-name": "web", "pod-name": "shop/web", "cep-name": "shop/web"},
		"policy": {"ingress": {"enforcing": true, "state": "enforcing"}, "egress": {"enforcing": false, "state": "disabled"}},
		"named-ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
	}`), &want))
	want["identity"] = map[string]any{"id": float64(e.Identity), "labels": []any{"k8s:app=a1", "k8s:io.kubernetes.pod.namespace=shop"}}
	assert.Equal(t, want, o.at("status"))
	owners := o.at("metadata", "ownerReferences").([]any)
	assert.Equal(t, []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid}}, owners)
}

// An agent that starts again writes only what is not there.
func TestPublishEndpointThatIsThere(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	e := theEndpoint(a.get(manifest.KindPod, "shop", "web").text("metadata", "uid"))
	require.NoError(t, a.open(Options{Node: "n1"}).PublishEndpoint(t.Context(), e))
	config, wire := a.wired()
	s := a.open(Options{Node: "n1", Config: config})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	require.NoError(t, s.PublishEndpoint(t.Context(), e))
	assert.NotContains(t, wire.seen, "patch ciliumendpoints")
	e.Ports = nil
	require.NoError(t, s.PublishEndpoint(t.Context(), e))
	assert.Contains(t, wire.seen, "patch ciliumendpoints")
	assert.Nil(t, a.get(manifest.KindCiliumEndpoint, "shop", "web").at("status", "named-ports"))
	a.remove(manifest.KindCiliumEndpoint, "shop", "web")
	eventually(t, "it is written again once it is gone", func() bool {
		require.NoError(t, s.PublishEndpoint(t.Context(), e))
		return a.get(manifest.KindCiliumEndpoint, "shop", "web") != nil
	})
}

// Between the look at an endpoint and its removal it may become another node's.
func TestWithdrawLosesAgainstTheNextNode(t *testing.T) {
	a := server(t)
	config, wire := a.wired()
	s := a.open(Options{Node: "n1", Config: config})
	e := theEndpoint("")
	require.NoError(t, s.PublishEndpoint(t.Context(), e))
	var once sync.Once
	wire.lies(func(req *http.Request) *http.Response {
		if req.Method == http.MethodDelete {
			once.Do(func() {
				moved := e
				moved.Node = "n2"
				assert.NoError(t, a.open(Options{Node: "n2"}).PublishEndpoint(t.Context(), moved))
			})
		}
		return nil
	})
	require.NoError(t, s.WithdrawEndpoint(t.Context(), e.Name, "n1"))
	require.NotNil(t, a.get(manifest.KindCiliumEndpoint, "shop", "web"))
	assert.Equal(t, "n2", a.get(manifest.KindCiliumEndpoint, "shop", "web").text("metadata", "annotations", manifest.NodeAnnotation))
}

// Where a namespace is gone there is nobody to tell.
func TestPublishIntoNowhere(t *testing.T) {
	a := server(t)
	s := a.open(Options{Node: "n1"})
	e := theEndpoint("")
	e.Name.Namespace = "nowhere"
	assert.NoError(t, s.PublishEndpoint(t.Context(), e))
	assert.NoError(t, s.WithdrawEndpoint(t.Context(), e.Name, "n1"))
	a.cluster.Namespace(t, "ending")
	a.apply(`
apiVersion: v1
kind: Namespace
metadata: {name: ending}
`)
	a.do("DELETE", "/api/v1/namespaces/ending", "", nil)
	e.Name.Namespace = "ending"
	assert.NoError(t, s.PublishEndpoint(t.Context(), e))
}
