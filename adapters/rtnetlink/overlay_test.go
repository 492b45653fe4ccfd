package rtnetlink

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestOverlayDevices(t *testing.T) {
	netnstest.Require(t)
	n, path, links := overlayNode(t)
	inside(t, path, func(c *conn) error {
		vx, err := c.link(DeviceVXLAN)
		require.NoError(t, err)
		assert.Equal(t, links.VXLAN, vx.index)
		assert.Equal(t, datapath.OverlayMAC, vx.mac)
		assert.Equal(t, "noqueue", vx.queueDisc)
		assert.True(t, vx.up())
		assert.True(t, sameVXLAN(vx.data, 8472))
		assert.False(t, sameVXLAN(vx.data, 4789))
		ad, err := netlink.NewAttributeDecoder(vx.data)
		require.NoError(t, err)
		learning := uint8(99)
		for ad.Next() {
			if ad.Type() == unix.IFLA_VXLAN_LEARNING {
				learning = ad.Uint8()
			}
		}
		assert.Zero(t, learning)

		host, err := c.link(DeviceHost)
		require.NoError(t, err)
		peer, err := c.link(DeviceNet)
		require.NoError(t, err)
		assert.Equal(t, ports.OverlayLinks{VXLAN: vx.index, Host: host.index, Net: peer.index, HostMAC: host.mac, NetMAC: peer.mac}, links)
		assert.Equal(t, peer.index, host.peer)
		assert.True(t, host.up() && peer.up())
		have, err := c.addresses(host)
		require.NoError(t, err)
		assert.Equal(t, []netip.Prefix{netip.PrefixFrom(router4, 32), netip.PrefixFrom(router6, 128)}, have)
		neighbours, err := c.neighbours(host)
		assert.Equal(t, map[netip.Addr]datapath.MAC{nextHop4: peer.mac, nextHop6: peer.mac}, neighbours)
		return err
	})
	for name, want := range map[string]string{
		"ipv4/ip_forward":                  "1",
		"ipv6/conf/all/forwarding":         "1",
		"ipv4/conf/all/rp_filter":          "0",
		"ipv4/conf/cilium_vxlan/rp_filter": "0",
		"ipv4/conf/cilium_host/rp_filter":  "0",
		"ipv6/conf/cilium_vxlan/accept_ra": "0",
		"ipv4/conf/cilium_net/forwarding":  "0",
	} {
		assert.Equal(t, want, sysctlOf(t, path, name), name)
	}

	// A restart with another set of routers.
	other := router4.Next()
	_, err := n.EnsureOverlay(ports.Overlay{MTU: 1400, Routers: []netip.Addr{other}})
	require.NoError(t, err)
	inside(t, path, func(c *conn) error {
		host, err := c.link(DeviceHost)
		require.NoError(t, err)
		assert.Equal(t, uint32(1400), host.mtu)
		have, err := c.addresses(host)
		assert.Equal(t, []netip.Prefix{netip.PrefixFrom(other, 32)}, have)
		return err
	})
	assert.Equal(t, "1", sysctlOf(t, path, "ipv4/ip_forward"))
	assert.Equal(t, "0", sysctlOf(t, path, "ipv4/conf/cilium_net/forwarding"))
}

func TestOverlayRepairsAndRefuses(t *testing.T) {
	netnstest.Require(t)
	t.Run("half a pair", func(t *testing.T) {
		n, path := newNode(t)
		inside(t, path, func(c *conn) error { // cilium_net went into another pair
			return c.newLink(linkRequest{name: DeviceNet, kind: kindVeth, data: vethPeer(linkRequest{name: "other"})})
		})
		links, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4}})
		require.NoError(t, err)
		inside(t, path, func(c *conn) error {
			host, err := c.link(DeviceHost)
			assert.Equal(t, links.Net, host.peer)
			return err
		})
	})
	t.Run("not collecting metadata", func(t *testing.T) {
		n, path := newNode(t)
		inside(t, path, func(c *conn) error {
			return c.newLink(linkRequest{name: DeviceVXLAN, kind: kindVXLAN, data: func(ae *netlink.AttributeEncoder) error {
				ae.Uint32(unix.IFLA_VXLAN_ID, 7)
				ae.Bytes(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, 8472))
				return nil
			}})
		})
		_, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4}})
		require.NoError(t, err)
		inside(t, path, func(c *conn) error {
			vx, err := c.link(DeviceVXLAN)
			assert.True(t, sameVXLAN(vx.data, 8472))
			return err
		})
	})
	for _, name := range []string{DeviceVXLAN, DeviceHost, DeviceNet} {
		t.Run(name+" is a bridge", func(t *testing.T) {
			n, path := newNode(t)
			inside(t, path, func(c *conn) error { return c.newLink(linkRequest{name: name, kind: "bridge"}) })
			_, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4}})
			assert.ErrorIs(t, err, ports.ErrConflict)
			assert.ErrorContains(t, err, name)
		})
	}
}

