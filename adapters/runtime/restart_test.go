package runtime_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/fakes/kernel"
)

// watched is a cluster whose traffic is checked after every single write of an agent.
type watched struct {
	*fakes.Cluster
	tr     atomic.Pointer[traffic]
	writes atomic.Int64
	wrong  atomic.Pointer[string]
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{}
	w.Cluster = newCluster(t, fakes.Options{OnWrite: w.check})
	apply(t, w.Cluster, shop+"---"+guard)
	w.tr.Store(openTraffic(t, w.Cluster))
	return w
}

func (w *watched) check(at fakes.Write) {
	w.writes.Add(1)
	tr := w.tr.Load()
	if tr == nil || w.wrong.Load() != nil {
		return
	}
	if wrong := tr.wrong(); wrong != "" {
		s := fmt.Sprintf("after %+v: %s", at, wrong)
		w.wrong.Store(&s)
	}
}

func (w *watched) require(t *testing.T, when string) {
	t.Helper()
	if s := w.wrong.Load(); s != nil {
		t.Fatalf("%s: %s", when, *s)
	}
	require.Empty(t, w.tr.Load().wrong(), when)
}

// dead waits until a doomed agent has died; false if it lives and has nothing more to do.
func (w *watched) dead(t *testing.T, node string) bool {
	t.Helper()
	if err := w.AwaitAgent(t.Context(), node); err == nil {
		require.NoError(t, w.Reconcile(t.Context()))
	}
	return w.Node(node).Agent() == nil
}

// An agent is killed before its first, second, … write, each time with another policy to put in force
// than the one that its predecessors could not finish. No write may open or cut anything.
func TestKilledAtEveryWriteOfItsStart(t *testing.T) {
	w := newWatched(t)
	guards := []string{guard, otherGuard}
	n := 0
	for ; ; n++ {
		require.NoError(t, w.KillAgent("node1"))
		w.Objects().Apply([]byte(guards[n%2]))
		w.LaunchDoomed("node1", n)
		died := w.dead(t, "node1")
		w.require(t, fmt.Sprintf("killed at write %d", n))
		if !died {
			break
		}
		require.Less(t, n, 1000, "the agent never gets through")
	}
	t.Logf("%d starts, %d writes checked", n+1, w.writes.Load())
	require.Greater(t, n, 10, "a start is more than a few writes")
	require.NoError(t, w.KillAgent("node1"))
	w.Objects().Apply([]byte(guard))
	require.NoError(t, w.StartAgent("node1"))
	w.require(t, "at the end")
	requireLikeFresh(t, w.Cluster, shop+"---"+guard)
}

// The same while it carries out a change.
func TestKilledAtEveryWriteOfAChange(t *testing.T) {
	w := newWatched(t)
	guards := []string{otherGuard, guard}
	n := 0
	for ; ; n++ {
		w.Doom("node1", n)
		w.Objects().Apply([]byte(guards[n%2]))
		died := w.dead(t, "node1")
		w.require(t, fmt.Sprintf("killed at write %d", n))
		require.NoError(t, w.StartAgent("node1"))
		w.require(t, fmt.Sprintf("started after it was killed at write %d", n))
		if !died {
			break
		}
		require.Less(t, n, 1000, "the agent never gets through")
	}
	t.Logf("%d kills, %d writes checked", n, w.writes.Load())
	require.Greater(t, n, 5, "a change is more than a few writes")
	w.Doom("node1", -1)
	apply(t, w.Cluster, otherGuard)
	requireLikeFresh(t, w.Cluster, shop+"---"+otherGuard)
}

// Prefixes of rules come and go between the agent's lives. Who is inside one changes its identity with
// them, and must never be without the class that its rules are about.
func TestKilledAtEveryWriteWithPrefixes(t *testing.T) {
	w := newWatched(t)
	apply(t, w.Cluster, otherGuard)
	tr := openTraffic(t, w.Cluster)
	conn, a, trace := w.Open(fakes.Outside, "shop/db", 5432, tcp)
	require.True(t, a.Connected, "%s", trace)
	tr.conns["outside to shop/db"] = conn
	w.tr.Store(tr)
	const narrow = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: narrow, namespace: default}
spec:
  podSelector: {matchLabels: {app: stranger}}
  ingress: [{from: [{ipBlock: {cidr: 172.30.0.0/28}}]}]
