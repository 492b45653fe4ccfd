package rtnetlink

import (
	"net/netip"
	"testing"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestTrafficBetweenPodsAndNode(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	a, b := newPod(t, 0), newPod(t, 1)
	attach(t, n, a)
	attach(t, n, b)
	for i, router := range []netip.Addr{router4, router6} {
		src, err := echo(t, a.Netns, b.Netns, b.Addresses[i])
		require.NoError(t, err, "pod to pod %s", b.Addresses[i])
		assert.Equal(t, a.Addresses[i], src)
		src, err = echo(t, a.Netns, node, router)
		require.NoError(t, err, "pod to node %s", router)
		assert.Equal(t, a.Addresses[i], src)
		src, err = echo(t, node, b.Netns, b.Addresses[i])
		require.NoError(t, err, "node to pod %s", b.Addresses[i])
		assert.Equal(t, router, src, "the node speaks as the router")
	}
}

func TestNothingPassesBeforeActivation(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	_, err := n.CreatePodLink(l)
	require.NoError(t, err)
	for i, router := range []netip.Addr{router4, router6} {
		_, err = echo(t, l.Netns, node, router)
		assert.Error(t, err, "pod to node")
		_, err = echo(t, node, l.Netns, l.Addresses[i])
		assert.Error(t, err, "node to pod")
	}
	require.NoError(t, n.ActivatePodLink(l))
	for _, router := range []netip.Addr{router4, router6} {
		_, err = echo(t, l.Netns, node, router)
		assert.NoError(t, err, "what was set up before activation serves")
	}
}

// The first packet after activation arrives, however soon it is sent: echo does not repeat it.
func TestFirstPacketArrives(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	for i := range 10 {
		l := newPod(t, i)
		attach(t, n, l)
		_, err := echo(t, l.Netns, node, []netip.Addr{router4, router6}[i%2])
		require.NoError(t, err)
	}
}

// TestSilence: no address resolution, no router solicitation, no multicast report.
func TestSilence(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	attach(t, n, l)
	time.Sleep(3 * time.Second) // unsolicited reports come within two
	for _, where := range []struct{ path, device string }{
		{node, l.HostName}, {l.Netns, l.Interface}, {node, DeviceHost}, {node, DeviceNet}, {node, DeviceVXLAN},
	} {
		rx, tx := counters(t, where.path, where.device)
		assert.Equal(t, "0 0", rx+" "+tx, "packets received and sent on %s", where.device)
	}
	stop := capture(t, node, l.HostName)
	_, err := echo(t, l.Netns, node, router4)
	require.NoError(t, err)
	_, err = echo(t, l.Netns, node, router6)
	require.NoError(t, err)
	assert.Len(t, stop(), 2, "a datagram of each family and nothing else")
}

// When both sides have the same index, each in its namespace, the kernel notices carrier late.
func TestFirstPacketArrivesWhenIndexesAreEqual(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	inside(t, l.Netns, func(c *conn) error { // the next index in the pod is 5, as it is on the node
		for _, name := range []string{"br2", "br3", "br4"} {
			if err := c.newLink(linkRequest{name: name, kind: "bridge"}); err != nil {
				return err
			}
		}
		return nil
	})
	st := attach(t, n, l)
	inside(t, l.Netns, func(c *conn) error {
		pod, err := c.link(l.Interface)
		require.Equal(t, st.Ifindex, pod.index)
		return err
	})
	require.NoError(t, n.CheckPodLink(l))
	_, err := echo(t, l.Netns, node, router4)
	assert.NoError(t, err)
}

// Indexes are numbers within a namespace: an interface of another pair can have the same ones.
func TestAPairIsToldFromOneWithTheSameIndexes(t *testing.T) {
	netnstest.Require(t)
	n, _, _ := overlayNode(t)
	l := newPod(t, 0)
	st := attach(t, n, l)
	other := newPod(t, 1)
	other.HostName = l.HostName
	elsewhere := netns.Path(netnstest.New(t))
	inside(t, elsewhere, func(c *conn) error {
		for _, name := range []string{"br2", "br3", "br4"} {
			if err := c.newLink(linkRequest{name: name, kind: "bridge"}); err != nil {
				return err
			}
		}
		f, err := netns.Open(other.Netns)
		require.NoError(t, err)
		defer f.Close()
		return c.newLink(linkRequest{name: "same", kind: kindVeth, data: vethPeer(linkRequest{name: "eth0", netnsFD: int(f.Fd())})})
	})
	mine, err := readPodSide(l)
	require.NoError(t, err)
	foreign, err := readPodSide(other)
	require.NoError(t, err)
	require.Equal(t, []uint32{mine.index, st.Ifindex}, []uint32{foreign.index, foreign.peer})

	assert.ErrorIs(t, n.CheckPodLink(other), ports.ErrNotFound)
	assert.ErrorIs(t, n.ActivatePodLink(other), ports.ErrNotFound)
	_, err = n.CreatePodLink(other)
	assert.ErrorIs(t, err, ports.ErrConflict)
}

func TestPodSettings(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	st := attach(t, n, l)
	for name, want := range map[string]string{
		"ipv6/conf/eth0/accept_ra":            "0",
		"ipv6/conf/eth0/router_solicitations": "0",
		"ipv6/conf/eth0/accept_dad":           "0",
		"ipv6/conf/eth0/disable_ipv6":         "0",
		"ipv6/conf/eth0/addr_gen_mode":        "1",
	} {
		assert.Equal(t, want, sysctlOf(t, l.Netns, name), name)
	}
	for name, want := range map[string]string{
		"ipv4/conf/" + l.HostName + "/rp_filter":     "0",
		"ipv4/conf/" + l.HostName + "/forwarding":    "1",
		"ipv6/conf/" + l.HostName + "/accept_ra":     "0",
		"ipv6/conf/" + l.HostName + "/addr_gen_mode": "1",
	} {
		assert.Equal(t, want, sysctlOf(t, node, name), name)
	}
	inside(t, l.Netns, func(c *conn) error {
		pod, err := c.link("eth0")
		require.NoError(t, err)
		assert.Equal(t, st.MAC, pod.mac)
		assert.Equal(t, uint32(1450), pod.mtu)
		assert.True(t, pod.up())
		have, err := c.addresses(pod)
		assert.Equal(t, []netip.Prefix{netip.PrefixFrom(pod4, 32), netip.PrefixFrom(pod6, 128)}, have)
		return err
	})
	inside(t, node, func(c *conn) error {
		host, err := c.link(l.HostName)
		require.NoError(t, err)
		assert.Equal(t, st.NodeMAC, host.mac)
		assert.Equal(t, st.Ifindex, host.index)
		assert.Equal(t, uint32(1450), host.mtu)
		have, err := c.addresses(host)
		assert.Empty(t, have, "no link-local address")
		return err
	})
}

// A pod whose namespace came with IPv6 switched off, as some runtimes make it.
func TestIPv6IsSwitchedOnWhereItIsWanted(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	inside(t, l.Netns, func(*conn) error {
		return setSysctls([]sysctl{
			{path: "ipv6/conf/all/disable_ipv6", value: "1"},
			{path: "ipv6/conf/default/disable_ipv6", value: "1"},
		})
	})
	attach(t, n, l)
	_, err := echo(t, l.Netns, node, router6)
	assert.NoError(t, err)
}

func TestCheckSeesAndRepetitionRepairs(t *testing.T) {
	netnstest.Require(t)
	n, node, _ := overlayNode(t)
	l := newPod(t, 0)
	attach(t, n, l)
	pod := func(t *testing.T, f func(*conn, *link) error) {
		inside(t, l.Netns, func(c *conn) error {
			d, err := c.link(l.Interface)
			require.NoError(t, err)
			return f(c, d)
		})
	}
	host := func(t *testing.T, f func(*conn, *link) error) {
		inside(t, node, func(c *conn) error {
			d, err := c.link(l.HostName)
			require.NoError(t, err)
			return f(c, d)
		})
	}
	for name, damage := range map[string]struct {
		do   func(t *testing.T)
		says string
	}{
		"pod route": {func(t *testing.T) {
			pod(t, func(c *conn, d *link) error { return c.deleteRoute(d, podRoutes(l)[1]) })
		}, "route 0.0.0.0/0 via 10.244.1.1 is missing"},
		"pod address": {func(t *testing.T) {
			pod(t, func(c *conn, d *link) error { return c.setAddresses(d, l.Addresses[:1]) })
		}, "address fd00:10:244:1::10 is missing"},
		"pod gateway moved": {func(t *testing.T) {
			pod(t, func(c *conn, d *link) error { return c.setNeighbour(d, router4, datapath.MAC{2, 2, 2, 2, 2, 2}) })
		}, "neighbour 10.244.1.1 is at 02:02:02:02:02:02"},
		"pod MTU": {func(t *testing.T) {
			pod(t, func(c *conn, d *link) error { return c.setShape(d, shape{mtu: 1300}) })
		}, "MTU is 1300, must be 1450"},
		"pod side down": {func(t *testing.T) {
			pod(t, func(c *conn, d *link) error {
				return c.do(unix.RTM_NEWLINK, 0, linkRequest{index: d.index, mask: unix.IFF_UP})
			})
		}, "link eth0: is down"},
		"host route": {func(t *testing.T) {
			host(t, func(c *conn, d *link) error { return c.setRoutes(d, hostRoutes(l)[:1]) })
		}, "route fd00:10:244:1::10/128 src fd00:10:244:1::1 is missing"},
		"host neighbour": {func(t *testing.T) {
			host(t, func(c *conn, d *link) error {
				return c.do(unix.RTM_DELNEIGH, 0, &rtnetlink.NeighMessage{Family: unix.AF_INET, Index: d.index,
					Attributes: &rtnetlink.NeighAttributes{Address: netIP(pod4), IfIndex: d.index}})
			})
		}, "permanent neighbour 10.244.1.10 is missing"},
		"host side down": {func(t *testing.T) {
			host(t, func(c *conn, d *link) error {
				return c.do(unix.RTM_NEWLINK, 0, linkRequest{index: d.index, mask: unix.IFF_UP})
			})
		}, "link " + l.HostName + ": is down"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, n.CheckPodLink(l))
			damage.do(t)
			assert.ErrorContains(t, n.CheckPodLink(l), damage.says)
			attach(t, n, l)
			assert.NoError(t, n.CheckPodLink(l))
			for i := range l.Addresses {
				_, err := echo(t, node, l.Netns, l.Addresses[i])
				assert.NoError(t, err)
			}
		})
	}
}
