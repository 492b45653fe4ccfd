package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// at is where in the log the first operation on a row stands; -1: there is none.
func (n *node) at(table engine.Table, key any) int {
	for i, op := range n.log {
		if op.Table == table && op.Key == key {
			return i
		}
	}
	return -1
}

func (n *node) identityAt(prefix string) identity.ID {
	n.t.Helper()
	row, ok := n.rows[engine.IPCache][pfx(prefix)].(datapath.IPCache)
	require.True(n.t, ok, "no row for %s", prefix)
	return row.Identity
}

func setOf(t *testing.T, ss ...string) labels.Set {
	t.Helper()
	s, err := labels.ParseSet(ss...)
	require.NoError(t, err)
	return s
}

// withServer is a node with the attached pod shop/server, and nothing logged yet.
func withServer(t *testing.T, more ...engine.Event) *node {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	n.apply(more...)
	n.log = nil
	return n
}

func TestNothingReachesAPodBeforeItsPolicy(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	word, row := n.at(engine.EndpointPolicy, datapath.EndpointID(1)), n.at(engine.Endpoints, ip("10.244.1.5"))
	require.NotEqual(t, -1, word)
	require.Less(t, word, row, "the first row of the address comes after the policy")
}

func TestExceptionIsInPlaceBeforeTheRange(t *testing.T) {
	n := withServer(t)
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{CIDR: pfx("192.0.2.0/24"), Except: []netip.Prefix{pfx("192.0.2.128/25")}})})
	exception, whole := n.at(engine.IPCache, pfx("192.0.2.128/25")), n.at(engine.IPCache, pfx("192.0.2.0/24"))
	require.NotEqual(t, -1, exception)
	require.Less(t, exception, whole)
}

// The world is allowed; then a policy about something else names a part of the world. Not for a moment may
// that part be judged as nobody.
func TestNewPrefixHasTheClassOfItsAddressesFirst(t *testing.T) {
	n := withServer(t, cluster.PolicyUpsert{Policy: allowFrom(t, "world", policy.Peer{Entity: policy.EntityWorld})})
	other := allowFrom(t, "other", policy.Peer{CIDR: pfx("192.0.2.0/24")})
	other.Specs[0].Subject = *selector(t, "app=elsewhere")
	n.apply(cluster.PolicyUpsert{Policy: other})
	id := n.identityAt("192.0.2.0/24")
	class := n.at(engine.Classes, datapath.ClassKey{Generation: n.generation(), Identity: id})
	require.NotEqual(t, -1, class)
	require.Less(t, class, n.at(engine.IPCache, pfx("192.0.2.0/24")))
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, id, datapath.ProtoTCP, 80))
}

func (n *node) generation() uint8 {
	return n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy).Policy.Generation()
}

// A prefix that came while the agent was down has, in the generation still in force, the class of whatever
// its addresses were before: of the longest prefix around it, else of the world.
func TestPrefixOfARestartInheritsItsClass(t *testing.T) {
	old := datapath.NewPolicyID(2, 5)
	adopted := engine.Adopted{
		EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{1: {Policy: old, Epoch: 9}},
		Classes: map[datapath.ClassKey]datapath.Class{
			{Generation: 2, Identity: identity.WorldIPv4}: 7,
			{Generation: 2, Identity: identity.MinLocal}:  8,
		},
		IPCache: map[netip.Prefix]datapath.IPCache{pfx("198.51.0.0/16"): {Identity: identity.MinLocal}},
	}
	n := newNode(t, newRegistry())
	n.engine = engine.New("node1", adopted, n.now)
	n.apply(nodes()...)
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{CIDR: pfx("192.0.2.0/24")}, policy.Peer{CIDR: pfx("198.51.100.0/24")})},
		cluster.Synced{})
	for prefix, class := range map[string]datapath.Class{"192.0.2.0/24": 7, "198.51.100.0/24": 8} {
		key := datapath.ClassKey{Generation: 2, Identity: n.identityAt(prefix)}
		require.Equal(t, class, n.rows[engine.Classes][key], prefix)
		require.Less(t, n.at(engine.Classes, key), n.at(engine.IPCache, pfx(prefix)), prefix)
	}
}

// A predecessor that changed policies faster than the clock runs left epochs that the clock has not reached.
func TestEpochsOfARestartAreAboveThePredecessors(t *testing.T) {
	n := newNode(t, newRegistry())
	const last = datapath.Epoch(0xf0000000)
	n.engine = engine.New("node1", engine.Adopted{EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{
		1: {Policy: datapath.NewPolicyID(0, 1), Epoch: last},
	}}, n.now)
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	word := n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.Greater(t, word.Epoch, last)
	require.NotZero(t, word.Policy.Generation(), "which the predecessor's is")
}

