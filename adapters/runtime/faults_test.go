package runtime_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/clock"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

var errAway = errors.New("the store is away")

func faultOf(op objects.Op, times int) objects.Fault {
	return objects.Fault{Op: op, Err: errAway, Times: times}
}

// Any write may fail for a while. The traffic goes on, and in the end everything is in its place.
func TestFailingWritesAreTriedAgain(t *testing.T) {
	var failures atomic.Int64
	w := newWatched(t)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range w.Nodes() {
		n.Kernel.Fail(func(op, table string, _ any) error {
			mu.Lock()
			defer mu.Unlock()
			if op != "put" && op != "delete" && op != "bump" || r.IntN(15) != 0 {
				return nil
			}
			failures.Add(1)
			return []error{syscall.EBUSY, syscall.ENOMEM, syscall.E2BIG}[r.IntN(3)]
		})
	}
	for i := range 4 {
		extra := fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: extra-%d, namespace: shop, labels: {app: extra, n: "%d"}}
spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}
---
{apiVersion: v1, kind: Service, metadata: {name: extra, namespace: shop}, spec: {clusterIP: 10.96.0.20, selector: {app: extra}, ports: [{port: 80}]}}
`, i, i)
		apply(t, w.Cluster, otherGuard+"---"+extra, guard)
		w.require(t, "under failures")
	}
	require.NoError(t, w.KillAgent("node1"))
	require.NoError(t, w.StartAgent("node1"))
	w.require(t, "after a restart under failures")
	require.Positive(t, failures.Load())
	for _, n := range w.Nodes() {
		n.Kernel.Fail(nil)
	}
	for i := range 4 {
		_, err := w.Delete(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: extra-%d, namespace: shop}}", i))
		require.NoError(t, err)
	}
	_, err := w.Delete("{apiVersion: v1, kind: Service, metadata: {name: extra, namespace: shop}}")
	require.NoError(t, err)
	requireLikeFresh(t, w.Cluster, shop+"---"+guard)
}

// manyPorts does not fit into a small policy table if they are too many.
func manyPorts(n int, peers string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: many, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [%s]
    ports:
`, peers)
	for i := range n {
		fmt.Fprintf(&b, "    - {port: %d}\n", 10000+7*i)
	}
	return b.String()
}

func TestFullPolicyTableKeepsTheLastCompletePolicy(t *testing.T) {
	clk := clock.New(time.Time{})
	c := newCluster(t, fakes.Options{Capacities: kernel.Capacities{Policy: 40}, Clock: clk, Patience: 300 * time.Millisecond})
	apply(t, c, shop+"---"+guard)
	tr := openTraffic(t, c)

	_, err := c.Apply(manyPorts(100, "{namespaceSelector: {}}, {ipBlock: {cidr: 172.30.0.0/28}}"))
	require.ErrorContains(t, err, "not-ready")
	require.Empty(t, tr.wrong(), "the old policy is complete")
	require.False(t, c.Probe("default/stranger", "shop/db", 10000, "TCP").Allowed, "the new one is not half in force")
	s, err := c.Node("node1").Agent().Status(t.Context())
	require.NoError(t, err)
	require.False(t, s.Healthy)
	row := problemOf(s, "policy")
	require.Positive(t, row.Pending)
	require.Contains(t, row.Error, "{policy ", "the row is named")
	require.Contains(t, row.Error, ports.ErrFull.Error())
	list, err := c.Node("node1").Agent().Endpoints(t.Context())
	require.NoError(t, err)
	for _, e := range list {
		require.Equal(t, "not-ready", e.State)
	}

	// New endpoints are refused with the reason.
	_, err = c.Apply(lateObject)
	require.ErrorContains(t, err, "writes to the kernel are waiting")
	require.ErrorContains(t, err, ports.ErrFull.Error())
	require.Empty(t, tr.wrong())

	// Restarted while full, the agent still cannot, and still does no harm.
	require.NoError(t, c.KillAgent("node1"))
	require.Error(t, c.StartAgent("node1"))
	require.Empty(t, tr.wrong())

	c.Objects().Delete(keyOf("NetworkPolicy", "shop", "many"))
	eventually(t, "the agent recovers", func() bool {
		clk.Advance(5 * time.Second)
		return c.Reconcile(within(t, 50*time.Millisecond)) == nil
	})
	require.Empty(t, tr.wrong())
	require.True(t, c.Pod("shop/late").Running)
	s, err = c.Node("node1").Agent().Status(t.Context())
	require.NoError(t, err)
	require.True(t, s.Healthy, s.Problems)
}

