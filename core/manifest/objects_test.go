package manifest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func decodeOne(t *testing.T, doc string) Object {
	t.Helper()
	o, findings := Decode("", []byte(doc))
	require.True(t, o.Valid(), "%v", findings)
	return o
}

func upsertOf[T cluster.Event](t *testing.T, doc string) T {
	t.Helper()
	up := decodeOne(t, doc).Upserts()
	require.Len(t, up, 1)
	e, ok := up[0].(T)
	require.True(t, ok, "%T", up[0])
	return e
}

func TestNode(t *testing.T) {
	n := upsertOf[cluster.NodeUpsert](t, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"zone":"a"}},
		"spec":{"podCIDR":"10.9.0.0/24","podCIDRs":["10.0.0.0/24","fd00::/64","10.1.0.0/24"]},
		"status":{"addresses":[{"type":"Hostname","address":"n1"},{"type":"ExternalIP","address":"1.2.3.4"},{"type":"InternalIP","address":"192.168.0.1"},{"type":"InternalIP","address":"fd01::1"}]}}`).Node
	assert.Equal(t, cluster.Node{Name: "n1", Labels: map[string]string{"zone": "a"},
		Addresses: []netip.Addr{ip("192.168.0.1"), ip("fd01::1"), ip("1.2.3.4")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}}, n)
	n = upsertOf[cluster.NodeUpsert](t, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"spec":{"podCIDR":"10.9.0.0/24"}}`).Node
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}, n.PodCIDRs)
}

func TestNamespaceAlwaysHasItsNameLabel(t *testing.T) {
	ns := upsertOf[cluster.NamespaceUpsert](t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"a":"b","kubernetes.io/metadata.name":"else"}}}`).Namespace
	assert.Equal(t, map[string]string{"a": "b", "kubernetes.io/metadata.name": "shop"}, ns.Labels)
}

func TestPod(t *testing.T) {
	p := upsertOf[cluster.PodUpsert](t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","uid":"u1","labels":{"app":"web"},"annotations":{"x":"y"}},
		"spec":{"nodeName":"n1","serviceAccountName":"sa","containers":[{"name":"a","ports":[{"name":"http","containerPort":8080},{"containerPort":53,"protocol":"UDP"}]}],
		"initContainers":[{"name":"once","ports":[{"containerPort":1}]},{"name":"side","restartPolicy":"Always","ports":[{"name":"m","containerPort":9}]}]},
		"status":{"podIP":"10.0.0.9","podIPs":[{"ip":"10.0.0.5"},{"ip":"fd00::5"}],"conditions":[{"type":"Initialized","status":"False"}]}}`).Pod
	assert.Equal(t, cluster.Pod{Name: cluster.Name{Namespace: "default", Name: "web"}, UID: "u1", Labels: map[string]string{"app": "web"},
		Annotations: map[string]string{"x": "y"}, ServiceAccount: "sa", Node: "n1", IPs: []netip.Addr{ip("10.0.0.5"), ip("fd00::5")},
		Ports: []policy.NamedPort{{Name: "http", Proto: 6, Port: 8080}, {Proto: 17, Port: 53}, {Name: "m", Proto: 6, Port: 9}}, Ready: true}, p)

	states := map[string]cluster.Pod{
		`"metadata":{"name":"p"},"status":{"podIP":"10.0.0.1","phase":"Running","conditions":[{"type":"Ready","status":"False"}]}`: {IPs: []netip.Addr{ip("10.0.0.1")}},
		`"metadata":{"name":"p"},"status":{"conditions":[{"type":"Ready","status":"True"}]}`:                                       {Ready: true},
		`"metadata":{"name":"p"},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}`:                                    {},
		`"metadata":{"name":"p"},"status":{"phase":"Succeeded"}`:                                                                   {Finished: true},
		`"metadata":{"name":"p"},"status":{"phase":"Failed","conditions":[{"type":"Ready","status":"True"}]}`:                      {Finished: true},
		`"metadata":{"name":"p","deletionTimestamp":"2026-01-01T00:00:00Z"}`:                                                       {Ready: true, Terminating: true},
		`"metadata":{"name":"p"},"spec":{"hostNetwork":true},"status":{"hostIP":"192.168.0.1"}`:                                    {Ready: true, HostNetwork: true, IPs: []netip.Addr{ip("192.168.0.1")}},
	}
	for doc, want := range states {
		got := upsertOf[cluster.PodUpsert](t, `{"apiVersion":"v1","kind":"Pod",`+doc+`}`).Pod
		assert.Equal(t, [3]bool{want.Ready, want.Terminating, want.Finished}, [3]bool{got.Ready, got.Terminating, got.Finished}, doc)
		assert.Equal(t, want.IPs, got.IPs, doc)
		assert.Equal(t, want.HostNetwork, got.HostNetwork, doc)
	}
}

