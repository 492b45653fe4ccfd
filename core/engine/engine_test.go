package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

var (
	ip  = netip.MustParseAddr
	pfx = netip.MustParsePrefix
)

// node drives an engine and executes its operations on maps, answering requests for identities from
// a table that several nodes may share.
type node struct {
	t      *testing.T
	engine *engine.Engine
	rows   map[engine.Table]map[any]any
	log    []engine.Op
	now    time.Time
	ids    *registry
}

type registry struct {
	next identity.ID
	byID map[string]identity.ID
}

func newRegistry() *registry { return &registry{next: 256, byID: map[string]identity.ID{}} }

func (r *registry) get(ls labels.Set) identity.ID {
	id, ok := r.byID[ls.Key()]
	if !ok {
		id = r.next
		r.next++
		r.byID[ls.Key()] = id
	}
	return id
}

func newNode(t *testing.T, ids *registry, options ...engine.Option) *node {
	n := &node{t: t, rows: map[engine.Table]map[any]any{}, now: time.Unix(1.8e9, 0), ids: ids}
	n.engine = engine.New("node1", engine.Adopted{}, n.now, options...)
	return n
}

func (n *node) apply(evs ...engine.Event) {
	for _, ev := range evs {
		n.run(n.engine.Apply(n.now, ev))
	}
}

func (n *node) run(ops []engine.Op) {
	n.log = append(n.log, ops...)
	for _, op := range ops {
		if op.Table == engine.Identity {
			ls := op.Row.(labels.Set)
			n.apply(engine.Allocated{Labels: ls, ID: n.ids.get(ls)})
			continue
		}
		if n.rows[op.Table] == nil {
			n.rows[op.Table] = map[any]any{}
		}
		if op.Row == nil {
			delete(n.rows[op.Table], op.Key)
		} else {
			n.rows[op.Table][op.Key] = op.Row
		}
	}
}

// verdict asks the rows, as the kernel would.
func (n *node) verdict(ep datapath.EndpointID, dir datapath.Direction, peer identity.ID, proto uint8, port uint16) string {
	word, _ := n.rows[engine.EndpointPolicy][ep].(datapath.EndpointPolicy)
	if word.Policy == 0 {
		return "not ready"
	}
	class, _ := n.rows[engine.Classes][datapath.ClassKey{Generation: word.Policy.Generation(), Identity: peer}].(datapath.Class)
	for _, c := range []datapath.Class{class, 0} {
		best, row := -1, datapath.PolicyRow{}
		for k, v := range n.rows[engine.Policy] {
			key := k.(datapath.PolicyKey)
			if key.Policy != word.Policy || key.Class != c || key.Direction != dir || !key.Covers(proto, port) {
				continue
			}
			bits := 0
			if !key.AnyProto {
				bits = 1 + int(key.PortBits)
			}
			if bits > best {
				best, row = bits, v.(datapath.PolicyRow)
			}
		}
		if best >= 0 {
			if row.Allow {
				return "allowed"
			}
			return "denied"
		}
	}
	return "denied"
}

func selector(t *testing.T, text string) *labels.Selector {
	l, err := labels.Parse(text)
	require.NoError(t, err)
	s, err := labels.NewSelector(labels.Requirement{Source: l.Source, Key: l.Key, Operator: labels.In, Values: []string{l.Value}})
	require.NoError(t, err)
	return &s
}

// allowFrom isolates app=server and lets peers in on TCP 80.
func allowFrom(t *testing.T, name string, peers ...policy.Peer) policy.Policy {
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: name}
	return policy.Policy{Ref: ref, Specs: []policy.Spec{{
		Subject: *selector(t, "app=server"), IsolateIngress: true,
		Rules: []policy.Rule{{
			Ref:   policy.RuleRef{Policy: ref, Direction: datapath.Ingress, Path: "ingress[0]"},
			Peers: peers,
			Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 80, Last: 80}},
		}},
	}}}
}

func pod(name, app, on string) cluster.PodUpsert {
	return cluster.PodUpsert{Pod: cluster.Pod{Name: cluster.Name{Namespace: "shop", Name: name}, Node: on, Labels: map[string]string{"app": app}}}
}

