package porttest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// EndpointsSetup is how the suite gets at an implementation of ports.Endpoints.
type EndpointsSetup struct {
	// New gives an agent that is ready and has no endpoints, for a node with these pod prefixes.
	New func(t *testing.T, podCIDRs []netip.Prefix) ports.Endpoints
	// Prepare, if set, makes known what the agent must know of a pod before it is attached.
	Prepare func(t *testing.T, r ports.ReserveRequest)
}

var endpointCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/29"), netip.MustParsePrefix("fd00:10:244:1::/64")}

// endpointRoom is how many endpoints fit into endpointCIDRs: 8 addresses less network, router and
// broadcast.
const endpointRoom = 5

func (s EndpointsSetup) request(t *testing.T, n int) ports.ReserveRequest {
	r := ports.ReserveRequest{
		ContainerID: fmt.Sprintf("container%d", n),
		Interface:   "eth0",
		Netns:       fmt.Sprintf("/run/netns/pod%d", n),
		Pod:         cluster.Name{Namespace: "shop", Name: fmt.Sprintf("pod%d", n)},
		UID:         fmt.Sprintf("uid%d", n),
	}
	if s.Prepare != nil {
		s.Prepare(t, r)
	}
	return r
}

func linkState(n int) ports.PodLinkState {
	return ports.PodLinkState{
		Ifindex: uint32(100 + n),
		MAC:     datapath.MAC{0x02, 0, 0, 0, 1, byte(n)},
		NodeMAC: datapath.MAC{0x02, 0, 0, 0, 2, byte(n)},
	}
}

// TestEndpoints is the contract of ports.Endpoints.
func TestEndpoints(t *testing.T, s EndpointsSetup) {
	for _, c := range []struct {
		name string
		test func(context.Context, *testing.T, EndpointsSetup, ports.Endpoints)
	}{
		{"reserve", testReserve},
		{"reserve wanted addresses", testReserveWanted},
		{"reserve until full", testReserveFull},
		{"life", testEndpointLife},
		{"retain", testRetain},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			c.test(ctx, t, s, s.New(t, endpointCIDRs))
		})
	}
}

func testReserve(ctx context.Context, t *testing.T, s EndpointsSetup, e ports.Endpoints) {
	require.NoError(t, e.Ready(ctx))
	req := s.request(t, 1)
	r, err := e.Reserve(ctx, req)
	require.NoError(t, err)
	assert.NotZero(t, r.ID)
	assert.Equal(t, datapath.HostDeviceName(req.ContainerID, req.Interface), r.HostDevice)
	assert.GreaterOrEqual(t, r.MTU, 1280)
	require.Len(t, r.Addresses, 2)
	require.Len(t, r.Gateways, 2)
	for i, p := range endpointCIDRs {
		assert.True(t, p.Contains(r.Addresses[i]), "%s in %s", r.Addresses[i], p)
		assert.True(t, p.Contains(r.Gateways[i]), "%s in %s", r.Gateways[i], p)
		assert.NotEqual(t, r.Gateways[i], r.Addresses[i])
	}
	again, err := e.Reserve(ctx, req)
	require.NoError(t, err)
	assert.Equal(t, r, again)

	other := req
	other.Interface = "net1"
	second, err := e.Reserve(ctx, other)
	require.NoError(t, err)
	assert.NotEqual(t, r.ID, second.ID)
	assert.NotEqual(t, r.HostDevice, second.HostDevice)
	assert.NotEqual(t, r.Addresses, second.Addresses)
	assert.Equal(t, r.Gateways, second.Gateways)
}