// The number of a prefix that is gone may still be in flow entries: even when the range wraps it is not given out
// before its quarantine is over.
func TestNumberOfAPrefixRests(t *testing.T) {
	n := newNode(t, newRegistry())
	n.engine = engine.New("node1", engine.Adopted{IPCache: map[netip.Prefix]datapath.IPCache{
		pfx("198.51.100.0/24"): {Identity: identity.MinLocal},
		pfx("203.0.113.0/24"):  {Identity: identity.MaxLocal},
	}}, n.now)
	n.apply(nodes()...)
	n.apply(cluster.Synced{})
	n.engine.Pruned()
	n.now = n.now.Add(engine.LocalQuarantine - time.Second)
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{CIDR: pfx("192.0.2.0/24")})})
	require.Equal(t, identity.MinLocal+1, n.identityAt("192.0.2.0/24"))
}

func TestPrefixStaysAsLongAsAPolicyNamesIt(t *testing.T) {
	n := withServer(t)
	for _, name := range []string{"p", "q", "r"} {
		n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, name, policy.Peer{CIDR: pfx("192.0.2.0/24")})})
	}
	id := n.identityAt("192.0.2.0/24")
	require.True(t, id.IsLocal(), "%d", id)
	for _, name := range []string{"p", "q"} {
		n.apply(cluster.PolicyDelete{Ref: allowFrom(t, name).Ref})
		require.Equal(t, id, n.identityAt("192.0.2.0/24"))
		require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, id, datapath.ProtoTCP, 80))
	}
	n.apply(cluster.PolicyDelete{Ref: allowFrom(t, "r").Ref})
	require.NotContains(t, n.rows[engine.IPCache], pfx("192.0.2.0/24"))
}

func TestOtherNodesAreRemoteNodes(t *testing.T) {
	n := withServer(t)
	require.Equal(t, datapath.IPCache{Identity: identity.Host}, n.rows[engine.IPCache][pfx("172.30.0.11/32")])
	for _, a := range []string{"172.30.0.12/32", "10.244.2.1/32"} {
		require.Equal(t, datapath.IPCache{Identity: identity.RemoteNode, Tunnel: ip("172.30.0.12")}, n.rows[engine.IPCache][pfx(a)])
	}
	require.Contains(t, n.rows[engine.Nodes], ip("172.30.0.12"))
	require.NotContains(t, n.rows[engine.Nodes], ip("172.30.0.11"), "nobody else sends as this node")
}

func TestPodsFollowTheirNodesAddress(t *testing.T) {
	n := withServer(t, cluster.IdentityUpsert{ID: 300, Labels: setOf(t, "k8s:app=client")}, remote("client", 300, "10.244.2.7"))
	n.apply(cluster.NodeUpsert{Node: cluster.Node{Name: "node2", Addresses: []netip.Addr{ip("172.30.0.99")},
		PodCIDRs: []netip.Prefix{pfx("10.244.2.0/24")}, Routers: []netip.Addr{ip("10.244.2.1")}}})
	require.Equal(t, datapath.IPCache{Identity: 300, Tunnel: ip("172.30.0.99")}, n.rows[engine.IPCache][pfx("10.244.2.7/32")])
	require.NotContains(t, n.rows[engine.Nodes], ip("172.30.0.12"))
	require.NotContains(t, n.rows[engine.IPCache], pfx("172.30.0.12/32"))
}

// What this node published itself comes back; it says nothing that the attachments do not say better.
func TestOwnPublicationsAreNotBelieved(t *testing.T) {
	n := withServer(t, cluster.IdentityUpsert{ID: 300, Labels: setOf(t, "k8s:app=client")}, remote("client", 300, "10.244.2.7"))
	moved := remote("client", 300, "10.244.1.9")
	moved.Endpoint.Node = "node1"
	n.apply(moved)
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.1.9/32"), "nothing is attached there")
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.2.7/32"), "it is not on the other node any more")
}