func TestPodCannotTakeTheClustersLabels(t *testing.T) {
	o, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b","io.kubernetes.pod.namespace":"kube-system","io.cilium.k8s.namespace.labels.team":"admins"}}}`))
	assert.Equal(t, map[string]string{"a": "b"}, o.Upserts()[0].(cluster.PodUpsert).Pod.Labels)
	require.Len(t, findings, 2)
	assert.True(t, findings[0].Warning && findings[1].Warning)
}

func TestService(t *testing.T) {
	o, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","annotations":{"service.cilium.io/lb-algorithm":"maglev"}},
		"spec":{"type":"LoadBalancer","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],"externalIPs":["1.1.1.1"],"sessionAffinity":"ClientIP",
		"ports":[{"name":"http","port":80,"targetPort":"web","nodePort":30080},{"name":"dns","port":53,"protocol":"UDP"}]},
		"status":{"loadBalancer":{"ingress":[{"ip":"2.2.2.2"},{"hostname":"x"}]}}}`))
	require.True(t, o.Valid(), "%v", findings)
	assert.Empty(t, findings)
	s := o.Upserts()[0].(cluster.ServiceUpsert).Service
	assert.Equal(t, lb.Name{Namespace: "shop", Name: "web"}, s.Name)
	assert.Equal(t, lb.Maglev, s.Algorithm)
	assert.Equal(t, 3*time.Hour, s.Affinity)
	var got []string
	for _, f := range s.Frontends {
		got = append(got, string(f.Type)+" "+netip.AddrPortFrom(f.Addr, f.Port).String()+" "+f.PortName)
		assert.Equal(t, map[string]uint8{"http": 6, "dns": 17}[f.PortName], f.Proto)
	}
	assert.Equal(t, []string{"ClusterIP 10.96.0.1:80 http", "ClusterIP 10.96.0.1:53 dns", "ClusterIP [fd00::1]:80 http", "ClusterIP [fd00::1]:53 dns",
		"ExternalIPs 1.1.1.1:80 http", "ExternalIPs 1.1.1.1:53 dns", "LoadBalancer 2.2.2.2:80 http", "LoadBalancer 2.2.2.2:53 dns",
		"NodePort 0.0.0.0:30080 http", "NodePort [::]:30080 http"}, got)
	assert.False(t, s.ExternalLocal || s.InternalLocal)

	for doc, count := range map[string]int{
		`{"clusterIP":"None","ports":[{"port":80}]}`:                                   0,
		`{"type":"ExternalName","externalName":"x.y","ports":[{"port":80}]}`:           0,
		`{"ports":[{"port":80}]}`:                                                      0,
		`{"clusterIPs":["None"],"ports":[{"port":80}]}`:                                0,
		`{"clusterIP":"10.0.0.1","ports":[{"port":80},{"port":81,"protocol":"SCTP"}]}`: 2,
	} {
		s := upsertOf[cluster.ServiceUpsert](t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":`+doc+`}`).Service
		assert.Len(t, s.Frontends, count, doc)
		assert.Zero(t, s.Affinity)
		assert.Equal(t, lb.Random, s.Algorithm)
	}
	timed := upsertOf[cluster.ServiceUpsert](t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}}}}`).Service
	assert.Equal(t, time.Minute, timed.Affinity)
}

func TestEndpointSliceHints(t *testing.T) {
	s := upsertOf[cluster.BackendsUpsert](t, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-x","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},
		"addressType":"IPv4","ports":[{"port":80}],"endpoints":[
		{"addresses":["10.0.0.1"],"hints":{"forZones":[{"name":"zb"},{"name":"za"}],"forNodes":[{"name":"n1"}]}},
		{"addresses":["10.0.0.2"],"hints":{}},{"addresses":["10.0.0.3"]}]}`).Slice
	require.Len(t, s.Backends, 3)
	assert.Equal(t, lb.NewHints("za", "zb"), s.Backends[0].ForZones)
	assert.Equal(t, lb.NewHints("n1"), s.Backends[0].ForNodes)
	for _, b := range s.Backends[1:] {
		assert.Zero(t, b.ForZones)
		assert.Zero(t, b.ForNodes)
	}
}