func attach(id datapath.EndpointID, name, addr string) engine.Attach {
	return engine.Attach{Pod: cluster.Name{Namespace: "shop", Name: name}, ID: id, Ifindex: 100 + uint32(id), IPs: []netip.Addr{ip(addr)}}
}

func nodes() []engine.Event {
	return []engine.Event{
		cluster.NodeUpsert{Node: cluster.Node{Name: "node1", Addresses: []netip.Addr{ip("172.30.0.11")},
			PodCIDRs: []netip.Prefix{pfx("10.244.1.0/24")}, Routers: []netip.Addr{ip("10.244.1.1")}}},
		cluster.NodeUpsert{Node: cluster.Node{Name: "node2", Addresses: []netip.Addr{ip("172.30.0.12")},
			PodCIDRs: []netip.Prefix{pfx("10.244.2.0/24")}, Routers: []netip.Addr{ip("10.244.2.1")}}},
		cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}}},
	}
}

func remote(name string, id identity.ID, addr string) cluster.EndpointUpsert {
	return cluster.EndpointUpsert{Endpoint: cluster.Endpoint{Name: cluster.Name{Namespace: "shop", Name: name},
		Identity: id, IPs: []netip.Addr{ip(addr)}, Node: "node2", NodeIP: ip("172.30.0.12")}}
}

func TestNothingIsWrittenBeforeTheListsAreComplete(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	require.Empty(t, n.log)
	require.False(t, n.engine.Live())
	n.apply(cluster.Synced{})
	require.True(t, n.engine.Live())
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, identity.World, datapath.ProtoTCP, 80))
}

func TestEndpointBecomesReachableAfterItsPolicy(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"))
	n.log = nil
	n.apply(attach(1, "server", "10.244.1.5"))
	at := map[engine.Table]int{}
	for i, op := range n.log {
		at[op.Table] = i
	}
	require.Less(t, at[engine.EndpointPolicy], at[engine.Endpoints])
	require.Less(t, at[engine.Endpoints], at[engine.Published])
	ep := n.rows[engine.Endpoints][ip("10.244.1.5")].(datapath.Endpoint)
	require.Equal(t, datapath.Endpoint{ID: 1, Identity: 256, Ifindex: 101}, ep)
	require.Equal(t, datapath.IPCache{Identity: 256}, n.rows[engine.IPCache][pfx("10.244.1.5/32")])
}

func TestAttachedPodThatIsNotKnownYetHasNoPolicy(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, attach(1, "server", "10.244.1.5"))
	require.Equal(t, "not ready", n.verdict(1, datapath.Ingress, identity.Host, datapath.ProtoTCP, 80))
	require.NotContains(t, n.rows[engine.Endpoints], ip("10.244.1.5"))
	n.apply(pod("server", "server", "node1"))
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, identity.Host, datapath.ProtoTCP, 80))
}

func TestRemoteEndpointHasNoRowBeforeItsIdentityIsKnown(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, remote("client", 300, "10.244.2.7"))
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.2.7/32"))
	ls, err := labels.ParseSet("k8s:app=client", "k8s:io.kubernetes.pod.namespace=shop")
	require.NoError(t, err)
	n.apply(cluster.IdentityUpsert{ID: 300, Labels: ls})
	require.Equal(t, datapath.IPCache{Identity: 300, Tunnel: ip("172.30.0.12")}, n.rows[engine.IPCache][pfx("10.244.2.7/32")])
}

func TestAddressMovesToItsLatestClaimAndBack(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	a, _ := labels.ParseSet("k8s:app=a")
	b, _ := labels.ParseSet("k8s:app=b")
	n.apply(cluster.Synced{}, cluster.IdentityUpsert{ID: 300, Labels: a}, cluster.IdentityUpsert{ID: 301, Labels: b})
	n.apply(remote("a", 300, "10.244.2.7"), remote("b", 301, "10.244.2.7"))
	require.Equal(t, identity.ID(301), n.rows[engine.IPCache][pfx("10.244.2.7/32")].(datapath.IPCache).Identity)
	n.apply(cluster.EndpointDelete{Name: cluster.Name{Namespace: "shop", Name: "b"}})
	require.Equal(t, identity.ID(300), n.rows[engine.IPCache][pfx("10.244.2.7/32")].(datapath.IPCache).Identity)
	n.apply(cluster.EndpointDelete{Name: cluster.Name{Namespace: "shop", Name: "a"}})
	require.NotContains(t, n.rows[engine.IPCache], pfx("10.244.2.7/32"))
	require.Equal(t, engine.Op{Table: engine.AddrEpoch, Key: ip("10.244.2.7")}, n.log[len(n.log)-1], "flows to it are judged anew")
}

