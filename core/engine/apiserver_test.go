package engine_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// apiServers are a slice of the service that stands for the API servers.
func apiServers(slice string, addrs ...string) cluster.BackendsUpsert {
	s := lb.Slice{Service: cluster.APIServerService, Name: slice}
	for _, a := range addrs {
		s.Backends = append(s.Backends, lb.Backend{Addr: ip(a), Port: 6443, Proto: datapath.ProtoTCP, Weight: 1})
	}
	return cluster.BackendsUpsert{Slice: s}
}

// identityOf looks up the identity of an address as the kernel does.
func (n *node) identityOf(addr string) identity.ID {
	a := ip(addr)
	for bits := a.BitLen(); bits >= 0; bits-- {
		if row, ok := n.rows[engine.IPCache][netip.PrefixFrom(a, bits).Masked()]; ok {
			return row.(datapath.IPCache).Identity
		}
	}
	if a.Is6() {
		return identity.WorldIPv6
	}
	return identity.WorldIPv4
}

// judgedAnew says that flows of an address were made stale, and after its row was written if that was.
func (n *node) judgedAnew(addr string) {
	n.t.Helper()
	epoch := n.at(engine.AddrEpoch, ip(addr))
	require.NotEqual(n.t, -1, epoch, "flows of %s are judged anew", addr)
	require.Less(n.t, n.at(engine.IPCache, netip.PrefixFrom(ip(addr), ip(addr).BitLen())), epoch)
}

// who says by which peers an address gets in to endpoint 1.
func (n *node) who(addr string, peers ...policy.Peer) (out []int) {
	n.t.Helper()
	for i, p := range peers {
		n.apply(cluster.PolicyUpsert{Policy: allowFrom(n.t, "probe", p)})
		if n.verdict(1, datapath.Ingress, n.identityOf(addr), datapath.ProtoTCP, 80) == "allowed" {
			out = append(out, i)
		}
	}
	n.apply(cluster.PolicyDelete{Ref: allowFrom(n.t, "probe").Ref})
	return out
}

// The peers of the tests below, and what they are about.
const (
	byAPI = iota
	byWorld
	byWorld4
	byWorld6
	byCluster
	byRemote
	byHost
	byAll4
)

func apiPeers() []policy.Peer {
	return []policy.Peer{
		byAPI: {Entity: policy.EntityKubeAPIServer}, byWorld: {Entity: policy.EntityWorld}, byWorld4: {Entity: policy.EntityWorldIPv4},
		byWorld6: {Entity: policy.EntityWorldIPv6}, byCluster: {Entity: policy.EntityCluster}, byRemote: {Entity: policy.EntityRemoteNode},
		byHost: {Entity: policy.EntityHost}, byAll4: {CIDR: pfx("0.0.0.0/0")},
	}
}

func TestAPIServerOutsideIsAPartOfTheWorldToo(t *testing.T) {
	n := withServer(t)
	n.log = nil
	n.apply(apiServers("a", "203.0.113.7", "2001:db8::7"))
	require.NotEqual(t, -1, n.at(engine.IPCache, pfx("203.0.113.7/32")))
	n.judgedAnew("203.0.113.7")
	id := n.identityAt("203.0.113.7/32")
	require.True(t, id.IsLocal())
	ls, _ := n.engine.LabelsOf(id)
	require.Equal(t, []string{"cidr:203.0.113.7/32", "reserved:kube-apiserver", "reserved:world", "reserved:world-ipv4"}, ls.Strings())
	assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4}, n.who("203.0.113.7", apiPeers()...))
	assert.Equal(t, []int{byAPI, byWorld, byWorld6, byCluster}, n.who("2001:db8::7", apiPeers()...))
	assert.Equal(t, []int{byWorld, byWorld4, byAll4}, n.who("203.0.113.8", apiPeers()...))
	around, beside := policy.Peer{CIDR: pfx("203.0.113.0/24")}, policy.Peer{CIDR: pfx("203.0.113.0/24"), Except: []netip.Prefix{pfx("203.0.113.7/32")}}
	assert.Equal(t, []int{0}, n.who("203.0.113.7", around, beside, policy.Peer{CIDR: pfx("203.0.113.8/32")}))
	assert.Equal(t, []int{0, 1, 2}, n.who("203.0.113.8", around, beside, policy.Peer{CIDR: pfx("203.0.113.8/32")}))

	// It moves: the old address is judged as before, whichever slice says so.
	n.log = nil
	n.apply(apiServers("b", "203.0.113.9"), apiServers("a", "2001:db8::7"))
	n.judgedAnew("203.0.113.7")
	assert.Equal(t, []int{byWorld, byWorld4, byAll4}, n.who("203.0.113.7", apiPeers()...))
	assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4}, n.who("203.0.113.9", apiPeers()...))
	n.apply(cluster.BackendsDelete{Service: cluster.APIServerService, Slice: "b"}, cluster.BackendsDelete{Service: cluster.APIServerService, Slice: "a"})
	require.NotContains(t, n.rows[engine.IPCache], pfx("203.0.113.9/32"))
	require.NotContains(t, n.rows[engine.IPCache], pfx("2001:db8::7/128"))
}