`
	n := 0
	for ; ; n++ {
		require.NoError(t, w.KillAgent("node1"))
		if n%2 == 0 {
			w.Objects().Apply([]byte(narrow))
		} else {
			w.Objects().Delete(keyOf("NetworkPolicy", "default", "narrow"))
		}
		w.LaunchDoomed("node1", n)
		died := w.dead(t, "node1")
		w.require(t, fmt.Sprintf("killed at write %d", n))
		if !died {
			break
		}
		require.Less(t, n, 1000, "the agent never gets through")
	}
	require.Greater(t, n, 10)
}

// Classes are numbered anew in every life of the agent, and the strangers are in one only every other
// time. What a life left behind that did not put its policies in force must not be taken for the next
// one's.
func TestKilledAtEveryWriteWithOtherClasses(t *testing.T) {
	w := newWatched(t)
	const strangers = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: aa, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]
  - from: [{podSelector: {}}]
`
	n := 0
	for ; ; n++ {
		require.NoError(t, w.KillAgent("node1"))
		if n%2 == 0 {
			w.Objects().Apply([]byte(strangers))
		} else {
			w.Objects().Delete(keyOf("NetworkPolicy", "shop", "aa"))
		}
		w.LaunchDoomed("node1", n)
		died := w.dead(t, "node1")
		w.require(t, fmt.Sprintf("killed at write %d", n))
		if !died {
			break
		}
		require.Less(t, n, 1000, "the agent never gets through")
	}
	require.Greater(t, n, 10)
}

// Agents die one after the other when they have put in force all of their policies but some, each time one
// less, until every generation of classes is in force. The next one has to take one from endpoints that use it, which may
// interrupt them, and must not open them.
func TestKilledUntilAllGenerationsAreInForce(t *testing.T) {
	var c *fakes.Cluster
	var left atomic.Int64 // policies that the agent puts in force before it dies
	var wrong atomic.Pointer[string]
	most := 0
	c = newCluster(t, fakes.Options{OnWrite: func(at fakes.Write) {
		if left.Load() <= 0 || at.Node != "node1" {
			return
		}
		if at.Op == "put" && at.Table == "ep_policy" && left.Add(-1) == 0 {
			c.Doom("node1", 0)
		}
		for _, from := range []string{"default/stranger", "default/neighbour"} {
			if a, trace := c.Dial(from, "shop/db", 5432, tcp); a.Connected || a.Refused {
				s := fmt.Sprintf("after %+v: %s reaches shop/db: %s", at, from, trace)
				wrong.CompareAndSwap(nil, &s)
			}
		}
	}})
	docs := shop
	for i := range 4 {
		docs += fmt.Sprintf("---\n{apiVersion: v1, kind: Pod, metadata: {name: more-%d, namespace: shop}, spec: {nodeName: node1}}\n", i)
	}
	apply(t, c, docs, guard)
	n := c.Node("node1")
	const one, other = "{matchLabels: {app: web}}", "{}"
	for i := range 6 {
		require.NoError(t, c.KillAgent("node1"))
		left.Store(int64(6 - i))
		// Strangers are peers only every other time.
		c.Objects().Apply([]byte(fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: aa, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {}, podSelector: %s}]}]}