func TestPrefixIsKnownBeforeThePolicyThatNamesIt(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"))
	n.log = nil
	p := allowFrom(t, "cidr", policy.Peer{CIDR: pfx("192.0.2.0/24"), Except: []netip.Prefix{pfx("192.0.2.128/25")}})
	n.apply(cluster.PolicyUpsert{Policy: p})
	cache, word := -1, -1
	for i, op := range n.log {
		switch op.Table {
		case engine.IPCache:
			cache = i
		case engine.EndpointPolicy:
			word = i
		}
	}
	require.NotEqual(t, -1, cache)
	require.Less(t, cache, word)
	in := n.rows[engine.IPCache][pfx("192.0.2.0/24")].(datapath.IPCache).Identity
	out := n.rows[engine.IPCache][pfx("192.0.2.128/25")].(datapath.IPCache).Identity
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, in, datapath.ProtoTCP, 80))
	require.Equal(t, "denied", n.verdict(1, datapath.Ingress, out, datapath.ProtoTCP, 80))
	require.Equal(t, "denied", n.verdict(1, datapath.Ingress, identity.WorldIPv4, datapath.ProtoTCP, 80))

	n.apply(cluster.PolicyDelete{Ref: p.Ref})
	require.NotContains(t, n.rows[engine.IPCache], pfx("192.0.2.0/24"))
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, identity.WorldIPv4, datapath.ProtoTCP, 80))
}

func TestRelabelledPodGetsItsPolicyAndANewEpoch(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("x", "other", "node1"), attach(1, "x", "10.244.1.5"),
		cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{Entity: policy.EntityHost})})
	before := n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, identity.World, datapath.ProtoTCP, 80))

	n.apply(pod("x", "server", "node1"))
	after := n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.Equal(t, "denied", n.verdict(1, datapath.Ingress, identity.World, datapath.ProtoTCP, 80))
	require.Greater(t, after.Epoch, before.Epoch)

	// Labels that no policy looks at: same policy, but its flows carry another identity.
	n.apply(pod("x", "server", "node1"))
	same := n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.Equal(t, after, same, "repeating changes nothing")
	relabelled := pod("x", "server", "node1")
	relabelled.Pod.Labels["colour"] = "blue"
	n.apply(relabelled)
	again := n.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.Equal(t, after.Policy, again.Policy)
	require.Greater(t, again.Epoch, after.Epoch)
}

func TestNewIdentityOfAKnownClassCostsOneWord(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{}, pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"),
		cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{Selector: selector(t, "role=client")})})
	learn := func(id identity.ID) []engine.Op {
		ls, err := labels.ParseSet("k8s:role=client", fmt.Sprintf("k8s:n=%d", id))
		require.NoError(t, err)
		n.log = nil
		n.apply(cluster.IdentityUpsert{ID: id, Labels: ls})
		return n.log
	}
	learn(300)
	ops := learn(301)
	require.Len(t, ops, 1)
	require.Equal(t, engine.Classes, ops[0].Table)
	require.Equal(t, "allowed", n.verdict(1, datapath.Ingress, 301, datapath.ProtoTCP, 80))
}

func TestRoutesFollowTheNodes(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{})
	require.Equal(t, []engine.Route{{Prefix: pfx("10.244.2.0/24"), Source: ip("10.244.1.1")}}, n.rows[engine.Routes][nil])
	n.apply(cluster.NodeDelete{Name: "node2"})
	require.Equal(t, []engine.Route{}, n.rows[engine.Routes][nil])
	require.NotContains(t, n.rows[engine.Nodes], ip("172.30.0.12"))
}