var (
	remote4 = netip.MustParsePrefix("10.244.2.0/24")
	remote6 = netip.MustParsePrefix("fd00:10:244:2::/64")
)

// TestPacketsToOtherNodes: they leave through cilium_host from the router's address, addressed to
// cilium_net, without asking anybody, and do not come back.
func TestPacketsToOtherNodes(t *testing.T) {
	netnstest.Require(t)
	n, path, links := overlayNode(t)
	require.NoError(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: remote4, Source: router4}, {Prefix: remote6, Source: router6}}))
	for _, c := range []struct{ dst, src netip.Addr }{
		{netip.MustParseAddr("10.244.2.7"), router4},
		{netip.MustParseAddr("fd00:10:244:2::7"), router6},
	} {
		stop := capture(t, path, DeviceNet)
		require.NoError(t, netns.Do(path, func() error {
			s, err := net.Dial("udp", netip.AddrPortFrom(c.dst, 53).String())
			if err != nil {
				return err
			}
			defer s.Close()
			assert.Equal(t, c.src, s.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
			_, err = s.Write([]byte("hello"))
			return err
		}))
		frames := stop()
		require.Len(t, frames, 1, "once, and nothing else")
		assert.Equal(t, links.NetMAC[:], frames[0][0:6])
		assert.Equal(t, links.HostMAC[:], frames[0][6:12])
	}
}

func TestSyncNodeRoutesTouchesOnlyItsOwn(t *testing.T) {
	netnstest.Require(t)
	n, path, _ := overlayNode(t)
	foreign := route{dst: netip.MustParsePrefix("10.244.9.0/24")}
	hostRoutesNow := func(c *conn) []route {
		host, err := c.link(DeviceHost)
		require.NoError(t, err)
		rs, err := c.routes(host)
		require.NoError(t, err)
		return rs
	}
	addForeign := func(c *conn) error {
		host, err := c.link(DeviceHost)
		require.NoError(t, err)
		m := foreign.message(host)
		m.Protocol = unix.RTPROT_STATIC
		return c.do(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, m)
	}
	inside(t, path, addForeign)

	routes := []ports.NodeRoute{{Prefix: foreign.dst, Source: router4}, {Prefix: remote4, Source: router4}, {Prefix: remote6, Source: router6}}
	err := n.SyncNodeRoutes(routes)
	assert.ErrorIs(t, err, ports.ErrConflict)
	assert.ErrorContains(t, err, "10.244.9.0/24")
	want := []route{{dst: remote4, via: nextHop4, src: router4}, {dst: remote6, via: nextHop6, src: router6}}
	inside(t, path, func(c *conn) error {
		assert.ElementsMatch(t, want, hostRoutesNow(c), "the others are made all the same")
		return nil
	})

	require.NoError(t, n.SyncNodeRoutes(nil))
	inside(t, path, func(c *conn) error {
		assert.Empty(t, hostRoutesNow(c))
		assert.ErrorIs(t, addForeign(c), unix.EEXIST, "the foreign route is still there")
		return nil
	})

	// A changed source replaces the route.
	require.NoError(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: remote4}}))
	require.NoError(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: remote4, Source: router4}}))
	inside(t, path, func(c *conn) error {
		assert.Equal(t, want[:1], hostRoutesNow(c))
		return nil
	})
}

// TestOverlayHearsPackets: a VXLAN packet made by hand arrives on cilium_vxlan, over an IPv4 and an
// IPv6 underlay.
func TestOverlayHearsPackets(t *testing.T) {
	netnstest.Require(t)
	_, path, _ := overlayNode(t)
	for _, dst := range []string{"127.0.0.1", "::1"} {
		stop := capture(t, path, DeviceVXLAN)
		inner := append(append([]byte{}, datapath.OverlayMAC[:]...), 2, 0, 0, 0, 0, 9, 0x88, 0xb5, 'h', 'i')
		packet := append([]byte{0x08, 0, 0, 0, 0, 0x12, 0x34, 0}, inner...)
		require.NoError(t, netns.Do(path, func() error {
			s, err := net.Dial("udp", net.JoinHostPort(dst, "8472"))
			if err != nil {
				return err
			}
			defer s.Close()
			_, err = s.Write(packet)
			return err
		}))
		frames := stop()
		require.Len(t, frames, 1, dst)
		assert.Equal(t, inner, frames[0], dst)
	}
}
