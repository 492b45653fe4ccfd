package manifest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/lb"
)

func TestNodePorts(t *testing.T) {
	for doc, want := range map[string][]string{
		`{"type":"NodePort","clusterIP":"10.0.0.1","ports":[{"name":"a","port":80,"nodePort":30080},{"name":"b","port":81,"protocol":"UDP","nodePort":30080}]}`: {"0.0.0.0:30080", "0.0.0.0:30080"},
		`{"type":"NodePort","clusterIP":"fd00::1","ports":[{"port":80,"nodePort":30080}]}`:                                                                      {"[::]:30080"},
		`{"type":"NodePort","clusterIPs":["fd00::1","10.0.0.1"],"ports":[{"port":80,"nodePort":30080}]}`:                                                        {"0.0.0.0:30080", "[::]:30080"},
		`{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"clusterIP":"10.0.0.1","ports":[{"port":80}]}`:                                            nil,
		`{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"clusterIP":"10.0.0.1","ports":[{"port":80,"nodePort":30080}]}`:                           {"0.0.0.0:30080"},
		`{"type":"ClusterIP","clusterIP":"10.0.0.1","ports":[{"port":80,"nodePort":30080}]}`:                                                                    nil,
	} {
		o, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":`+doc+`}`))
		require.True(t, o.Valid(), "%v", findings)
		assert.Empty(t, findings, doc)
		var got []string
		for _, f := range o.Upserts()[0].(cluster.ServiceUpsert).Service.Frontends {
			if f.Type == lb.NodePort {
				got = append(got, netip.AddrPortFrom(f.Addr, f.Port).String())
			}
		}
		assert.Equal(t, want, got, doc)
	}
	_, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"NodePort","clusterIP":"10.0.0.1","ports":[{"port":80}]}}`))
	require.Len(t, findings, 1)
	assert.True(t, findings[0].Warning)
	assert.Contains(t, findings[0].String(), "spec.ports: port 80 has no nodePort")
}

func TestTrafficPolicies(t *testing.T) {
	read := func(spec string) lb.Service {
		return upsertOf[cluster.ServiceUpsert](t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"clusterIP":"10.0.0.1",`+spec+`}}`).Service
	}
	s := read(`"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":32000`)
	assert.True(t, s.ExternalLocal && !s.InternalLocal)
	assert.Equal(t, uint16(32000), s.HealthCheckPort)
	s = read(`"type":"NodePort","externalTrafficPolicy":"Local","internalTrafficPolicy":"Local","healthCheckNodePort":32000`)
	assert.True(t, s.ExternalLocal && s.InternalLocal)
	assert.Zero(t, s.HealthCheckPort, "only load balancers ask")
	s = read(`"type":"LoadBalancer","externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","healthCheckNodePort":32000`)
	assert.False(t, s.ExternalLocal || s.InternalLocal)
	assert.Zero(t, s.HealthCheckPort)

	_, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"clusterIP":"10.0.0.1","externalTrafficPolicy":"Near"}}`))
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].String(), `spec.externalTrafficPolicy: unknown traffic policy "Near"; allowed: Cluster, Local`)
}

// A balancer that says so gets everything by itself, also from inside the cluster.
func TestLoadBalancerAddressOfAProxy(t *testing.T) {
	s := upsertOf[cluster.ServiceUpsert](t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","ports":[{"port":80}]},
		"status":{"loadBalancer":{"ingress":[{"ip":"2.2.2.2","ipMode":"Proxy"},{"ip":"3.3.3.3","ipMode":"VIP"}]}}}`).Service
	require.Len(t, s.Frontends, 2)
	assert.Equal(t, ip("3.3.3.3"), s.Frontends[1].Addr)
}