func TestRestartBuildsAGenerationBesideTheOld(t *testing.T) {
	ids := newRegistry()
	old := newNode(t, ids)
	input := append(nodes(), cluster.PolicyUpsert{Policy: allowFrom(t, "p",
		policy.Peer{Selector: selector(t, "app=client")}, policy.Peer{CIDR: pfx("192.0.2.0/24")})},
		pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"), cluster.Synced{})
	old.apply(input...)
	oldWord := old.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)

	a := engine.Adopted{
		EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{1: oldWord},
		IPCache:        map[netip.Prefix]datapath.IPCache{},
		Classes:        map[datapath.ClassKey]datapath.Class{},
	}
	for k, v := range old.rows[engine.IPCache] {
		a.IPCache[k.(netip.Prefix)] = v.(datapath.IPCache)
	}
	for k, v := range old.rows[engine.Classes] {
		a.Classes[k.(datapath.ClassKey)] = v.(datapath.Class)
	}
	for k := range old.rows[engine.Policy] {
		a.MaxSerial = max(a.MaxSerial, uint32(k.(datapath.PolicyKey).Policy)&datapath.MaxPolicySerial)
	}
	young := newNode(t, ids)
	young.engine = engine.New("node1", a, young.now)
	young.rows = old.rows // the same kernel
	for _, ev := range input {
		if at, ok := ev.(engine.Attach); ok {
			at.Restored = true
			ev = at
		}
		young.apply(ev)
	}
	word := young.rows[engine.EndpointPolicy][datapath.EndpointID(1)].(datapath.EndpointPolicy)
	require.NotEqual(t, oldWord.Policy.Generation(), word.Policy.Generation())
	require.Greater(t, word.Epoch, oldWord.Epoch)
	// Until that switch the old generation was complete: its rows were not touched.
	for _, op := range young.log {
		if op.Table == engine.EndpointPolicy {
			break
		}
		if k, ok := op.Key.(datapath.PolicyKey); ok {
			require.NotEqual(t, oldWord.Policy, k.Policy, "row of the policy in force rewritten: %v", k)
		}
	}
	require.Equal(t, a.IPCache[pfx("192.0.2.0/24")], young.rows[engine.IPCache][pfx("192.0.2.0/24")], "prefixes keep their numbers")
	require.Equal(t, "denied", young.verdict(1, datapath.Ingress, identity.World, datapath.ProtoTCP, 80))
}

func TestRestartWaitsForTheIdentityOfARestoredEndpoint(t *testing.T) {
	e := engine.New("node1", engine.Adopted{}, time.Unix(1.8e9, 0))
	now := time.Unix(1.8e9, 0)
	for _, ev := range nodes() {
		e.Apply(now, ev)
	}
	e.Apply(now, pod("server", "server", "node1"))
	at := attach(1, "server", "10.244.1.5")
	at.Restored = true
	e.Apply(now, at)
	ops := e.Apply(now, cluster.Synced{})
	require.Len(t, ops, 1)
	require.Equal(t, engine.Identity, ops[0].Table)
	require.False(t, e.Live(), "what is in force stays until its replacement is complete")
	e.Apply(now, engine.Allocated{Labels: ops[0].Row.(labels.Set), ID: 256})
	require.True(t, e.Live())
}