func TestEndpointSlice(t *testing.T) {
	s := upsertOf[cluster.BackendsUpsert](t, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-x","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},
		"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"},{"name":"","port":53,"protocol":"UDP"}],
		"endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n1"},{"addresses":["10.0.0.2"],"conditions":{"ready":false}},
		{"addresses":["10.0.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}},{"addresses":["10.0.0.4"],"conditions":{"ready":false,"serving":false,"terminating":true}},
		{"addresses":["10.0.0.5"],"conditions":{"ready":true,"serving":null}},
		{"addresses":["10.0.0.6"],"conditions":{"ready":true,"serving":false,"terminating":true}},
		{"addresses":["10.0.0.7"],"conditions":{"ready":false,"terminating":true}},{"addresses":["10.0.0.8"],"conditions":{"ready":false,"serving":true}}]}`).Slice
	assert.Equal(t, lb.Name{Namespace: "shop", Name: "web"}, s.Service)
	assert.Equal(t, "web-x", s.Name)
	assert.Equal(t, []lb.Backend{
		{Addr: ip("10.0.0.1"), Port: 8080, Proto: 6, PortName: "http", Node: "n1", Weight: 1},
		{Addr: ip("10.0.0.1"), Port: 53, Proto: 17, Node: "n1", Weight: 1},
		{Addr: ip("10.0.0.3"), Port: 8080, Proto: 6, PortName: "http", Weight: 1, State: lb.Terminating},
		{Addr: ip("10.0.0.3"), Port: 53, Proto: 17, Weight: 1, State: lb.Terminating},
		{Addr: ip("10.0.0.5"), Port: 8080, Proto: 6, PortName: "http", Weight: 1},
		{Addr: ip("10.0.0.5"), Port: 53, Proto: 17, Weight: 1},
		{Addr: ip("10.0.0.6"), Port: 8080, Proto: 6, PortName: "http", Weight: 1},
		{Addr: ip("10.0.0.6"), Port: 53, Proto: 17, Weight: 1},
	}, s.Backends)
}

// What agents write comes back as it was.
func TestEncodeRoundTrip(t *testing.T) {
	node := cluster.Node{Name: "n1", Labels: map[string]string{"zone": "a"}, Addresses: []netip.Addr{ip("192.168.0.1"), ip("fd01::1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Routers: []netip.Addr{ip("10.0.0.1")}}
	doc, err := EncodeNode(node)
	require.NoError(t, err)
	assert.Equal(t, node, upsertOf[cluster.NodeUpsert](t, string(doc)).Node)
	assert.Contains(t, string(doc), `"type": "CiliumInternalIP"`)

	ls := labels.NewSet(labels.Label{Source: "k8s", Key: "app", Value: "web"},
		labels.Label{Source: "k8s", Key: labels.KeyNamespacePrefix + strings.Repeat("x", 63), Value: "1"}, labels.Label{Source: "k8s", Key: "empty"})
	doc, err = EncodeIdentity(4711, ls)
	require.NoError(t, err)
	id := upsertOf[cluster.IdentityUpsert](t, string(doc))
	assert.Equal(t, cluster.IdentityUpsert{ID: 4711, Labels: ls}, id)
	assert.Contains(t, string(doc), `"security-labels": {`)

	ep := cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: "web"}, ID: 17, Identity: 4711, IPs: []netip.Addr{ip("10.0.0.5"), ip("fd00::5"), ip("10.0.0.6")},
		Node: "n1", NodeIP: ip("192.168.0.1"), Ports: []policy.NamedPort{{Name: "http", Proto: 6, Port: 80}}}
	doc, err = EncodeEndpoint(ep, ls)
	require.NoError(t, err)
	assert.Equal(t, ep, upsertOf[cluster.EndpointUpsert](t, string(doc)).Endpoint)
	assert.Contains(t, string(doc), `"k8s:app=web"`)
	assert.Contains(t, string(doc), `"named-ports"`)
	assert.NotContains(t, string(doc), `"ownerReferences"`)

	known := ep
	known.UID, known.ContainerID = "u-1", "c-1"
	doc, err = EncodeEndpoint(known, ls)
	require.NoError(t, err)
	assert.Contains(t, string(doc), `"uid": "u-1"`)
	assert.Contains(t, string(doc), `"container-id": "c-1"`)
	assert.Equal(t, ep, upsertOf[cluster.EndpointUpsert](t, string(doc)).Endpoint, "who reads it needs neither")

	for _, bad := range []cluster.Endpoint{{}, {Name: cluster.Name{Namespace: "../x", Name: "a"}}, {Name: cluster.Name{Namespace: "a", Name: "../x"}}} {
		_, err = EncodeEndpoint(bad, labels.Set{})
		assert.Error(t, err)
	}
	_, err = EncodeNode(cluster.Node{Name: "a/b"})
	assert.Error(t, err)
	_, err = EncodeIdentity(1, ls)
	assert.Error(t, err)
	_, err = EncodeIdentity(300, labels.Set{})
	assert.Error(t, err)
	_, err = EncodeIdentity(300, labels.NewSet(labels.Label{Source: "reserved", Key: "host"}))
	assert.Error(t, err)
}

func TestRefusedAndIgnored(t *testing.T) {
	cases := []struct {
		name, doc string
		key       Key
		findings  []string
	}{
		{"not JSON", `{`, Key{}, []string{": not valid JSON"}},
		{"not an object", `[]`, Key{}, []string{": want an object, got a list"}},
		{"a key twice", `{"apiVersion":"v1","kind":"Pod","spec":{"a":[{"x":1,"x":2}]}}`, Key{}, []string{": not valid JSON: key spec.a[0].x stands twice"}},
		{"two values", `{} {}`, Key{}, []string{": not valid JSON"}},
		{"no kind", `{"apiVersion":"v1"}`, Key{}, []string{"kind: missing"}},
		{"no name", `{"apiVersion":"v1","kind":"Pod","metadata":{}}`, Key{}, []string{"metadata.name: missing"}},
		{"no metadata", `{"apiVersion":"v1","kind":"Pod"}`, Key{}, []string{"metadata: missing"}},
		{"bad name", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"A_b"}}`, Key{}, []string{`metadata.name: "A_b" is not a name`}},
		{"bad namespace", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"a.b"}}`, Key{}, []string{`metadata.namespace: "a.b" is not a namespace`}},
		{"other kind", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"}}`, Key{}, []string{"warning: : ignored: weir does not look at kind Deployment of apps/v1"}},
		{"other group's kind of the same name", `{"apiVersion":"crd.projectcalico.org/v1","kind":"NetworkPolicy","metadata":{"name":"d"}}`, Key{}, []string{"warning: : ignored"}},
		{"old version", `{"apiVersion":"extensions/v1beta1","kind":"NetworkPolicy","metadata":{"name":"d"}}`, Key{KindNetworkPolicy, "default", "d"},
			[]string{`apiVersion: "extensions/v1beta1" is not served for kind NetworkPolicy; want "networking.k8s.io/v1"`}},
		{"pod: bad address and ports", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"ports":[{"containerPort":70000},{"name":"x"},{"containerPort":1,"protocol":"ICMP"}]}]},"status":{"podIP":"10.0.0"}}`,
			Key{KindPod, "default", "a"}, []string{"spec.containers[0].ports[0].containerPort: 70000 is out of range; allowed: 1 to 65535", "spec.containers[0].ports[1].containerPort: missing",
				`spec.containers[0].ports[2].protocol: unknown protocol "ICMP"; allowed: TCP, UDP, SCTP`, `status.podIP: "10.0.0" is not an IP address`}},
		{"service: bad everything", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"Magic","clusterIP":"x","sessionAffinity":"Cookie","ports":[{"port":0,"targetPort":"1-"}]}}`,
			Key{KindService, "default", "a"}, []string{`spec.type: unknown type "Magic"`, `spec.sessionAffinity: unknown affinity "Cookie"`, "spec.ports[0].port: 0 is out of range",
				`spec.ports[0].targetPort: "1-" is not a port`, `spec.clusterIP: "x" is not an IP address`}},
		{"slice without a service", `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a"},"addressType":"IPv6","ports":[{"port":1}],"endpoints":[{"addresses":["10.0.0.1"]}]}`,
			Key{KindEndpointSlice, "default", "a"}, []string{`metadata.labels["kubernetes.io/service-name"]: missing`, "endpoints[0].addresses[0]: 10.0.0.1 is not an IPv6 address"}},
		{"identity: bad number", `{"apiVersion":"cilium.io/v2","kind":"CiliumIdentity","metadata":{"name":"7"},"security-labels":{"app":"x"}}`,
			Key{KindCiliumIdentity, "", "7"}, []string{`metadata.name: "7" is not the number of a cluster identity; allowed: 256 to 65535`, `security-labels: "app" is not a security label`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o, findings := Decode("f", []byte(c.doc))
			assert.False(t, o.Valid())
			assert.Equal(t, c.key, o.Key)
			got := renderFindings(findings)
			require.Len(t, got, len(c.findings), "%s", strings.Join(got, "\n"))
			for i := range got {
				assert.Truef(t, strings.HasPrefix(got[i], c.findings[i]), "%s\nwant the beginning\n%s", got[i], c.findings[i])
			}
		})
	}
}

