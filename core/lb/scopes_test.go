package lb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func on(node string, b Backend) Backend {
	b.Node = node
	return b
}

func everywhere(t Type, port uint16) Frontend {
	return Frontend{Addr: addr("0.0.0.0"), Port: port, Proto: datapath.ProtoTCP, PortName: "http", Type: t}
}

func outside(k datapath.ServiceKey) datapath.ServiceKey {
	k.Scope = datapath.External
	return k
}

func TestScopesOfTheTypes(t *testing.T) {
	public := webAddr
	public.Addr, public.Type = addr("203.0.113.7"), LoadBalancer
	loopback := everywhere(HostPort, 8081)
	loopback.Addr = addr("127.0.0.1")
	s := Service{Name: web, Frontends: []Frontend{webAddr, everywhere(NodePort, 30080), public, everywhere(HostPort, 8080), loopback}}
	keys := func(settings Settings) (out []string) {
		c := NewCompiler(settings)
		c.UpsertService(s)
		c.Flush()
		for _, f := range c.Frontends() {
			out = append(out, string(f.Frontend.Type)+" "+f.Key().String())
		}
		return out
	}
	assert.Equal(t, []string{
		"HostPort 0.0.0.0:8080/TCP", "HostPort 0.0.0.0:8080/TCP/external",
		"NodePort 0.0.0.0:30080/TCP", "NodePort 0.0.0.0:30080/TCP/external",
		"ClusterIP 10.96.0.10:80/TCP",
		"HostPort 127.0.0.1:8081/TCP",
		"LoadBalancer 203.0.113.7:80/TCP", "LoadBalancer 203.0.113.7:80/TCP/external",
	}, keys(testSettings))
	assert.Equal(t, []string{"ClusterIP 10.96.0.10:80/TCP", "LoadBalancer 203.0.113.7:80/TCP"}, keys(Settings{Node: "n1"}),
		"without node ports nothing is served to the network")
	assert.Equal(t, []string{"HostPort 0.0.0.0:8080/TCP", "HostPort 0.0.0.0:8080/TCP/external", "ClusterIP 10.96.0.10:80/TCP",
		"HostPort 127.0.0.1:8081/TCP", "LoadBalancer 203.0.113.7:80/TCP"},
		keys(Settings{Node: "n1", HostPorts: true}), "with host ports alone, the network gets those alone")
	assert.Equal(t, []string{"NodePort 0.0.0.0:30080/TCP", "NodePort 0.0.0.0:30080/TCP/external", "ClusterIP 10.96.0.10:80/TCP",
		"LoadBalancer 203.0.113.7:80/TCP", "LoadBalancer 203.0.113.7:80/TCP/external"}, keys(Settings{Node: "n1", NodePorts: true}))
}

// Each field of a service takes effect by itself, without other news of it.
func TestEveryFieldIsHeardOf(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	s := Service{Name: web, Frontends: []Frontend{webAddr, everywhere(NodePort, 30080)}}
	put := func() {
		t.Helper()
		c.UpsertService(s)
		require.NoError(t, tab.transition(c.Flush()))
	}
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{on("n1", pod("10.0.0.1")), on("n2", pod("10.0.0.2"))}})
	put()
	port := outside(datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP})
	assert.Len(t, tab.slotsOf(port), 2)
	s.ExternalLocal = true
	put()
	assert.Len(t, tab.slotsOf(port), 1)
	assert.Len(t, tab.slotsOf(webKey), 2)
	s.InternalLocal = true
	put()
	assert.Len(t, tab.slotsOf(webKey), 1)
	s.Affinity = time.Minute
	put()
	assert.Equal(t, uint32(60), tab.services[webKey].AffinityTimeout)
	s.HealthCheckPort = 32000
	put()
	assert.Equal(t, map[Name]HealthCheck{web: {Port: 32000, Local: 1}}, tab.checks)
}