func TestEmptyClusterLeavesEmptyTables(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	ls, _ := labels.ParseSet("k8s:app=client")
	svc := lb.Service{Name: lb.Name{Namespace: "shop", Name: "s"}, Frontends: []lb.Frontend{{Addr: ip("10.96.0.1"), Port: 80, Proto: 6, Type: lb.ClusterIP}}}
	n.apply(cluster.Synced{}, cluster.IdentityUpsert{ID: 300, Labels: ls}, remote("client", 300, "10.244.2.7"),
		pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"),
		cluster.PolicyUpsert{Policy: allowFrom(t, "p", policy.Peer{Selector: selector(t, "app=client")}, policy.Peer{CIDR: pfx("192.0.2.0/24")})},
		cluster.ServiceUpsert{Service: svc}, cluster.BackendsUpsert{Slice: lb.Slice{Service: svc.Name, Name: "a", Backends: []lb.Backend{{Addr: ip("10.244.1.5"), Port: 80, Proto: 6, Weight: 1}}}})
	for _, table := range []engine.Table{engine.Endpoints, engine.EndpointPolicy, engine.IPCache, engine.Classes, engine.Policy,
		engine.Nodes, engine.Services, engine.Slots, engine.Backends, engine.Published} {
		require.NotEmpty(t, n.rows[table], table.String())
	}
	n.apply(cluster.BackendsDelete{Service: svc.Name, Slice: "a"}, cluster.ServiceDelete{Name: svc.Name},
		cluster.PolicyDelete{Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "p"}},
		engine.Detach{ID: 1}, cluster.PodDelete{Name: cluster.Name{Namespace: "shop", Name: "server"}},
		cluster.EndpointDelete{Name: cluster.Name{Namespace: "shop", Name: "client"}}, cluster.IdentityDelete{ID: 300},
		cluster.IdentityDelete{ID: 256}, cluster.NodeDelete{Name: "node2"}, cluster.NodeDelete{Name: "node1"})
	for table, rows := range n.rows {
		if table != engine.Routes {
			require.Empty(t, rows, table.String())
		}
	}
}

func TestPodThatMovedHereKeepsItsNamedPorts(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(nodes()...)
	n.apply(cluster.Synced{})
	web := []policy.NamedPort{{Name: "web", Proto: datapath.ProtoTCP, Port: 8080}}
	moved := pod("client", "client", "node1")
	moved.Pod.Ports = web
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "out"}
	n.apply(pod("server", "server", "node1"), attach(1, "server", "10.244.1.5"), moved, attach(2, "client", "10.244.1.6"),
		cluster.PolicyUpsert{Policy: policy.Policy{Ref: ref, Specs: []policy.Spec{{
			Subject: *selector(t, "app=server"), IsolateEgress: true,
			Rules: []policy.Rule{{Ref: policy.RuleRef{Policy: ref, Direction: datapath.Egress, Path: "egress[0]"},
				AnyPeer: true, Ports: []policy.Port{{Proto: datapath.ProtoTCP, Name: "web"}}}},
		}}}})
	id := n.rows[engine.Endpoints][ip("10.244.1.6")].(datapath.Endpoint).Identity
	require.Equal(t, "allowed", n.verdict(1, datapath.Egress, id, datapath.ProtoTCP, 8080))
	there := remote("client", id, "10.244.2.9")
	there.Endpoint.Ports = web
	n.apply(there, cluster.EndpointDelete{Name: there.Endpoint.Name})
	require.Equal(t, "allowed", n.verdict(1, datapath.Egress, id, datapath.ProtoTCP, 8080), "its former node withdrew it")
}

// A pod of the same name may come before its predecessor is gone. What the new one published stays.
func TestPredecessorOfTheSameName(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(cluster.NodeUpsert{Node: cluster.Node{Name: "node1", Addresses: []netip.Addr{ip("192.168.0.1")}}},
		pod("web-0", "web", "node1"), cluster.Synced{})
	n.apply(engine.Attach{Pod: cluster.Name{Namespace: "shop", Name: "web-0"}, ID: 1, UID: "first", Ifindex: 11, IPs: []netip.Addr{ip("10.0.0.1")}})
	n.apply(engine.Attach{Pod: cluster.Name{Namespace: "shop", Name: "web-0"}, ID: 2, UID: "second", ContainerID: "c", Ifindex: 12, IPs: []netip.Addr{ip("10.0.0.2")}})
	n.apply(engine.Detach{ID: 1})
	e, ok := n.rows[engine.Published][cluster.Name{Namespace: "shop", Name: "web-0"}].(cluster.Endpoint)
	require.True(t, ok)
	assert.Equal(t, uint16(2), e.ID)
	assert.Equal(t, []string{"second", "c"}, []string{e.UID, e.ContainerID})
	n.apply(engine.Detach{ID: 2})
	assert.Empty(t, n.rows[engine.Published])
}
