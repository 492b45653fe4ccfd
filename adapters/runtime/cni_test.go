package runtime_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/ports"
)

var late = cluster.Name{Namespace: "shop", Name: "late"}

const lateObject = `{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: shop, labels: {app: db}}, spec: {nodeName: node1}}`

// link makes a pod's link as the plugin does.
func link(t *testing.T, n *fakes.Node, r ports.Reservation, netns string) ports.PodLinkState {
	t.Helper()
	s, err := n.Network.CreatePodLink(ports.PodLink{
		Netns: netns, Interface: "eth0", HostName: r.HostDevice, MTU: r.MTU, Addresses: r.Addresses, Gateways: r.Gateways,
	})
	require.NoError(t, err)
	return s
}

func TestReserveIsRefusedBeforeTheNodeIsKnown(t *testing.T) {
	c := newCluster(t, fakes.Options{Stopped: true})
	n := c.Node("node1")
	n.Source.Hold()
	c.Launch("node1")
	a := n.Agent()
	_, err := a.Reserve(t.Context(), ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	require.ErrorContains(t, err, "waiting for its node object")
	require.ErrorContains(t, a.Ready(t.Context()), "waiting for its node object")
	s, err := a.Status(t.Context())
	require.NoError(t, err, "status answers all the same")
	require.False(t, s.Healthy)
	require.False(t, s.Synced)

	n.Source.Flow()
	require.NoError(t, c.AwaitAgent(t.Context(), "node1"))
	s, err = a.Status(t.Context())
	require.NoError(t, err)
	require.True(t, s.Healthy, s.Problems)
}

// Everything but Synced has come: addresses are given out, and nothing goes into force.
func TestActivateWaitsForSynced(t *testing.T) {
	c := newCluster(t, fakes.Options{Stopped: true})
	c.Objects().Apply([]byte(lateObject))
	n := c.Node("node1")
	n.Source.Hold()
	c.Launch("node1")
	eventually(t, "the agent watches", func() bool { return n.Source.Pending() > 0 })
	n.Source.Release(n.Source.Pending() - 1)
	a := n.Agent()
	eventually(t, "the agent opens its datapath", func() bool { _, err := a.Nodes(t.Context()); return err == nil })

	r := reserve(t, a, ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	state := link(t, n, r, "/n")
	err := a.Activate(within(t, 30*time.Millisecond), "x", "eth0", state)
	require.ErrorContains(t, err, "initial lists are not complete")
	words, err := n.Kernel.Tables().EndpointPolicy.Dump()
	require.NoError(t, err)
	require.Empty(t, words)

	n.Source.Flow()
	require.NoError(t, a.Activate(t.Context(), "x", "eth0", state))
}

func TestActivateReturnsWhenThePolicyIsInForce(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, guard)
	n := c.Node("node1")
	a := n.Agent()
	request := ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late}
	r := reserve(t, a, request)
	require.Equal(t, r, reserve(t, a, request), "again the same")
	require.Len(t, r.Addresses, 2)
	require.Equal(t, n.Routers, r.Gateways)
	_, inForce, err := a.Lookup(t.Context(), "x", "eth0")
	require.NoError(t, err)
	require.False(t, inForce)

	state := link(t, n, r, "/n")
	err = a.Activate(within(t, 30*time.Millisecond), "x", "eth0", state)
	require.ErrorContains(t, err, "pod shop/late is not known in the cluster yet")
	row, err := n.Kernel.Tables().EndpointPolicy.Get(r.ID)
	require.ErrorIs(t, err, ports.ErrNotFound, "%v", row)

	c.Objects().Apply([]byte(lateObject))
	require.NoError(t, a.Activate(t.Context(), "x", "eth0", state))
	row, err = n.Kernel.Tables().EndpointPolicy.Get(r.ID)
	require.NoError(t, err, "no moment later")
	require.NotZero(t, row.Policy)
	ep, err := n.Kernel.Tables().Endpoints.Get(r.Addresses[0])
	require.NoError(t, err)
	require.Equal(t, state.Ifindex, ep.Ifindex)
	require.NoError(t, a.Activate(t.Context(), "x", "eth0", state), "again, as after a lost answer")
	_, inForce, err = a.Lookup(t.Context(), "x", "eth0")
	require.NoError(t, err)
	require.True(t, inForce)

	require.ErrorIs(t, a.Activate(t.Context(), "other", "eth0", state), ports.ErrNotFound)
	require.NoError(t, a.Release(t.Context(), "x", "eth0"))
	require.NoError(t, a.Release(t.Context(), "x", "eth0"), "absent is fine")
	_, _, err = a.Lookup(t.Context(), "x", "eth0")
	require.ErrorIs(t, err, ports.ErrNotFound)
	require.NoError(t, c.Settle())
	_, err = n.Kernel.Tables().EndpointPolicy.Get(r.ID)
	require.ErrorIs(t, err, ports.ErrNotFound)
	_, err = n.Kernel.Tables().Endpoints.Get(r.Addresses[0])
	require.ErrorIs(t, err, ports.ErrNotFound)
	next := reserve(t, a, ports.ReserveRequest{ContainerID: "y", Interface: "eth0", Netns: "/n", Pod: late})
	require.NotEqual(t, r.ID, next.ID, "a number that became free comes last")
	require.NoError(t, a.Release(t.Context(), "y", "eth0"))
}