// An endpoint may name its node by address alone, and be told before the node.
func TestNodeOfAnEndpointByItsAddress(t *testing.T) {
	unnamed := func(addr, node string) cluster.EndpointUpsert {
		up := remote("client", 300, addr)
		up.Endpoint.Node, up.Endpoint.NodeIP = "", ip(node)
		return up
	}
	client := cluster.IdentityUpsert{ID: 300, Labels: setOf(t, "k8s:app=client")}
	n := withServer(t, client, unnamed("10.244.2.7", "172.30.0.12"))
	n.apply(cluster.NodeUpsert{Node: cluster.Node{Name: "node2", Addresses: []netip.Addr{ip("172.30.0.99")}}})
	require.Equal(t, datapath.IPCache{Identity: 300, Tunnel: ip("172.30.0.99")}, n.rows[engine.IPCache][pfx("10.244.2.7/32")], "it follows its node")

	n = withServer(t, client, unnamed("10.244.3.7", "172.30.0.13"))
	n.apply(cluster.NodeUpsert{Node: cluster.Node{Name: "node3", Addresses: []netip.Addr{ip("172.30.0.13")}}})
	n.apply(cluster.NodeUpsert{Node: cluster.Node{Name: "node3", Addresses: []netip.Addr{ip("172.30.0.33")}}})
	require.Equal(t, datapath.IPCache{Identity: 300, Tunnel: ip("172.30.0.33")}, n.rows[engine.IPCache][pfx("10.244.3.7/32")], "also if the node came later")

	n = withServer(t, client, unnamed("10.244.1.9", "172.30.0.11"))
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.1.9/32"), "of this node's own the attachments say more")
}

func TestSmallerNumberOfTheSameLabelsCounts(t *testing.T) {
	for _, order := range [][2]identity.ID{{300, 301}, {301, 300}} {
		n := newNode(t, newRegistry())
		n.apply(nodes()...)
		n.apply(pod("server", "server", "node1"))
		// The labels that the pod's identity will have.
		ls := cluster.PodLabels(pod("server", "server", "node1").Pod, nodes()[2].(cluster.NamespaceUpsert).Namespace)
		n.apply(cluster.IdentityUpsert{ID: order[0], Labels: ls}, cluster.IdentityUpsert{ID: order[1], Labels: ls},
			cluster.Synced{}, attach(1, "server", "10.244.1.5"))
		require.Equal(t, identity.ID(300), n.rows[engine.Endpoints][ip("10.244.1.5")].(datapath.Endpoint).Identity)
	}
}

// The cluster may delete the object of an identity that somebody still has: endpoints come after identities.
func TestIdentityInUseOutlivesItsObject(t *testing.T) {
	n := withServer(t, cluster.IdentityUpsert{ID: 300, Labels: setOf(t, "k8s:app=client")}, remote("client", 300, "10.244.2.7"),
		cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{Selector: selector(t, "app=client")})})
	n.apply(cluster.IdentityDelete{ID: 300})
	require.Equal(t, identity.ID(300), n.identityAt("10.244.2.7/32"))
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, 300, datapath.ProtoTCP, 80))
	n.apply(cluster.EndpointDelete{Name: cluster.Name{Namespace: "shop", Name: "client"}})
	require.Equal(t, "denied", n.verdict(1, datapath.Ingress, 300, datapath.ProtoTCP, 80))
}

// The kernel holds rows of the plan before, and events that name them are on their way, when the policies are
// planned anew: their cookies are still explained.
func TestNewPlanExplainsTheCookiesOfTheOld(t *testing.T) {
	p := allowFrom(t, "p", policy.Peer{CIDR: pfx("192.0.2.0/24")})
	n := withServer(t, cluster.PolicyUpsert{Policy: p})
	named := map[datapath.Cookie]string{}
	for _, row := range n.rows[engine.Policy] {
		c := row.(datapath.PolicyRow).Cookie
		v, ok := n.engine.Rule(c)
		require.True(t, ok)
		named[c] = v.String()
	}
	require.GreaterOrEqual(t, len(named), 2, "the rule's and the isolation's")
	n.apply(cluster.PolicyDelete{Ref: p.Ref})
	n.engine.Rebase(engine.Adopted{})
	for c, want := range named {
		v, ok := n.engine.Rule(c)
		require.True(t, ok, "%#x %s", uint32(c), want)
		require.Equal(t, want, v.String())
	}
}

// routed is a node of two families that reaches the other nodes' pods in some way, and knows one of them.
func routed(t *testing.T, r engine.Routing) *node {
	n := newNode(t, newRegistry())
	n.engine = engine.New("node1", engine.Adopted{}, n.now, engine.WithRouting(r))
	for i, name := range []string{"node1", "node2"} {
		a := func(format string) netip.Addr { return ip(fmt.Sprintf(format, i+1)) }
		n.apply(cluster.NodeUpsert{Node: cluster.Node{
			Name: name, Addresses: []netip.Addr{a("172.30.0.1%d"), a("2001:db8::1%d")},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(a("10.244.%d.0"), 24), netip.PrefixFrom(a("fd00:244:%d::"), 64)},
			Routers:  []netip.Addr{a("10.244.%d.1"), a("fd00:244:%d::1")},
		}})
	}
	n.apply(cluster.Synced{}, cluster.IdentityUpsert{ID: 300, Labels: setOf(t, "k8s:app=client")})
	n.apply(remote("four", 300, "10.244.2.7"), remote("six", 300, "fd00:244:2::7"))
	return n
}