func TestBackendsOfOtherServicesAreNoAPIServers(t *testing.T) {
	n := withServer(t)
	sameName, sameNamespace := apiServers("a", "203.0.113.7"), apiServers("a", "203.0.113.8")
	sameName.Slice.Service.Namespace = "kube-system"
	sameNamespace.Slice.Service.Name = "web"
	n.apply(sameName, sameNamespace)
	require.NotContains(t, n.rows[engine.IPCache], pfx("203.0.113.7/32"))
	require.NotContains(t, n.rows[engine.IPCache], pfx("203.0.113.8/32"))
}

// An address that CIDR rules name has an identity already; it becomes and stops being an API server's.
func TestAPIServerWhoseAddressARuleNames(t *testing.T) {
	exact := policy.Peer{CIDR: pfx("203.0.113.7/32")}
	keep := allowFrom(t, "keep", exact)
	keep.Specs[0].Subject = *selector(t, "app=nobody")
	for _, first := range []string{"rule", "server"} {
		t.Run(first, func(t *testing.T) {
			n := withServer(t)
			events := []engine.Event{cluster.PolicyUpsert{Policy: keep}, apiServers("a", "203.0.113.7")}
			if first == "server" {
				events[0], events[1] = events[1], events[0]
			}
			n.apply(events[0])
			n.log = nil
			n.apply(events[1])
			if first == "rule" {
				n.judgedAnew("203.0.113.7") // its identity stays, and means more
			}
			peers := append(apiPeers(), exact)
			assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4, 8}, n.who("203.0.113.7", peers...))
			if first == "server" {
				n.apply(cluster.PolicyDelete{Ref: keep.Ref})
				assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4, 8}, n.who("203.0.113.7", peers...), "the rule went, the server stays")
				return
			}
			n.log = nil
			n.apply(apiServers("a"))
			n.judgedAnew("203.0.113.7")
			assert.Equal(t, []int{byWorld, byWorld4, byAll4, 8}, n.who("203.0.113.7", peers...), "the server went, the rule stays")
		})
	}
}

func TestAPIServerOnANode(t *testing.T) {
	n := withServer(t)
	n.log = nil
	n.apply(apiServers("a", "172.30.0.12"))
	for _, a := range []string{"172.30.0.12", "10.244.2.1"} { // by whichever address the node is met
		require.Equal(t, identity.KubeAPIServer, n.identityAt(a+"/32"))
		n.judgedAnew(a)
		assert.Equal(t, []int{byAPI, byCluster, byRemote}, n.who(a, apiPeers()...))
	}
	require.Equal(t, ip("172.30.0.12"), n.rows[engine.IPCache][pfx("10.244.2.1/32")].(datapath.IPCache).Tunnel)
	ls, _ := n.engine.LabelsOf(identity.KubeAPIServer)
	require.Equal(t, []string{"reserved:kube-apiserver", "reserved:remote-node"}, ls.Strings())

	// It moves to this node.
	n.log = nil
	n.apply(apiServers("a", "172.30.0.11"))
	n.judgedAnew("172.30.0.11")
	n.judgedAnew("10.244.1.1")
	assert.Equal(t, []int{byCluster, byRemote}, n.who("172.30.0.12", apiPeers()...))
	require.Equal(t, identity.Host, n.identityAt("172.30.0.11/32"))
	ls, _ = n.engine.LabelsOf(identity.Host)
	require.Equal(t, []string{"reserved:host", "reserved:kube-apiserver"}, ls.Strings())
	egress := func() string {
		p := allowFrom(t, "out", policy.Peer{Entity: policy.EntityKubeAPIServer})
		p.Specs[0].IsolateIngress, p.Specs[0].IsolateEgress = false, true
		p.Specs[0].Rules[0].Ref.Direction = datapath.Egress
		n.apply(cluster.PolicyUpsert{Policy: p})
		return n.verdict(1, datapath.Egress, identity.Host, datapath.ProtoTCP, 80)
	}
	require.Equal(t, "allowed", egress())
	n.apply(apiServers("a", "203.0.113.7"))
	require.Equal(t, "denied", egress())
	ls, _ = n.engine.LabelsOf(identity.Host)
	require.Equal(t, []string{"reserved:host"}, ls.Strings())
}