func TestServicesOfOtherProxies(t *testing.T) {
	for label, served := range map[string]bool{
		`"service.kubernetes.io/service-proxy-name":"somebody"`: false,
		`"service.kubernetes.io/service-proxy-name":""`:         false,
		`"service.kubernetes.io/headless":""`:                   false,
		`"headless":""`:                                         true,
	} {
		s := upsertOf[cluster.ServiceUpsert](t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","labels":{`+label+`}},
			"spec":{"type":"NodePort","clusterIP":"10.0.0.1","externalIPs":["1.2.3.4"],"ports":[{"port":80,"nodePort":30080}]}}`).Service
		assert.Equal(t, served, len(s.Frontends) > 0, label)
		slice := upsertOf[cluster.BackendsUpsert](t, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s-1","labels":{"kubernetes.io/service-name":"s",`+label+`}},
			"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.2"]}]}`).Slice
		assert.Equal(t, served, len(slice.Backends) > 0, label)
	}
}

// Source ranges are not kept, so an address that has some is not served at all; the others are.
func TestLoadBalancerWithSourceRanges(t *testing.T) {
	o, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","ports":[{"port":80}],
		"loadBalancerSourceRanges":["192.0.2.0/24"]},"status":{"loadBalancer":{"ingress":[{"ip":"3.3.3.3"}]}}}`))
	require.Len(t, findings, 1)
	assert.True(t, findings[0].Warning)
	assert.Contains(t, findings[0].String(), "spec.loadBalancerSourceRanges: not supported; the load balancer's addresses are not served")
	s := o.Upserts()[0].(cluster.ServiceUpsert).Service
	require.Len(t, s.Frontends, 1)
	assert.Equal(t, ip("10.0.0.1"), s.Frontends[0].Addr)
}

func TestHostPorts(t *testing.T) {
	o, findings := Decode("", []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{
		"initContainers":[{"ports":[{"containerPort":1,"hostPort":1}]},{"restartPolicy":"Always","ports":[{"containerPort":2,"hostPort":1002}]}],
		"containers":[{"ports":[{"containerPort":80,"hostPort":8080},{"containerPort":53,"protocol":"UDP","hostPort":53,"hostIP":"192.168.0.1"},
		{"containerPort":81},{"containerPort":82,"hostPort":8082,"hostIP":"0.0.0.0"},{"containerPort":83,"hostPort":8083,"hostIP":"::ffff:1.2.3.4"},
		{"containerPort":84,"hostPort":8084,"hostIP":"127.0.0.2"},{"containerPort":85,"hostPort":8085,"hostIP":"127.0.0.1"},
		{"containerPort":86,"hostPort":8086,"hostIP":"::1"}]}]}}`))
	require.True(t, o.Valid(), "%v", findings)
	assert.Equal(t, []cluster.HostPort{
		{Port: 8080, To: 80, Proto: 6},
		{IP: ip("192.168.0.1"), Port: 53, To: 53, Proto: 17},
		{IP: ip("0.0.0.0"), Port: 8082, To: 82, Proto: 6},
		{IP: ip("1.2.3.4"), Port: 8083, To: 83, Proto: 6},
		{IP: ip("127.0.0.1"), Port: 8085, To: 85, Proto: 6},
		{IP: ip("::1"), Port: 8086, To: 86, Proto: 6},
		{Port: 1002, To: 2, Proto: 6},
	}, o.Upserts()[0].(cluster.PodUpsert).Pod.HostPorts)
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].String(), "spec.containers[0].ports[5].hostIP: of the loopback addresses only 127.0.0.1 and ::1 have host ports")

	host := upsertOf[cluster.PodUpsert](t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"hostNetwork":true,"containers":[{"ports":[{"containerPort":80,"hostPort":80}]}]}}`).Pod
	assert.Empty(t, host.HostPorts, "it listens there itself")

	_, findings = Decode("", []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"ports":[{"containerPort":80,"hostPort":80,"hostIP":"here"},{"containerPort":80,"hostPort":70000,"hostIP":"there"}]}]}}`))
	require.Len(t, findings, 3, "all at once")
	assert.Contains(t, findings[0].String(), `hostIP: "here" is not an address`)
}