func testReserveWanted(ctx context.Context, t *testing.T, s EndpointsSetup, e ports.Endpoints) {
	req := s.request(t, 1)
	want := netip.MustParseAddr("10.244.1.5")
	req.IPs = []netip.Addr{want}
	r, err := e.Reserve(ctx, req)
	require.NoError(t, err)
	assert.Equal(t, want, r.Addresses[0])
	require.Len(t, r.Addresses, 2, "the other family is chosen freely")

	taken := s.request(t, 2)
	taken.IPs = req.IPs
	_, err = e.Reserve(ctx, taken)
	assert.ErrorIs(t, err, ports.ErrConflict, "belongs to another")
	_, _, err = e.Lookup(ctx, taken.ContainerID, taken.Interface)
	assert.ErrorIs(t, err, ports.ErrNotFound, "a refused reservation leaves nothing")
	taken.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	_, err = e.Reserve(ctx, taken)
	assert.ErrorIs(t, err, ports.ErrConflict, "outside the node's prefixes")
}

func testReserveFull(ctx context.Context, t *testing.T, s EndpointsSetup, e ports.Endpoints) {
	seen := map[netip.Addr]bool{}
	for n := range endpointRoom {
		r, err := e.Reserve(ctx, s.request(t, n))
		require.NoError(t, err)
		for _, a := range r.Addresses {
			assert.False(t, seen[a], "%s was given out twice", a)
			seen[a] = true
		}
	}
	_, err := e.Reserve(ctx, s.request(t, endpointRoom))
	assert.ErrorIs(t, err, ports.ErrFull)
	require.NoError(t, e.Release(ctx, "container0", "eth0"))
	_, err = e.Reserve(ctx, s.request(t, endpointRoom))
	assert.NoError(t, err, "a released address can be had again")
}

func testEndpointLife(ctx context.Context, t *testing.T, s EndpointsSetup, e ports.Endpoints) {
	req := s.request(t, 1)
	id, ifname := req.ContainerID, req.Interface
	assert.ErrorIs(t, e.Activate(ctx, id, ifname, linkState(1)), ports.ErrNotFound)
	_, _, err := e.Lookup(ctx, id, ifname)
	assert.ErrorIs(t, err, ports.ErrNotFound)
	assert.NoError(t, e.Release(ctx, id, ifname), "absent is no error")

	r, err := e.Reserve(ctx, req)
	require.NoError(t, err)
	found, inForce, err := e.Lookup(ctx, id, ifname)
	require.NoError(t, err)
	assert.Equal(t, r, found)
	assert.False(t, inForce, "nothing is in force before the link exists")

	require.NoError(t, e.Activate(ctx, id, ifname, linkState(1)))
	require.NoError(t, e.Activate(ctx, id, ifname, linkState(1)))
	found, inForce, err = e.Lookup(ctx, id, ifname)
	require.NoError(t, err)
	assert.Equal(t, r, found)
	assert.True(t, inForce, "Activate returns when the policy is in force")
	again, err := e.Reserve(ctx, req)
	require.NoError(t, err)
	assert.Equal(t, r, again)

	require.NoError(t, e.Release(ctx, id, ifname))
	require.NoError(t, e.Release(ctx, id, ifname))
	_, _, err = e.Lookup(ctx, id, ifname)
	assert.ErrorIs(t, err, ports.ErrNotFound)
}

func testRetain(ctx context.Context, t *testing.T, s EndpointsSetup, e ports.Endpoints) {
	var rs []ports.Reservation
	for n := range 3 {
		r, err := e.Reserve(ctx, s.request(t, n))
		require.NoError(t, err)
		rs = append(rs, r)
	}
	require.NoError(t, e.Activate(ctx, "container0", "eth0", linkState(0)))
	require.NoError(t, e.Activate(ctx, "container1", "eth0", linkState(1)))
	gone, err := e.Retain(ctx, []ports.ContainerInterface{
		{ContainerID: "container1", Interface: "eth0"},
		{ContainerID: "container2", Interface: "net1"}, // names no attachment
		{ContainerID: "unknown", Interface: "eth0"},
	})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{rs[0].HostDevice, rs[2].HostDevice}, gone)
	_, inForce, err := e.Lookup(ctx, "container1", "eth0")
	assert.NoError(t, err)
	assert.True(t, inForce)
	_, _, err = e.Lookup(ctx, "container0", "eth0")
	assert.ErrorIs(t, err, ports.ErrNotFound)
	gone, err = e.Retain(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{rs[1].HostDevice}, gone)
}
