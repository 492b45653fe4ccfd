package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func podYAML(name, app string) []byte {
	return []byte(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, labels: {app: %s}}\n", name, app))
}

func podKey(name string) manifest.Key {
	return manifest.Key{Kind: manifest.KindPod, Namespace: "shop", Name: name}
}

func synced(k porttest.Known) bool { return k.Synced == 1 }

func TestHoldAndRelease(t *testing.T) {
	c := New()
	n, other := c.Node("n1"), c.Node("n2")
	n.Hold()
	w, free := porttest.WatchSource(t, n), porttest.WatchSource(t, other)
	free.Eventually(t, "Synced", synced)
	c.Apply(podYAML("a", "x"))
	c.Apply(podYAML("b", "x"))
	free.Eventually(t, "both pods at the other node", func(k porttest.Known) bool { return len(k.Pods) == 2 })
	assert.Empty(t, w.Events())
	n.Release(2)
	k := w.Eventually(t, "Synced and one pod", func(k porttest.Known) bool { return len(k.Pods) == 1 })
	assert.Equal(t, 1, k.Synced)
	assert.Equal(t, 1, n.Pending())
	n.Flow()
	w.Eventually(t, "the rest", func(k porttest.Known) bool { return len(k.Pods) == 2 })
}

func TestDoubleDeliversTwice(t *testing.T) {
	c := New()
	n := c.Node("n1")
	n.Double(true)
	c.Apply(podYAML("a", "x"))
	w := porttest.WatchSource(t, n)
	w.Eventually(t, "Synced", synced)
	events := w.Events()
	require.Len(t, events, 3)
	assert.Equal(t, events[0], events[1])
}

func TestDropIsHealedByResync(t *testing.T) {
	c := New()
	n := c.Node("n1")
	c.Apply(podYAML("a", "x"))
	w := porttest.WatchSource(t, n)
	w.Eventually(t, "Synced", synced)
	n.Drop(2)
	c.Delete(podKey("a"))
	c.Apply(podYAML("b", "x"))
	c.Apply(podYAML("c", "x"))
	k := w.Eventually(t, "what was not dropped", func(k porttest.Known) bool { return len(k.Pods) == 2 })
	assert.Contains(t, k.Pods, "shop/a", "its end was lost")
	assert.NotContains(t, k.Pods, "shop/b")
	n.Resync()
	w.Eventually(t, "the truth", func(k porttest.Known) bool {
		_, a := k.Pods["shop/a"]
		_, b := k.Pods["shop/b"]
		return !a && b && len(k.Pods) == 2
	})
}

func TestFail(t *testing.T) {
	c := New()
	n := c.Node("n1")
	boom := errors.New("boom")
	ls := labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: "x"})
	ctx := context.Background()

	n.Fail(Fault{Op: OpAllocate, Err: boom, Times: 2})
	n.Fail(Fault{Op: OpAllocate, Err: ports.ErrFull, Times: 1, Done: true})
	for i := 0; i < 2; i++ {
		_, err := n.Allocate(ctx, ls)
		require.ErrorIs(t, err, boom)
	}
	assert.Empty(t, c.Dump())
	_, err := n.Allocate(ctx, ls)
	require.ErrorIs(t, err, ports.ErrFull)
	assert.Equal(t, "CiliumIdentity 256\n", c.Dump(), "the answer was lost, the identity is there")
	id, err := n.Allocate(ctx, ls)
	require.NoError(t, err)
	assert.Equal(t, identity.ID(256), id)

	n.Fail(Fault{Op: OpPublishNode, Err: boom})
	assert.ErrorIs(t, n.PublishNode(ctx, cluster.Node{Name: "n1"}), boom)
	assert.ErrorIs(t, n.PublishNode(ctx, cluster.Node{Name: "n1"}), boom)
	assert.NoError(t, c.Node("n2").PublishNode(ctx, cluster.Node{Name: "n2"}), "faults are each node's own")
	n.ClearFaults()
	assert.NoError(t, n.PublishNode(ctx, cluster.Node{Name: "n1"}))

	a := n.NewAttachments()
	n.Fail(Fault{Op: OpSave, Err: boom, Times: 1})
	at := ports.Attachment{ContainerID: "c", Interface: "eth0"}
	assert.ErrorIs(t, a.Save(at), boom)
	assert.NoError(t, a.Save(at))
	n.Fail(Fault{Op: OpLoad, Err: boom, Times: 1})
	_, err = a.Load()
	assert.ErrorIs(t, err, boom)
	n.Fail(Fault{Op: OpWatch, Err: boom, Times: 1})
	assert.ErrorIs(t, n.Watch(ctx, func(cluster.Event) {}), boom)
}

// The same calls give the same events, in the same order, at every node and in every run.
func TestDeterministic(t *testing.T) {
	run := func() []cluster.Event {
		c := New()
		w := porttest.WatchSource(t, c.Node("n1"))
		w.Eventually(t, "Synced", synced)
		for i := 0; i < 20; i++ {
			c.Apply(append(podYAML(fmt.Sprint("p", i), "x"), []byte("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")...))
			_, err := c.Node(fmt.Sprint("n", i)).Allocate(context.Background(), labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "i", Value: fmt.Sprint(i)}))
			require.NoError(t, err)
		}
		c.Apply([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {clusterIP: 10.0.0.1, selector: {app: x}, ports: [{port: 80}]}\n"))
		w.Eventually(t, "all of it", func(k porttest.Known) bool { return len(k.Services) == 1 })
		return w.Events()
	}
	assert.Equal(t, run(), run())
}

func TestApplyFindings(t *testing.T) {
	c := New()
	findings := c.Apply([]byte("kind: [\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{ports: [{containerPort: 70000}]}]}\n"))
	require.Len(t, findings, 2)
	assert.Equal(t, "Pod default/p (refused)\n", c.Dump())
	assert.Equal(t, findings, c.Node("n").Findings())
	c.Delete(manifest.Key{Kind: manifest.KindPod, Namespace: "default", Name: "p"})
	assert.Len(t, c.Node("n").Findings(), 1)
}

// What an object comes to beside others is found as well.
func TestApplyFindsMissingGroups(t *testing.T) {
	c := New()
	findings := c.Apply([]byte("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec: {endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: g}]}]}\n"))
	require.Len(t, findings, 1)
	assert.Contains(t, findings[0].String(), "CiliumCIDRGroup g does not exist")
	assert.Equal(t, findings, c.Node("n").Findings())
	assert.Empty(t, c.Apply([]byte("apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: g}\nspec: {externalCIDRs: []}\n")))
	assert.Empty(t, c.Node("n").Findings())
}

// A watch that lost both the beginning and the end of an identity which its node was given tells the end.
func TestResyncTellsOfIdentitiesThatWereGiven(t *testing.T) {
	c := New()
	n := c.Node("n1")
	w := porttest.WatchSource(t, n)
	w.Eventually(t, "Synced", synced)
	n.Drop(100)
	ls := labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: "x"})
	id, err := n.Allocate(context.Background(), ls)
	require.NoError(t, err)
	c.Advance(time.Hour)
	gone, err := c.Node("n2").Collect(context.Background(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, []identity.ID{id}, gone)
	assert.Len(t, w.Events(), 1)
	n.Resync()
	w.Eventually(t, "the end", func(porttest.Known) bool { return len(w.Events()) == 2 })
	assert.Equal(t, cluster.IdentityDelete{ID: id}, w.Events()[1])
}