// A caller that gave up must not be the last word: the endpoint goes into force without it.
func TestActivateThatGaveUpTakesEffectLater(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	n := c.Node("node1")
	a := n.Agent()
	r := reserve(t, a, ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	require.Error(t, a.Activate(within(t, 10*time.Millisecond), "x", "eth0", link(t, n, r, "/n")))
	c.Objects().Apply([]byte(lateObject))
	eventually(t, "it is in force", func() bool { _, ok, err := a.Lookup(t.Context(), "x", "eth0"); return err == nil && ok })
}

func TestActivateEndsWithItsEndpoint(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	n := c.Node("node1")
	a := n.Agent()
	r := reserve(t, a, ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	state := link(t, n, r, "/n")
	answer := make(chan error, 1)
	go func() { answer <- a.Activate(t.Context(), "x", "eth0", state) }()
	eventually(t, "the endpoint is there", func() bool {
		list, err := a.Endpoints(t.Context())
		return err == nil && len(list) == 1 && list[0].State == "waiting-for-identity"
	})
	require.NoError(t, a.Release(t.Context(), "x", "eth0"))
	select {
	case err := <-answer:
		require.ErrorIs(t, err, ports.ErrNotFound)
	case <-time.After(5 * time.Second):
		t.Fatal("Activate waits for an endpoint that is gone")
	}
}

func TestActivateEndsWithTheAgent(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	n := c.Node("node1")
	a := n.Agent()
	r := reserve(t, a, ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	state := link(t, n, r, "/n")
	answer := make(chan error, 1)
	go func() { answer <- a.Activate(t.Context(), "x", "eth0", state) }()
	eventually(t, "the endpoint is there", func() bool {
		list, err := a.Endpoints(t.Context())
		return err == nil && len(list) == 1 && list[0].State == "waiting-for-identity"
	})
	require.NoError(t, c.KillAgent("node1"))
	require.ErrorIs(t, <-answer, ports.ErrClosed)
	_, err := a.Endpoints(t.Context())
	require.ErrorIs(t, err, ports.ErrClosed)
}

func TestReserveNeedsNamesAndRoom(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	a := c.Node("node1").Agent()
	_, err := a.Reserve(t.Context(), ports.ReserveRequest{Interface: "eth0", Pod: late})
	require.ErrorContains(t, err, "must not be empty")
	_, err = a.Reserve(t.Context(), ports.ReserveRequest{ContainerID: "x", Interface: "eth0"})
	require.ErrorContains(t, err, "K8S_POD_NAME")
	wanted := ports.ReserveRequest{ContainerID: "w", Interface: "eth0", Netns: "/w", Pod: late, IPs: []netip.Addr{netip.MustParseAddr("10.244.1.77")}}
	require.Equal(t, "10.244.1.77", reserve(t, a, wanted).Addresses[0].String())
	wanted.ContainerID = "other"
	_, err = a.Reserve(t.Context(), wanted)
	require.Error(t, err, "the address is taken")
	for i := range 300 {
		r := ports.ReserveRequest{ContainerID: string(rune('A'+i%26)) + string(rune('A'+i/26)), Interface: "eth0", Netns: "/n", Pod: late}
		if _, err = a.Reserve(t.Context(), r); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ports.ErrFull)
}

func TestRetainReleasesTheRest(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	apply(t, c, shop)
	n := c.Node("node1")
	saved, err := n.Attachments.Load()
	require.NoError(t, err)
	require.Len(t, saved, 3)
	gone, err := n.Agent().Retain(t.Context(), []ports.ContainerInterface{{ContainerID: saved[0].ContainerID, Interface: saved[0].Interface}})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{saved[1].HostDevice, saved[2].HostDevice}, gone)
	left, err := n.Attachments.Load()
	require.NoError(t, err)
	require.Equal(t, saved[:1], left)
	require.Equal(t, datapath.HostDeviceName(saved[0].ContainerID, "eth0"), left[0].HostDevice)
}

func TestReserveThatCantBeRemembered(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	n := c.Node("node1")
	n.Source.Fail(faultOf(objects.OpSave, 1))
	request := ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late}
	_, err := n.Agent().Reserve(t.Context(), request)
	require.ErrorContains(t, err, "remember endpoint")
	r := reserve(t, n.Agent(), request)
	s, err := n.Agent().Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, r.Addresses, s.Allocated, "the failed one holds nothing")
}

// The agent is held up in a write while the cluster says something and somebody asks about it.
func TestAnswersKnowWhatTheClusterSaid(t *testing.T) {
	type pause struct{ begun, end chan struct{} }
	var next atomic.Pointer[pause]
	c := newCluster(t, fakes.Options{OnWrite: func(w fakes.Write) {
		if w.Node != "node1" {
			return
		}
		if p := next.Swap(nil); p != nil {
			close(p.begun)
			<-p.end
		}
	}})
	apply(t, c, shop)
	n := c.Node("node1")
	for i := range 20 {
		p := &pause{make(chan struct{}), make(chan struct{})}
		next.Store(p)
		c.Objects().Apply([]byte([]string{guard, otherGuard}[i%2]))
		<-p.begun
		name := fmt.Sprintf("extra-%d", i)
		c.Objects().Apply([]byte(strings.Replace(guard, "name: db", "name: "+name, 1)))
		eventually(t, "it is delivered", n.Source.Idle)
		known := make(chan bool)
		go func() {
			info, err := n.Agent().Policies(t.Context())
			known <- err == nil && slices.ContainsFunc(info.Policies, func(p policy.Policy) bool { return p.Ref.Name == name })
		}()
		time.Sleep(time.Millisecond) // for the question to stand in the queue
		close(p.end)
		require.True(t, <-known)
	}
}
