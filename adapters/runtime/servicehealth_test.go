package runtime_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/lb"
)

func TestLoadBalancersAreTold(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{Enabled: true}})
	name := lb.Name{Namespace: "shop", Name: "web"}
	service := lb.Service{Name: name, ExternalLocal: true, HealthCheckPort: 32000, Frontends: []lb.Frontend{
		{Addr: netip.IPv4Unspecified(), Port: 30080, Proto: tcp, Type: lb.NodePort}}}
	backend := lb.Backend{Addr: netip.MustParseAddr("10.1.0.9"), Port: 80, Proto: tcp, Node: "n1", Weight: 1}
	slice := lb.Slice{Service: name, Name: "a", Backends: []lb.Backend{backend}}
	status := func() int {
		s, _, _ := u.health.Ask(32000)
		return s
	}
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.ServiceUpsert{Service: service}, cluster.BackendsUpsert{Slice: slice})
	assert.Zero(t, status(), "not before everything is known")
	u.feed(cluster.Synced{})
	assert.Equal(t, 200, status())

	slice.Backends = []lb.Backend{backend}
	slice.Backends[0].State = lb.Terminating
	u.feed(cluster.BackendsUpsert{Slice: slice})
	assert.Equal(t, 503, status(), "it still serves, but nobody new is to come")

	release := u.health.Occupy(32001)
	service.HealthCheckPort = 32001
	u.feed(cluster.ServiceUpsert{Service: service})
	assert.Zero(t, status())
	s, err := u.Status()
	require.NoError(t, err)
	require.Len(t, s.Problems, 1)
	assert.Contains(t, s.Problems[0], "health check of shop/web")
	release()
	u.pass(5 * time.Second)
	got, _, _ := u.health.Ask(32001)
	assert.Equal(t, 503, got, "tried again")
	s, err = u.Status()
	require.NoError(t, err)
	assert.Empty(t, s.Problems)

	u.feed(cluster.ServiceDelete{Name: name})
	assert.Empty(t, u.health.Checks())
}