func TestItems(t *testing.T) {
	items, err := Items([]byte(`{"kind":"List","items":[{"kind":"A"},{"kind":"List","items":[{"kind":"B"}]},{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"c"}}]}]}`))
	require.NoError(t, err)
	require.Len(t, items, 3)
	assert.JSONEq(t, `{"kind":"B"}`, string(items[1]))
	assert.JSONEq(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}`, string(items[2]))
	items, err = Items([]byte(`{"kind":"Pod"}`))
	require.NoError(t, err)
	assert.Len(t, items, 1)
	_, err = Items([]byte(`{"kind":"PodList","items":[5]}`))
	assert.ErrorContains(t, err, "items[0]")
}

// Whatever the input, Decode answers, and refuses exactly if it says so.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(networkPolicy(`{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,"endPort":90}]}]}`)))
	f.Add([]byte(ciliumPolicy(`{"endpointSelector":{"matchLabels":{"k8s:a":"b"}},"ingress":[{"fromEntities":["world"],"toPorts":[{"ports":[{"port":"80"}]}]}],"egressDeny":[{"toCIDR":["::/0"],"icmps":[{"fields":[{"type":"EchoReply"}]}]}]}`)))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":1,"targetPort":"x"}]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"ports":[{"containerPort":1}]}]},"status":{"podIP":"::1"}}`))
	f.Add([]byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":"a"},"status":{"id":1,"networking":{"addressing":[{"ipv4":"1.2.3.4"}]}}}`))
	f.Add([]byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumIdentity","metadata":{"name":"256"},"security-labels":{"k8s:a":"b"}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"spec":{"podCIDRs":["10.0.0.0/24","fd00::/64"]},"status":{"addresses":[{"type":"InternalIP","address":"192.168.0.1"}]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"team":"a"}}}`))
	f.Add([]byte(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a-1","namespace":"shop","labels":{"kubernetes.io/service-name":"a"}},"addressType":"IPv4","ports":[{"name":"x","port":1,"protocol":"TCP"}],"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false,"serving":true,"terminating":true}}]}`))
	f.Add([]byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"a"},"specs":[{"endpointSelector":{},"egress":[{"toEndpoints":[{}],"toPorts":[{"ports":[{"port":"http","protocol":"ANY"}]}]}]}]}`))
	f.Add([]byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":"n1"},"spec":{"addresses":[{"type":"InternalIP","ip":"192.168.0.1"}],"ipam":{"podCIDRs":["10.0.0.0/24"]}}}`))
	f.Add([]byte(`{"apiVersion":"cilium.io/v2alpha1","kind":"CiliumEndpointSlice","metadata":{"name":"ces-1"},"namespace":"shop","endpoints":[{"name":"a","id":300,"networking":{"addressing":[{"ipv4":"1.2.3.4"}],"node":"192.0.2.1"}}]}`))
	f.Add([]byte(tierPolicy(`,"subject":{"namespaces":{}},"egress":[{"action":"Pass","to":[{"nodes":{}},{"networks":["::/0"]}],"protocols":[{"tcp":{"destinationPort":{"range":{"start":1,"end":2}}}}]}]`)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		o, findings := Decode("f", doc)
		refused := false
		for _, x := range findings {
			refused = refused || !x.Warning
			if x.Message == "" || x.File != "f" {
				t.Fatalf("finding %+v", x)
			}
		}
		if o.Valid() == refused && o.Known() {
			t.Fatalf("valid %v, findings %v", o.Valid(), findings)
		}
		if o.Kind != KindCiliumEndpointSlice && (o.Valid() != (len(o.Upserts()) == 1) || o.Valid() != (len(o.Deletes()) == 1)) {
			t.Fatalf("valid %v, events %v %v", o.Valid(), o.Upserts(), o.Deletes())
		}
		again, _ := Decode("f", doc)
		if o.Valid() != again.Valid() || o.Key != again.Key {
			t.Fatal("not the same twice")
		}
		if p, ok := o.body.(policyBody); ok {
			checkPolicy(t, p.policy)
		}
	})
}