func (n *node) sentTo(prefix string) datapath.IPCache {
	n.t.Helper()
	row, ok := n.rows[engine.IPCache][pfx(prefix)].(datapath.IPCache)
	require.True(n.t, ok, "no row for %s", prefix)
	return row
}

func TestNeighboursHaveTheirPodsWithoutATunnel(t *testing.T) {
	n := routed(t, engine.Direct)
	four, six := ip("172.30.0.12"), ip("2001:db8::12")
	require.Equal(t, datapath.IPCache{Identity: 300, NextHop: four}, n.sentTo("10.244.2.7/32"))
	require.Equal(t, datapath.IPCache{Identity: 300, NextHop: six}, n.sentTo("fd00:244:2::7/128"))
	require.Equal(t, datapath.IPCache{Identity: identity.RemoteNode}, n.sentTo("172.30.0.12/32"), "the stack knows the way")
	require.Equal(t, []engine.Route{
		{Prefix: pfx("10.244.2.0/24"), Via: four}, {Prefix: pfx("fd00:244:2::/64"), Via: six},
	}, n.rows[engine.Routes][nil])

	n.apply(cluster.NodeUpsert{Node: cluster.Node{
		Name: "node2", Addresses: []netip.Addr{four}, PodCIDRs: []netip.Prefix{pfx("10.244.2.0/24"), pfx("fd00:244:2::/64")},
	}})
	require.Equal(t, datapath.IPCache{Identity: 300}, n.sentTo("fd00:244:2::7/128"), "no neighbour of the family")
	require.Equal(t, []engine.Route{{Prefix: pfx("10.244.2.0/24"), Via: four}}, n.rows[engine.Routes][nil])
}

func TestNativeRoutingLeavesTheWayToOthers(t *testing.T) {
	n := routed(t, engine.Native)
	require.Equal(t, datapath.IPCache{Identity: 300}, n.sentTo("10.244.2.7/32"))
	require.Equal(t, datapath.IPCache{Identity: 300}, n.sentTo("fd00:244:2::7/128"))
	require.Equal(t, []engine.Route{}, n.rows[engine.Routes][nil])
}

// The cluster is told which directions policies isolate, when that changes and only then.
func TestIsolationIsPublished(t *testing.T) {
	n := withServer(t)
	name := cluster.Name{Namespace: "shop", Name: "server"}
	// tells are the publications since the last call.
	tells := func() (out []string) {
		for _, op := range n.log {
			if op.Table == engine.Published && op.Key == name {
				e := op.Row.(cluster.Endpoint)
				out = append(out, fmt.Sprint(e.EnforceIngress, e.EnforceEgress))
			}
		}
		n.log = nil
		return out
	}
	p := n.rows[engine.Published][name].(cluster.Endpoint)
	require.False(t, p.EnforceIngress || p.EnforceEgress)
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "a")})
	require.Equal(t, []string{"true false"}, tells())
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "b")}, cluster.PolicyUpsert{Policy: allowFrom(t, "a", policy.Peer{Entity: policy.EntityWorld})})
	require.Empty(t, tells(), "what is allowed is not published")
	both := allowFrom(t, "c")
	both.Specs[0].IsolateEgress = true
	n.apply(cluster.PolicyUpsert{Policy: both})
	require.Equal(t, []string{"true true"}, tells())
	n.apply(cluster.PolicyDelete{Ref: both.Ref})
	require.Equal(t, []string{"true false"}, tells())
	n.apply(cluster.PolicyDelete{Ref: allowFrom(t, "a").Ref}, cluster.PolicyDelete{Ref: allowFrom(t, "b").Ref})
	require.Equal(t, []string{"false false"}, tells())

	// A pod that comes under a policy, or leaves it, is published as it is then.
	n.apply(cluster.PolicyUpsert{Policy: allowFrom(t, "a")})
	tells()
	n.apply(pod("server", "other", "node1"))
	all := tells()
	require.NotEmpty(t, all)
	require.Equal(t, "false false", all[len(all)-1])
}