// A pod with an address of each family is one to load balancers, and so is one that serves two ports.
func TestHealthCountsPods(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	c.UpsertService(Service{Name: web, Frontends: []Frontend{everywhere(NodePort, 30080)}, ExternalLocal: true, HealthCheckPort: 32000})
	second := on("n1", pod("10.0.0.1"))
	second.Port, second.PortName = 9090, "metrics"
	c.UpsertSlice(Slice{Service: web, Name: "four", Backends: []Backend{on("n1", pod("10.0.0.1")), second}})
	c.UpsertSlice(Slice{Service: web, Name: "six", Backends: []Backend{on("n1", pod("fd00::1")), on("n1", pod("fd00::2")), on("n2", pod("fd00::3"))}})
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, map[Name]HealthCheck{web: {Port: 32000, Local: 2}}, tab.checks)
}

func TestPoliciesKeepTrafficAtItsNode(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	s := Service{Name: web, Frontends: []Frontend{webAddr, everywhere(NodePort, 30080)}, ExternalLocal: true, InternalLocal: true, HealthCheckPort: 32000}
	c.UpsertService(s)
	here, there, nowhere := on("n1", pod("10.0.0.1")), on("n2", pod("10.0.0.2")), pod("10.0.0.3")
	slice := func(backends ...Backend) {
		t.Helper()
		c.UpsertSlice(Slice{Service: web, Name: "a", Backends: backends})
		require.NoError(t, tab.transition(c.Flush()))
		require.Empty(t, tab.leaks())
	}
	port := datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP}
	slice(here, there, nowhere)
	all := []datapath.Backend{row("10.0.0.1"), row("10.0.0.2"), row("10.0.0.3")}
	assert.Equal(t, all, tab.slotsOf(port), "inside the cluster the policy for outside does not count")
	assert.Equal(t, all[:1], tab.slotsOf(outside(port)))
	assert.Equal(t, all[:1], tab.slotsOf(webKey))
	assert.NotEqual(t, tab.services[port].ID, tab.services[outside(port)].ID)
	assert.True(t, tab.services[port].Local, "another node's node port leads where that node says")
	assert.Equal(t, map[Name]HealthCheck{web: {Port: 32000, Local: 1}}, tab.checks)

	here.State = Terminating
	slice(here, there, nowhere)
	assert.Equal(t, all[1:], tab.slotsOf(port))
	assert.Equal(t, all[:1], tab.slotsOf(outside(port)), "it serves, and nobody else may")
	assert.Equal(t, map[Name]HealthCheck{web: {Port: 32000}}, tab.checks, "but nothing more is to be sent here")

	slice(there, nowhere)
	assert.Empty(t, tab.slotsOf(outside(port)))
	assert.Contains(t, tab.services, outside(port), "what comes must be refused, not passed")

	s.ExternalLocal, s.InternalLocal, s.HealthCheckPort = false, false, 0
	c.UpsertService(s)
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, all[1:], tab.slotsOf(outside(port)))
	assert.False(t, tab.services[port].Local)
	assert.Equal(t, all[1:], tab.slotsOf(webKey))
	assert.Empty(t, tab.checks)
}

// A backend that changes on another node is no news for what is kept at this one.
func TestRemoteBackendsChangeNothingThatIsLocal(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	c.UpsertService(Service{Name: web, Frontends: []Frontend{everywhere(NodePort, 30080)}, ExternalLocal: true, HealthCheckPort: 32000})
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{on("n1", pod("10.0.0.1"))}})
	require.NoError(t, tab.transition(c.Flush()))
	c.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{on("n2", pod("10.0.0.2"))}})
	assert.Equal(t, []string{"PutBackend", "PutSlot", "PutService"}, kinds(c.Flush()))
}

func TestHostPortsStandBack(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	host := Name{"a", "first by name"}
	c.UpsertService(Service{Name: host, Frontends: []Frontend{everywhere(HostPort, 30080)}})
	c.UpsertSlice(Slice{Service: host, Name: "a", Backends: []Backend{on("n1", pod("10.0.0.1"))}})
	require.NoError(t, tab.transition(c.Flush()))
	key := datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP}
	assert.True(t, tab.services[key].Local && tab.services[outside(key)].Local)

	c.UpsertService(Service{Name: web, Frontends: []Frontend{everywhere(NodePort, 30080)}})
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{on("n2", pod("10.0.0.2"))}})
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.2")}, tab.slotsOf(key), "a node port is the same on every node")
	assert.False(t, tab.services[key].Local)
	assert.Equal(t, []Conflict{{Frontend: key, Winner: web, Loser: host, Port: "http"}}, c.Conflicts(), "once for both scopes")
}
