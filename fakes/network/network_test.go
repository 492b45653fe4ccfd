package network_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestNetworkContract(t *testing.T) {
	var fake *network.Network
	serial := 0
	d := &nodeDevices{}
	porttest.TestNetwork(t, porttest.NetworkSetup{
		New: func(*testing.T) ports.Network {
			fake = network.New()
			*d = nodeDevices{network: fake}
			return fake
		},
		Devices: d,
		NewNetns: func(*testing.T) string {
			serial++
			return fmt.Sprintf("/run/netns/pod%d", serial)
		},
		DeleteNetns: func(_ *testing.T, path string) { fake.RemoveNetns(path) },
	})
}

func TestFaultsAndOrder(t *testing.T) {
	n := network.New()
	broken := errors.New("broken")
	n.Fail(func(op, object string) error {
		if op == "DeletePodLink" && object == "lxc1" {
			return broken
		}
		return nil
	})
	assert.ErrorIs(t, n.DeletePodLink("lxc1"), broken)
	assert.NoError(t, n.DeletePodLink("lxc2"))

	router := netip.MustParseAddr("10.0.0.1")
	l := ports.PodLink{Netns: "/ns", Interface: "eth0", HostName: "lxc2", MTU: 1400,
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Gateways: []netip.Addr{router}}
	_, err := n.CreatePodLink(l)
	require.NoError(t, err)
	assert.ErrorContains(t, n.ActivatePodLink(l), "no router of this node", "the overlay comes first")
	_, err = n.EnsureOverlay(ports.Overlay{VXLANPort: 8472, MTU: 1400, Routers: []netip.Addr{router}})
	require.NoError(t, err)
	require.NoError(t, n.ActivatePodLink(l))
	require.NoError(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: netip.MustParsePrefix("10.0.1.0/24"), Source: router}}))
	assert.Equal(t, `overlay port 8472 mtu 1400 routers [10.0.0.1]
pod lxc2 up eth0 in /ns mtu 1400 [10.0.0.2] via [10.0.0.1]
route 10.0.1.0/24 src 10.0.0.1
`, n.Dump())
	n.RemoveNetns("/ns")
	_, _, ok := n.Pod("lxc2")
	assert.False(t, ok)
}
