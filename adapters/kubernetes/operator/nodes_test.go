package operator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func ciliumNode(name string, cidrs ...any) map[string]any {
	return map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"ipam": map[string]any{"podCIDRs": cidrs}}}
}

func (r *rig) failure(node string) string {
	n := r.get(ciliumNodes, "", node)
	if n == nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(n.Object, "status", "ipam", "operator-status", "error")
	return s
}

// Every Node gets a CiliumNode with a range of its own of each family, also one that comes later, and
// keeps it when another operator takes over.
func TestNodesGetPodCIDRs(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	both := []string{"enable-ipv6=true", "cluster-pool-ipv6-cidr=fd00:20::/104"}
	op := r.operator(both...)
	r.eventually(func() string { return want(len(r.podCIDRs("n1")), 2) })
	r.node("n2")
	r.eventually(func() string { return want(len(r.podCIDRs("n2")), 2) })
	one, two := r.podCIDRs("n1"), r.podCIDRs("n2")
	require.Equal(t, []string{"10.20.0.0/24", "fd00:20::/120"}, one)
	require.Equal(t, []string{"10.20.1.0/24", "fd00:20::100/120"}, two)
	n := r.get(ciliumNodes, "", "n1")
	require.Equal(t, manager, n.GetManagedFields()[0].Manager)

	r.stop(op)
	version := n.GetResourceVersion()
	r.operator(both...)
	r.node("n3")
	r.eventually(func() string { return want(len(r.podCIDRs("n3")), 2) })
	require.Equal(t, []string{"10.20.2.0/24", "fd00:20::200/120"}, r.podCIDRs("n3"))
	require.Equal(t, one, r.podCIDRs("n1"))
	require.Equal(t, version, r.get(ciliumNodes, "", "n1").GetResourceVersion(), "nothing to write about n1")
}

func want[T comparable](got, want T) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("got %v, want %v", got, want)
}

// What somebody takes away comes back; what an agent writes beside it stays.
func TestPodCIDRsComeBack(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	r.operator()
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.0.0/24") })
	r.patch(ciliumNodes, "", "n1", `{"spec":{"addresses":[{"type":"InternalIP","ip":"192.0.2.1"}],"ipam":{"podCIDRs":null}}}`)
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.0.0/24") })
	addresses, _, _ := unstructured.NestedSlice(r.get(ciliumNodes, "", "n1").Object, "spec", "addresses")
	require.Len(t, addresses, 1)
	r.delete(ciliumNodes, "", "n1")
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.0.0/24") })
	r.patch(ciliumNodes, "", "n1", `{"spec":{"ipam":{"podCIDRs":["10.20.77.0/24"]}}}`)
	r.never(500*time.Millisecond, func() string { return want(strings.Join(r.podCIDRs("n1"), " "), "10.20.77.0/24") })
}

// Two nodes with one range: the older keeps it.
func TestDoublePodCIDRGoesToTheOlder(t *testing.T) {
	r := newRig(t)
	r.node("b-old")
	r.create(ciliumNodes, "", ciliumNode("b-old", "10.20.5.0/24"))
	time.Sleep(1100 * time.Millisecond) // creation is told in seconds
	r.node("a-young")
	r.create(ciliumNodes, "", ciliumNode("a-young", "10.20.5.0/24"))
	r.operator()
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("a-young"), " "), "10.20.0.0/24") })
	require.Equal(t, []string{"10.20.5.0/24"}, r.podCIDRs("b-old"))
	// Also while the operator works.
	r.patch(ciliumNodes, "", "a-young", `{"spec":{"ipam":{"podCIDRs":["10.20.5.0/24"]}}}`)
	r.eventually(func() string { return want(strings.Join(r.podCIDRs("a-young"), " "), "10.20.0.0/24") })
	r.patch(ciliumNodes, "", "b-old", `{"spec":{"ipam":{"podCIDRs":["10.20.0.0/24"]}}}`)
	r.eventually(func() string {
		got := r.podCIDRs("a-young")
		if len(got) == 1 && got[0] != "10.20.0.0/24" && got[0] != "10.20.5.0/24" {
			return ""
		}
		return fmt.Sprint(got)
	})
	require.Equal(t, []string{"10.20.0.0/24"}, r.podCIDRs("b-old"))
}