// Half-written rows of a policy that does not fit are cleared away, so that one that fits finds room.
func TestFullPolicyTableMakesRoomForWhatFits(t *testing.T) {
	clk := clock.New(time.Time{})
	c := newCluster(t, fakes.Options{Capacities: kernel.Capacities{Policy: 40}, Clock: clk, Patience: 300 * time.Millisecond})
	apply(t, c, shop+"---"+guard)
	_, err := c.Apply(manyPorts(100, "{namespaceSelector: {}}, {ipBlock: {cidr: 172.30.0.0/28}}"))
	require.Error(t, err)
	c.Objects().Apply([]byte(manyPorts(3, "{namespaceSelector: {}}")))
	eventually(t, "what fits is in force", func() bool {
		clk.Advance(5 * time.Second)
		return c.Reconcile(within(t, 50*time.Millisecond)) == nil
	})
	require.True(t, c.Probe("default/stranger", "shop/db", 10007, "TCP").Allowed)
	require.False(t, c.Probe("default/stranger", "shop/db", 5432, "TCP").Allowed)
	require.True(t, c.Probe("shop/web", "shop/db", 5432, "TCP").Allowed)
	requireLikeFresh(t, c, shop+"---"+guard+"---"+manyPorts(3, "{namespaceSelector: {}}"))
}

func problemOf(s ports.Status, table string) ports.TableStatus {
	for _, t := range s.Tables {
		if strings.HasPrefix(t.Name, table) && t.Error != "" {
			return t
		}
	}
	return ports.TableStatus{}
}

// Services that don't fit wait; the others work.
func TestFullServiceTableHoldsUpNobodyElse(t *testing.T) {
	c := newCluster(t, fakes.Options{Capacities: kernel.Capacities{Services: 1}, Patience: 200 * time.Millisecond})
	apply(t, c, shop)
	_, err := c.Apply(`{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: 10.96.0.11, selector: {app: db}, ports: [{port: 5432}]}}`)
	require.ErrorContains(t, err, "table services")
	require.True(t, c.ProbeAddr("shop/db", c.Service("shop/web")[0].Addr(), 80, "TCP").Answer.Connected)
	_, err = c.Apply(guard)
	require.Error(t, err, "the service still waits")
	require.False(t, c.Probe("default/stranger", "shop/db", 5432, "TCP").Allowed, "policies don't")
	s, err := c.Node("node1").Agent().Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, problemOf(s, "services").Error, "10.96.0.11:5432/TCP")

	_, _ = c.Delete("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}}")
	eventually(t, "room was made", func() bool { return c.Settle() == nil })
	require.Equal(t, "shop/db", c.ProbeAddr("shop/web", c.Service("shop/db")[0].Addr(), 5432, "TCP").Answer.By)
}

func TestBrokenManifestKeepsTheLastGoodVersion(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, shop+"---"+guard)
	tr := openTraffic(t, c)
	findings, err := c.Apply(strings.Replace(guard, "port: 5432", "port: many", 1) + "    frm: []\n")
	require.NoError(t, err)
	require.NotEmpty(t, findings)
	require.Contains(t, findings[0].String(), "NetworkPolicy shop/db")
	require.Empty(t, tr.wrong())
	s, err := c.Node("node2").Agent().Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, findings, s.Findings)

	require.NoError(t, c.KillAgent("node1"))
	require.NoError(t, c.StartAgent("node1"))
	require.Empty(t, tr.wrong(), "also for an agent that starts now")
	apply(t, c, otherGuard)
	require.Empty(t, tr.wrong())
	s, err = c.Node("node2").Agent().Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, s.Findings)
}