`, []string{one, other}[i%2])))
		c.Launch("node1")
		require.Error(t, c.AwaitAgent(t.Context(), "node1"))
		words, err := n.Kernel.Tables().EndpointPolicy.Dump()
		require.NoError(t, err)
		generations := map[uint8]bool{}
		for _, w := range words {
			generations[w.Value.Policy.Generation()] = true
		}
		most = max(most, len(generations))
		if s := wrong.Load(); s != nil {
			t.Fatal(*s)
		}
	}
	require.Equal(t, datapath.GenerationCount, most)
	left.Store(0)
	require.NoError(t, c.StartAgent("node1"))
	require.Empty(t, openTraffic(t, c).wrong())
}

// The cluster's events come one by one, and in doubt the agent waits with what it found.
func TestRestartTakesNothingBackBeforeSynced(t *testing.T) {
	w := newWatched(t)
	n := w.Node("node1")
	require.NoError(t, w.KillAgent("node1"))
	before := tablesOf(n.Kernel)
	n.Source.Hold()
	w.Launch("node1")
	eventually(t, "the agent watches", func() bool { return n.Source.Pending() > 0 })
	for n.Source.Pending() > 1 { // the last one is Synced
		n.Source.Release(1)
		eventually(t, "the event is delivered", n.Source.Idle)
		require.Error(t, n.Agent().Ready(t.Context()))
		require.Equal(t, before, tablesOf(n.Kernel))
		w.require(t, "before Synced")
	}
	n.Source.Flow()
	require.NoError(t, w.AwaitAgent(t.Context(), "node1"))
	require.NoError(t, w.Settle())
	w.require(t, "after Synced")
	requireLikeFresh(t, w.Cluster, shop+"---"+guard)
}

// A pod was relabelled while the agent was away, and its new identity is not to be had yet: it goes on
// under the policy of before.
func TestRestartWaitsForTheIdentitiesOfItsEndpoints(t *testing.T) {
	w := newWatched(t)
	n := w.Node("node1")
	require.NoError(t, w.KillAgent("node1"))
	n.Source.Fail(faultOf(objects.OpAllocate, 0))
	apply(t, w.Cluster, relabel("web", "node1", "web, version: two"))
	w.Launch("node1")
	eventually(t, "everything is delivered", n.Source.Idle)
	require.ErrorContains(t, n.Agent().Ready(t.Context()), "not complete yet")
	w.require(t, "without identity")
	n.Source.ClearFaults()
	require.NoError(t, w.AwaitAgent(t.Context(), "node1"))
	require.NoError(t, w.Settle())
	w.require(t, "with the new identity")
	list, err := n.Agent().Endpoints(t.Context())
	require.NoError(t, err)
	require.Contains(t, strings.Join(list[2].Labels, " "), "version=two")
}

// What changed while the agent was away is in force when it is back.
func TestRestartCatchesUp(t *testing.T) {
	w := newWatched(t)
	require.NoError(t, w.KillAgent("node1"))
	_, err := w.Delete("{apiVersion: v1, kind: Pod, metadata: {name: neighbour, namespace: default}}")
	require.NoError(t, err)
	w.tr.Load().conns = map[string]*kernel.Conn{}
	w.tr.Store(nil)
	_, err = w.Apply(strings.ReplaceAll(guard, "app: web", "app: stranger"))
	require.NoError(t, err)
	_, err = w.Apply(`{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: shop}, spec: {nodeName: node1}}`)
	require.NoError(t, err, "it waits for the agent")
	require.False(t, w.Pod("shop/late").Running)

	require.NoError(t, w.StartAgent("node1"))
	require.True(t, w.Pod("shop/late").Running)
	require.False(t, w.Probe("shop/web", "shop/db", 5432, "TCP").Allowed)
	require.False(t, w.Probe("default/stranger", "shop/db", 5432, "TCP").Allowed, "it is of another namespace")
	require.True(t, w.Probe("shop/late", "shop/api", 80, "TCP").Allowed)
	list, err := w.Node("node1").Agent().Endpoints(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 3, "web, db, late")
}

// requireLikeFresh compares the tables of all nodes with those of agents that did it all at once.
func requireLikeFresh(t *testing.T, c *fakes.Cluster, docs string) {
	t.Helper()
	fresh := newCluster(t, fakes.Options{})
	apply(t, fresh, docs)
	for _, n := range c.Nodes() {
		require.Equal(t, tablesOf(fresh.Node(n.Name).Kernel), tablesOf(n.Kernel), "tables of %s", n.Name)
	}
}

// tablesOf writes what the tables mean: numbers that an agent may choose freely (policy ids, classes,
// epochs, ids of services and backends, identities of prefixes) are replaced by what they stand for.
// Rows without meaning show in the number of rows at the end.
func tablesOf(k *kernel.Kernel) string {
	t := k.Tables()
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	prefixes := map[identity.ID]string{}
	ipcache, _ := t.IPCache.Dump()
	for _, r := range ipcache {
		if r.Value.Identity.IsLocal() {
			prefixes[r.Value.Identity] = "prefix " + r.Key.String()
		}
	}
	name := func(id identity.ID) string {
		if s, ok := prefixes[id]; ok {
			return s
		}
		return id.String()
	}
	for _, r := range ipcache {
		say("ipcache %s %s %v", r.Key, name(r.Value.Identity), r.Value.Tunnel)
	}
	endpoints, _ := t.Endpoints.Dump()
	for _, r := range endpoints {
		say("endpoint %s %+v", r.Key, r.Value)
	}
	nodes, _ := t.Nodes.Dump()
	for _, r := range nodes {
		say("node %s", r.Key)
	}
	classes, _ := t.Classes.Dump()
	rows, _ := t.Policy.Dump()
	words, _ := t.EndpointPolicy.Dump()
	for _, w := range words {
		for _, r := range rows {
			if r.Key.Policy != w.Value.Policy {
				continue
			}
			peers := []string{}
			for _, m := range classes {
				if m.Key.Generation == r.Key.Policy.Generation() && m.Value == r.Key.Class {
					peers = append(peers, name(m.Key.Identity))
				}
			}
			slices.Sort(peers)
			key := r.Key
			key.Policy, key.Class = 0, min(key.Class, 1)
			say("policy of %d: %v %v %+v", w.Key, peers, key, r.Value)
		}
	}
	services, _ := t.Services.Dump()
	for _, s := range services {
		var to []string
		for i := uint32(1); i <= s.Value.Count; i++ {
			id, _ := t.Slots.Get(datapath.SlotKey{Service: s.Value.ID, Slot: i})
			b, _ := t.Backends.Get(id)
			to = append(to, netip.AddrPortFrom(b.Addr, b.Port).String())
		}
		slices.Sort(to)
		say("service %s affinity %d: %v", s.Key, s.Value.AffinityTimeout, to)
	}
	allSlots, _ := t.Slots.Dump()
	allBackends, _ := t.Backends.Dump()
	say("rows: %d of classes, %d of policy, %d of slots, %d of backends", len(classes), len(rows), len(allSlots), len(allBackends))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