func TestFullPoolIsSaid(t *testing.T) {
	r := newRig(t)
	small := []string{"cluster-pool-ipv4-cidr=10.20.0.0/23"}
	for i := range 3 {
		r.node(fmt.Sprintf("n%d", i))
	}
	op := r.operator(small...)
	without := ""
	r.eventually(func() string {
		for i := range 3 {
			if name := fmt.Sprintf("n%d", i); strings.Contains(r.failure(name), "every /24 is in use") {
				without = name
				return ""
			}
		}
		return "no node complains"
	})
	require.Empty(t, r.podCIDRs(without))
	r.stop(op)
	r.operator("cluster-pool-ipv4-cidr=10.20.0.0/23 10.30.0.0/24")
	r.eventually(func() string { return want(strings.Join(r.podCIDRs(without), " "), "10.30.0.0/24") })
	r.eventually(func() string { return want(r.failure(without), "") })
}

// With addresses from elsewhere the CiliumNode is made, and its ranges are others' business.
func TestOtherIPAMModes(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	r.create(ciliumNodes, "", ciliumNode("n0", "10.99.0.0/24"))
	r.operator("ipam=kubernetes")
	r.eventually(func() string { return want(r.get(ciliumNodes, "", "n1") != nil, true) })
	require.Empty(t, r.podCIDRs("n1"))
	require.Equal(t, []string{"10.99.0.0/24"}, r.podCIDRs("n0"))
}

// The CiliumNode of a Node that is gone goes, after a while; not so one whose Node came back, and not one that
// is to be kept.
func TestCiliumNodesOfGoneNodes(t *testing.T) {
	r := newRig(t)
	r.node("alive")
	r.create(ciliumNodes, "", ciliumNode("gone", "10.20.9.0/24"))
	keep := ciliumNode("keep", "10.20.10.0/24")
	keep["metadata"].(map[string]any)["annotations"] = map[string]any{keepAnnotation: "true"}
	r.create(ciliumNodes, "", keep)
	r.create(ciliumNodes, "", ciliumNode("back", "10.20.11.0/24"))
	begin := time.Now()
	r.operator("nodes-gc-interval=3s")
	r.eventually(func() string { return want(r.get(ciliumNodes, "", "alive") != nil, true) })
	r.node("back")
	r.eventually(func() string { return want(r.get(ciliumNodes, "", "gone") == nil, true) })
	require.Greater(t, time.Since(begin), 3*time.Second, "not before the interval is over")
	r.never(time.Second, func() string {
		for _, name := range []string{"alive", "back", "keep"} {
			if r.get(ciliumNodes, "", name) == nil {
				return name + " was removed"
			}
		}
		return ""
	})
}

// A CiliumNode goes only if the server itself has no Node of that name, and only as it was seen.
func TestNodeGCDoesNotTrustLists(t *testing.T) {
	r := newRig(t)
	op := r.named("a", "nodes-gc-interval=1h")
	r.eventually(r.leads(op))
	r.node("n1")
	r.eventually(func() string { return want(len(r.podCIDRs("n1")), 1) })
	api, err := newClients(op.rest, op.election.mayWrite)
	require.NoError(t, err)
	g := &nodeGC{op: op, clients: api}
	seen, err := convertCiliumNode(r.get(ciliumNodes, "", "n1"))
	require.NoError(t, err)
	require.NoError(t, g.remove(r.ctx, seen))
	require.Equal(t, seen.UID, r.get(ciliumNodes, "", "n1").GetUID(), "its Node is there")

	r.delete(coreNodes, "", "n1")
	r.patch(ciliumNodes, "", "n1", `{"metadata":{"labels":{"a":"b"}}}`)
	require.Error(t, g.remove(r.ctx, seen))
	require.Equal(t, seen.UID, r.get(ciliumNodes, "", "n1").GetUID(), "somebody has just written it")
}

// Operators that die at any moment leave no two nodes with one range, and no node without.
func TestPodCIDRsOverManyRestarts(t *testing.T) {
	r := newRig(t)
	const count, rounds = 40, 5
	for round := range rounds {
		p := r.process()
		for i := round * count / rounds; i < (round+1)*count/rounds; i++ {
			r.node(fmt.Sprintf("n%02d", i))
		}
		r.eventually(p.leads)
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		p.kill()
		// The lease of the dead would have to run out.
		r.patch(leases, "kube-system", leaseName, `{"spec":{"holderIdentity":""}}`)
	}
	r.operator()
	seen := map[string]string{}
	r.eventually(func() string { return want(len(r.list(ciliumNodes)), count) })
	for i := range count {
		name := fmt.Sprintf("n%02d", i)
		r.eventually(func() string { return want(len(r.podCIDRs(name)), 1) })
		c := netip.MustParsePrefix(r.podCIDRs(name)[0]).String()
		require.Empty(t, seen[c], "%s of %s", c, name)
		seen[c] = name
	}
}
