package engine_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/lb"
)

func tcp(a string, port uint16, scope datapath.Scope) datapath.ServiceKey {
	return datapath.ServiceKey{Addr: ip(a), Port: port, Proto: datapath.ProtoTCP, Scope: scope}
}

// leadsTo follows a row to its backends.
func (n *node) leadsTo(k datapath.ServiceKey) []string {
	row, ok := n.rows[engine.Services][k].(datapath.Service)
	if !ok {
		return []string{"no row"}
	}
	out := []string{}
	for slot := uint32(1); slot <= row.Count; slot++ {
		id := n.rows[engine.Slots][datapath.SlotKey{Service: row.ID, Slot: slot}]
		out = append(out, n.rows[engine.Backends][id].(datapath.Backend).String())
	}
	return out
}

func TestHostPortsFollowThePodAndItsLink(t *testing.T) {
	n := newNode(t, newRegistry(), engine.WithHostPorts())
	n.apply(nodes()...)
	n.apply(cluster.Synced{})
	server := pod("server", "server", "node1")
	server.Pod.UID = "first"
	server.Pod.HostPorts = []cluster.HostPort{{Port: 8080, To: 80, Proto: 6}, {IP: ip("172.30.0.11"), Port: 53, To: 5353, Proto: 17}}
	n.apply(server)
	require.Empty(t, n.rows[engine.Services], "there is nothing to send it to")

	at := attach(1, "server", "10.244.1.5")
	at.UID, at.IPs = "first", append(at.IPs, ip("fd00:1::5"))
	n.apply(at)
	for _, scope := range []datapath.Scope{datapath.Internal, datapath.External} {
		assert.Equal(t, []string{"10.244.1.5:80/TCP"}, n.leadsTo(tcp("0.0.0.0", 8080, scope)))
		assert.Equal(t, []string{"[fd00:1::5]:80/TCP"}, n.leadsTo(tcp("::", 8080, scope)))
		assert.Equal(t, []string{"10.244.1.5:5353/UDP"}, n.leadsTo(datapath.ServiceKey{Addr: ip("172.30.0.11"), Port: 53, Proto: 17, Scope: scope}))
	}
	assert.True(t, n.rows[engine.Services][tcp("::", 8080, datapath.Internal)].(datapath.Service).Local)
	assert.Len(t, n.rows[engine.Services], 6)
	name, ok := n.engine.ServiceAt(tcp("172.30.0.11", 8080, datapath.Internal))
	assert.True(t, ok)
	assert.Equal(t, "shop/server:host-port", name.String())
	_, ok = n.engine.ServiceAt(tcp("172.30.0.12", 8080, datapath.Internal))
	assert.False(t, ok, "the port is this node's")
	_, ok = n.engine.ServiceAt(tcp("10.9.9.9", 8080, datapath.Internal))
	assert.False(t, ok)

	// Its successor is known before its link is: the old one's must not get what is meant for it.
	server.Pod.UID = "second"
	n.apply(server)
	assert.Empty(t, n.rows[engine.Services])
	at = attach(2, "server", "10.244.1.6")
	at.UID = "second"
	n.apply(at)
	assert.Equal(t, []string{"10.244.1.6:80/TCP"}, n.leadsTo(tcp("0.0.0.0", 8080, datapath.External)))
	n.apply(engine.Detach{ID: 1})
	assert.Equal(t, []string{"10.244.1.6:80/TCP"}, n.leadsTo(tcp("0.0.0.0", 8080, datapath.External)))

	server.Pod.Finished = true
	n.apply(server)
	assert.Empty(t, n.rows[engine.Services])
	server.Pod.Finished = false
	n.apply(server)
	assert.Len(t, n.rows[engine.Services], 4)
	n.apply(engine.Detach{ID: 2})
	for _, table := range []engine.Table{engine.Services, engine.Slots, engine.Backends} {
		assert.Empty(t, n.rows[table])
	}
	n.apply(at, cluster.PodDelete{Name: server.Pod.Name})
	assert.Empty(t, n.rows[engine.Services])
}

// Until the pod has an identity, and with it a policy, nobody reaches it by its host port.
func TestHostPortsWaitForTheIdentity(t *testing.T) {
	n := newNode(t, newRegistry(), engine.WithHostPorts())
	server := pod("server", "server", "node1")
	server.Pod.HostPorts = []cluster.HostPort{{Port: 8080, To: 80, Proto: 6}}
	var asked []engine.Op
	for _, ev := range append(nodes(), cluster.Synced{}, server, attach(1, "server", "10.244.1.5")) {
		ops := n.engine.Apply(n.now, ev)
		for _, op := range ops {
			if op.Table == engine.Identity {
				asked = append(asked, op)
			}
		}
		n.run(slices.DeleteFunc(ops, func(op engine.Op) bool { return op.Table == engine.Identity }))
	}
	require.Len(t, asked, 1)
	assert.Empty(t, n.rows[engine.Services])
	n.run(asked)
	assert.Len(t, n.rows[engine.Services], 2, "one for each scope")
}