// relabel gives pods of the shop another app.
func relabel(pod, node, app string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: {app: %s}}
spec: {nodeName: %s, containers: [{name: c, ports: [{containerPort: 80}]}]}
`, pod, app, node)
}

func TestRelabelledPodIsJudgedAnewAtItsNextPacket(t *testing.T) {
	for _, p := range []struct{ pod, node string }{{"web", "node1"}, {"api", "node2"}} {
		t.Run("on "+p.node, func(t *testing.T) {
			c := newCluster(t, fakes.Options{})
			apply(t, c, shop+"---"+guard)
			conn, a, trace := c.Open("shop/"+p.pod, "shop/db", 5432, tcp)
			require.True(t, a.Connected, "%s", trace)

			apply(t, c, relabel(p.pod, p.node, "intruder"))
			a, trace = conn.Send("me again")
			require.False(t, a.Connected, "%s", trace)
			require.NotNil(t, trace.Drop(), "%s", trace)
			a, trace = conn.SendBack("are you there")
			require.False(t, a.Connected, "%s", trace)

			apply(t, c, relabel(p.pod, p.node, "web"))
			a, trace = conn.Send("me again")
			require.True(t, a.Connected, "%s", trace)
			drops, err := c.Flows(t.Context(), flow.Query{All: true, Allow: []flow.Filter{{Verdict: []string{"DROPPED"}}}})
			require.NoError(t, err)
			require.NotEmpty(t, drops)
			require.Equal(t, "default deny (NetworkPolicy shop/db)", drops[0].Ingress.String())
		})
	}
}

func TestIdentityStoreAway(t *testing.T) {
	c := newCluster(t, fakes.Options{Patience: 200 * time.Millisecond})
	apply(t, c, shop+"---"+guard)
	tr := openTraffic(t, c)
	n := c.Node("node1")
	n.Source.Fail(faultOf(objects.OpAllocate, 0))
	_, err := c.Apply(strings.Replace(lateObject, "app: db", "app: late", 1))
	require.ErrorContains(t, err, "pod shop/late has no identity yet")
	require.False(t, c.Pod("shop/late").Running)
	_, err = c.Apply(relabel("web", "node1", "intruder"))
	require.Error(t, err)
	require.Empty(t, tr.wrong(), "the old identity stays until there is a new one")

	n.Source.ClearFaults()
	eventually(t, "it goes on by itself", func() bool { return c.Reconcile(t.Context()) == nil })
	require.True(t, c.Pod("shop/late").Running)
	require.False(t, c.Probe("shop/web", "shop/db", 5432, "TCP").Allowed)
	require.True(t, c.Probe("shop/api", "shop/db", 5432, "TCP").Allowed)
}

// A cluster that takes nothing keeps the node's own state going.
func TestPublishingAway(t *testing.T) {
	c := newCluster(t, fakes.Options{Patience: 200 * time.Millisecond})
	n := c.Node("node1")
	n.Source.Fail(faultOf(objects.OpPublishEndpoint, 0))
	_, err := c.Apply(shop + "---" + guard)
	require.ErrorContains(t, err, "not published")
	require.True(t, c.Probe("shop/web", "shop/db", 5432, "TCP").Allowed)
	require.False(t, c.Probe("default/neighbour", "shop/db", 5432, "TCP").Allowed)
	n.Source.ClearFaults()
	eventually(t, "it is published", func() bool { return c.Settle() == nil })
	require.True(t, c.Probe("shop/web", "shop/api", 80, "TCP").Allowed)
}

// An interface whose programs can't be attached gets no pod.
func TestAttachFails(t *testing.T) {
	c := newCluster(t, fakes.Options{Patience: 200 * time.Millisecond})
	n := c.Node("node1")
	n.Kernel.Fail(func(op, table string, _ any) error {
		if op == "attach" {
			return syscall.EINVAL
		}
		return nil
	})
	_, err := c.Apply(lateObject)
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, "attach programs to lxc")
	n.Kernel.Fail(nil)
	require.NoError(t, c.Reconcile(t.Context()))
	require.True(t, c.Pod("shop/late").Running)
}
