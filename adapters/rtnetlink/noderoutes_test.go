package rtnetlink

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/ports"
)

var (
	neighbour4 = netip.MustParseAddr("192.0.2.2")
	neighbour6 = netip.MustParseAddr("2001:db8:1::2")
)

// directNode is a node without encapsulation; its device "lan" has neighbours of both families.
func directNode(t *testing.T) (n *Network, path string) {
	t.Helper()
	n, path = newNode(t)
	for _, args := range []string{
		"link add lan type veth peer name lanp", "link set lan up", "link set lanp up",
		"addr add 192.0.2.1/24 dev lan", "addr add 2001:db8:1::1/64 dev lan nodad",
	} {
		require.NoError(t, netns.Do(path, func() error {
			out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
			assert.NoError(t, err, "ip %s: %s", args, out)
			return err
		}))
	}
	links, err := n.EnsureOverlay(ports.Overlay{
		MTU: 1500, Routers: []netip.Addr{router4, router6}, Native: true, Direct: true, Underlay: netip.MustParseAddr("192.0.2.1"),
	})
	require.NoError(t, err)
	inside(t, path, func(c *conn) error {
		lan, err := c.link("lan")
		assert.Equal(t, lan.index, links.Direct)
		return err
	})
	return n, path
}

func routesOut(t *testing.T, path, device string) (have []route) {
	t.Helper()
	inside(t, path, func(c *conn) error {
		l, err := c.link(device)
		if err != nil {
			return err
		}
		have, err = c.routes(l)
		return err
	})
	return have
}

func TestRoutesViaNeighbours(t *testing.T) {
	netnstest.Require(t)
	n, path := directNode(t)
	pod := newPod(t, 0)
	attach(t, n, pod)
	podRoutes := routesOut(t, path, pod.HostName)
	require.NotEmpty(t, podRoutes)

	routes := []ports.NodeRoute{{Prefix: remote4, Via: neighbour4}, {Prefix: remote6, Via: neighbour6}}
	want := []route{{dst: remote4, via: neighbour4}, {dst: remote6, via: neighbour6}}
	for range 2 {
		require.NoError(t, n.SyncNodeRoutes(routes))
		assert.ElementsMatch(t, want, routesOut(t, path, "lan"))
		assert.Empty(t, routesOut(t, path, DeviceHost))
	}

	far := ports.NodeRoute{Prefix: netip.MustParsePrefix("10.244.3.0/24"), Via: netip.MustParseAddr("203.0.113.3")}
	err := n.SyncNodeRoutes([]ports.NodeRoute{far, routes[1]})
	require.Error(t, err)
	assert.ErrorContains(t, err, far.Prefix.String())
	assert.Equal(t, want[1:], routesOut(t, path, "lan"), "the rest is made all the same, and what is not wanted goes")

	require.NoError(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: remote4, Source: router4}, routes[1]}))
	assert.Equal(t, []route{{dst: remote4, via: nextHop4, src: router4}}, routesOut(t, path, DeviceHost), "one of each kind")
	assert.Equal(t, want[1:], routesOut(t, path, "lan"))

	require.NoError(t, n.SyncNodeRoutes(nil))
	assert.Empty(t, routesOut(t, path, "lan"))
	assert.Empty(t, routesOut(t, path, DeviceHost))
	assert.ElementsMatch(t, podRoutes, routesOut(t, path, pod.HostName), "those of pods stay")
}

func TestARouterIsNoNeighbour(t *testing.T) {
	netnstest.Require(t)
	n, path := directNode(t)
	require.NoError(t, netns.Do(path, func() error {
		return exec.Command("ip", "route", "add", "default", "via", "192.0.2.254").Run()
	}))
	err := n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: remote4, Via: netip.MustParseAddr("203.0.113.3")}})
	assert.ErrorIs(t, err, ports.ErrUnsupported)
	assert.Empty(t, routesOut(t, path, "lan"))
}

func TestNeighbourOfTheOtherFamily(t *testing.T) {
	netnstest.Require(t)
	n, path := directNode(t)
	for _, r := range []ports.NodeRoute{{Prefix: remote4, Via: neighbour6}, {Prefix: remote6, Via: neighbour4}} {
		err := n.SyncNodeRoutes([]ports.NodeRoute{r})
		assert.ErrorContains(t, err, "family")
		assert.ErrorContains(t, err, r.Via.String())
	}
	assert.Empty(t, routesOut(t, path, "lan"))
}