// checkPolicy holds what every consumer of a policy relies on.
func checkPolicy(t *testing.T, p policy.Policy) {
	for _, s := range p.Specs {
		for _, r := range s.Rules {
			if r.Ref.Policy != p.Ref || r.Ref.Path == "" {
				t.Fatalf("rule without a name: %+v", r.Ref)
			}
			if r.AnyPeer && len(r.Peers) > 0 || r.AnyPort && (len(r.Ports) > 0 || len(r.ICMP) > 0) {
				t.Fatalf("any, and some: %+v", r)
			}
			for _, peer := range r.Peers {
				n := 0
				for _, is := range []bool{peer.Selector != nil, peer.Entity != "", peer.CIDR.IsValid()} {
					if is {
						n++
					}
				}
				if n != 1 || peer.CIDR.IsValid() && peer.CIDR != peer.CIDR.Masked() {
					t.Fatalf("peer %+v", peer)
				}
				for _, x := range peer.Except {
					if !peer.CIDR.Contains(x.Addr()) || x.Bits() < peer.CIDR.Bits() {
						t.Fatalf("exception %v outside %v", x, peer.CIDR)
					}
				}
			}
			for _, port := range r.Ports {
				if port.First > port.Last || port.Name != "" && port.Last != 0 {
					t.Fatalf("port %+v", port)
				}
			}
		}
	}
}