// A node may be heard of after the API server that is on it, and go before.
func TestNodesOfAPIServersComeAndGo(t *testing.T) {
	n := withServer(t)
	third := cluster.Node{Name: "node3", Addresses: []netip.Addr{ip("172.30.0.13"), ip("fd00::13")}, Routers: []netip.Addr{ip("10.244.3.1")}}
	n.apply(apiServers("a", "172.30.0.13"))
	require.True(t, n.identityAt("172.30.0.13/32").IsLocal())
	n.apply(cluster.NodeUpsert{Node: third})
	for _, p := range []string{"172.30.0.13/32", "fd00::13/128", "10.244.3.1/32"} {
		require.Equal(t, identity.KubeAPIServer, n.identityAt(p), p)
	}
	for _, i := range n.engine.Identities() {
		require.False(t, i.ID.IsLocal(), "the address has no identity of its own any more: %v", i)
	}
	third.Addresses = third.Addresses[1:]
	n.apply(cluster.NodeUpsert{Node: third})
	require.Equal(t, identity.RemoteNode, n.identityAt("fd00::13/128"))
	assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4}, n.who("172.30.0.13", apiPeers()...))
	third.Addresses = append(third.Addresses, ip("172.30.0.13"))
	n.apply(cluster.NodeUpsert{Node: third})
	require.Equal(t, identity.KubeAPIServer, n.identityAt("fd00::13/128"))
	n.apply(cluster.NodeDelete{Name: "node3"})
	assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4}, n.who("172.30.0.13", apiPeers()...))
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.3.1/32"))

	own := nodes()[0].(cluster.NodeUpsert).Node
	own.Addresses = append(own.Addresses, ip("172.30.0.13"))
	n.apply(cluster.NodeUpsert{Node: own})
	ls, _ := n.engine.LabelsOf(identity.Host)
	require.True(t, ls.Has("reserved", "kube-apiserver"))
	n.apply(cluster.NodeDelete{Name: "node1"})
	ls, _ = n.engine.LabelsOf(identity.Host)
	require.False(t, ls.Has("reserved", "kube-apiserver"))
}

// A pod that an API server runs in is judged as the pod.
func TestAPIServerInAPod(t *testing.T) {
	n := withServer(t)
	before := n.identityAt("10.244.1.5/32")
	n.apply(apiServers("a", "10.244.1.5"))
	require.Equal(t, before, n.identityAt("10.244.1.5/32"))
	require.True(t, before.IsCluster())
}

// Whether the API server is heard of before or after the lists are complete makes no difference, and a plan made
// anew for the same kernel knows it.
func TestAPIServersOfARestart(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(apiServers("a", "203.0.113.7", "172.30.0.12", "172.30.0.11"), pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	require.Empty(t, n.log)
	n.apply(cluster.Synced{})
	check := func() {
		t.Helper()
		assert.Equal(t, []int{byAPI, byWorld, byWorld4, byCluster, byAll4}, n.who("203.0.113.7", apiPeers()...))
		assert.Equal(t, []int{byAPI, byCluster, byRemote}, n.who("172.30.0.12", apiPeers()...))
		assert.Contains(t, n.who("172.30.0.11", apiPeers()...), byAPI)
	}
	check()
	id := n.identityAt("203.0.113.7/32")
	a := engine.Adopted{IPCache: map[netip.Prefix]datapath.IPCache{}, EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{}, Classes: map[datapath.ClassKey]datapath.Class{}}
	for k, v := range n.rows[engine.IPCache] {
		a.IPCache[k.(netip.Prefix)] = v.(datapath.IPCache)
	}
	for k, v := range n.rows[engine.EndpointPolicy] {
		a.EndpointPolicy[k.(datapath.EndpointID)] = v.(datapath.EndpointPolicy)
	}
	for k, v := range n.rows[engine.Classes] {
		a.Classes[k.(datapath.ClassKey)] = v.(datapath.Class)
	}
	n.run(n.engine.Rebase(a))
	n.run(n.engine.Pruned())
	require.Equal(t, id, n.identityAt("203.0.113.7/32"))
	check()
}