func TestHostPortsAreAChoice(t *testing.T) {
	n := newNode(t, newRegistry(), engine.WithNodePorts())
	server := pod("server", "server", "node1")
	server.Pod.HostPorts = []cluster.HostPort{{Port: 8080, To: 80, Proto: 6}}
	n.apply(append(nodes(), server, attach(1, "server", "10.244.1.5"), cluster.Synced{})...)
	assert.NotEmpty(t, n.rows[engine.Endpoints])
	assert.Empty(t, n.rows[engine.Services])
}

func TestNodePortsAndTheirHealth(t *testing.T) {
	n := newNode(t, newRegistry(), engine.WithNodePorts())
	n.apply(nodes()...)
	name := lb.Name{Namespace: "shop", Name: "web"}
	service := lb.Service{Name: name, ExternalLocal: true, HealthCheckPort: 32000,
		Frontends: []lb.Frontend{{Addr: ip("0.0.0.0"), Port: 30080, Proto: 6, Type: lb.NodePort}}}
	backends := lb.Slice{Service: name, Name: "a", Backends: []lb.Backend{
		{Addr: ip("10.244.1.5"), Port: 80, Proto: 6, Weight: 1, Node: "node1"}, {Addr: ip("10.244.2.5"), Port: 80, Proto: 6, Weight: 1, Node: "node2"}}}
	n.apply(cluster.ServiceUpsert{Service: service}, cluster.BackendsUpsert{Slice: backends})
	assert.Empty(t, n.rows[engine.HealthChecks], "an answer before all is known would send load elsewhere")
	n.apply(cluster.Synced{})
	assert.Equal(t, []string{"10.244.1.5:80/TCP"}, n.leadsTo(tcp("0.0.0.0", 30080, datapath.External)))
	assert.Len(t, n.leadsTo(tcp("0.0.0.0", 30080, datapath.Internal)), 2)
	assert.Equal(t, map[any]any{name: lb.HealthCheck{Port: 32000, Local: 1}}, n.rows[engine.HealthChecks])
	for _, node := range []string{"172.30.0.11", "172.30.0.12", "10.244.1.1"} {
		got, ok := n.engine.ServiceAt(tcp(node, 30080, datapath.Internal))
		assert.True(t, ok && got == name, node)
	}
	_, ok := n.engine.ServiceAt(tcp("10.244.2.5", 30080, datapath.Internal))
	assert.False(t, ok, "a pod's address is no node's")
	n.apply(cluster.ServiceDelete{Name: name})
	assert.Empty(t, n.rows[engine.HealthChecks])
	assert.Empty(t, n.rows[engine.Services])

	off := newNode(t, newRegistry())
	off.apply(append(nodes(), cluster.ServiceUpsert{Service: service}, cluster.BackendsUpsert{Slice: backends}, cluster.Synced{})...)
	assert.Empty(t, off.rows[engine.Services])
}

func TestHintsForTheZoneOfTheNode(t *testing.T) {
	n := newNode(t, newRegistry(), engine.WithTopology())
	n.apply(nodes()...)
	n.apply(cluster.Synced{})
	web := lb.Name{Namespace: "shop", Name: "web"}
	n.apply(cluster.ServiceUpsert{Service: lb.Service{Name: web, Frontends: []lb.Frontend{{Addr: ip("10.96.0.5"), Port: 80, Proto: 6, Type: lb.ClusterIP}}}},
		cluster.BackendsUpsert{Slice: lb.Slice{Service: web, Backends: []lb.Backend{
			{Addr: ip("10.244.1.5"), Port: 80, Proto: 6, Weight: 1, ForZones: lb.NewHints("za")},
			{Addr: ip("10.244.2.5"), Port: 80, Proto: 6, Weight: 1, ForZones: lb.NewHints("zb")},
		}}})
	at := tcp("10.96.0.5", 80, datapath.Internal)
	assert.Len(t, n.leadsTo(at), 2)
	own := nodes()[0].(cluster.NodeUpsert)
	require.Equal(t, "node1", own.Node.Name)
	own.Node.Labels = map[string]string{"topology.kubernetes.io/zone": "zb"}
	n.apply(own)
	assert.Equal(t, []string{"10.244.2.5:80/TCP"}, n.leadsTo(at))
	other := nodes()[1].(cluster.NodeUpsert)
	other.Node.Labels = map[string]string{"topology.kubernetes.io/zone": "za"}
	n.apply(other)
	assert.Equal(t, []string{"10.244.2.5:80/TCP"}, n.leadsTo(at), "another node's zone is not this one's")
	n.apply(cluster.NodeDelete{Name: "node1"})
	assert.Len(t, n.leadsTo(at), 2)
}
