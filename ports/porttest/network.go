package porttest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// NetworkSetup is how the suite gets at an implementation of ports.Network.
type NetworkSetup struct {
	// New gives an implementation on a node that has nothing yet.
	New func(t *testing.T) ports.Network
	// NewNetns makes an empty network namespace for a pod and returns its path; DeleteNetns removes it.
	NewNetns    func(t *testing.T) string
	DeleteNetns func(t *testing.T, path string)
	// Devices changes those of the node that New gave last.
	Devices NodeDevices
}

var (
	router4 = netip.MustParseAddr("10.244.1.1")
	router6 = netip.MustParseAddr("fd00:10:244:1::1")
)

func testOverlay() ports.Overlay {
	return ports.Overlay{VXLANPort: 8472, MTU: 1430, Routers: []netip.Addr{router4, router6}}
}

// testPod describes the n-th pod's link.
func testPod(n byte, netns string) ports.PodLink {
	a4 := router4.As4()
	a4[3] = 10 + n
	a6 := router6.As16()
	a6[15] = 10 + n
	return ports.PodLink{
		Netns:     netns,
		Interface: "eth0",
		HostName:  datapath.HostDeviceName("container"+string('a'+rune(n)), "eth0"),
		MTU:       1430,
		Addresses: []netip.Addr{netip.AddrFrom4(a4), netip.AddrFrom16(a6)},
		Gateways:  []netip.Addr{router4, router6},
	}
}

// TestNetwork is the contract of ports.Network.
func TestNetwork(t *testing.T, s NetworkSetup) {
	for _, c := range []struct {
		name string
		test func(*testing.T, NetworkSetup)
	}{
		{"overlay", testNetworkOverlay},
		{"overlay refuses", testNetworkOverlayRefuses},
		{"node routes", testNetworkNodeRoutes},
		{"links", testNetworkLinks},
		{"watch links", testNetworkWatchLinks},
		{"pod link life", testNetworkPodLife},
		{"pod link repeated", testNetworkPodRepeated},
		{"pod link one family", testNetworkPodOneFamily},
		{"pod link moved", testNetworkPodMoved},
		{"pod link changed", testNetworkPodChanged},
		{"pod link refuses", testNetworkPodRefuses},
		{"pod link order", testNetworkPodOrder},
		{"pod namespace gone", testNetworkPodGone},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s) })
	}
}

func testNetworkOverlay(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	first, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	assert.NotZero(t, first.VXLAN)
	assert.NotZero(t, first.Host)
	assert.NotZero(t, first.Net)
	assert.NotEqual(t, first.VXLAN, first.Host)
	assert.NotEqual(t, first.Host, first.Net)
	assert.NotEqual(t, datapath.MAC{}, first.HostMAC)
	assert.NotEqual(t, datapath.MAC{}, first.NetMAC)
	assert.NotEqual(t, first.HostMAC, first.NetMAC)

	again, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	assert.Equal(t, first, again, "what is as asked is left alone")

	changed := testOverlay()
	changed.MTU = 1400
	changed.Routers = changed.Routers[:1]
	again, err = n.EnsureOverlay(changed)
	require.NoError(t, err)
	assert.Equal(t, first, again, "MTU and routers change in place")

	changed.VXLANPort = 4789
	again, err = n.EnsureOverlay(changed)
	require.NoError(t, err)
	assert.NotEqual(t, first.VXLAN, again.VXLAN, "another port is another device")
	assert.Equal(t, first.Host, again.Host)
	assert.Equal(t, first.Net, again.Net)
}

func testNetworkOverlayRefuses(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	for name, change := range map[string]func(*ports.Overlay){
		"MTU":                 func(o *ports.Overlay) { o.MTU = 1000 },
		"two of one family":   func(o *ports.Overlay) { o.Routers = []netip.Addr{router4, router4.Next()} },
		"multicast router":    func(o *ports.Overlay) { o.Routers = []netip.Addr{netip.MustParseAddr("ff02::1")} },
		"mapped router":       func(o *ports.Overlay) { o.Routers = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} },
		"router that is zero": func(o *ports.Overlay) { o.Routers = []netip.Addr{{}} },
	} {
		o := testOverlay()
		change(&o)
		_, err := n.EnsureOverlay(o)
		assert.Error(t, err, name)
	}
}

func testNetworkNodeRoutes(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	routes := []ports.NodeRoute{
		{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Source: router4},
		{Prefix: netip.MustParsePrefix("fd00:10:244:2::/64"), Source: router6},
	}
	assert.ErrorIs(t, n.SyncNodeRoutes(routes), ports.ErrNotFound, "before there is an overlay")
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)

	require.NoError(t, n.SyncNodeRoutes(routes))
	require.NoError(t, n.SyncNodeRoutes(routes))
	require.NoError(t, n.SyncNodeRoutes(routes[1:]))
	require.NoError(t, n.SyncNodeRoutes(routes[:1]))
	require.NoError(t, n.SyncNodeRoutes(nil))

	assert.Error(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: netip.MustParsePrefix("10.244.2.1/24"), Source: router4}}), "host bits")
	assert.Error(t, n.SyncNodeRoutes([]ports.NodeRoute{{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Source: router6}}), "families mixed")
	assert.Error(t, n.SyncNodeRoutes([]ports.NodeRoute{{}}), "no prefix")
}

func testNetworkPodLife(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	a, b := testPod(0, s.NewNetns(t)), testPod(1, s.NewNetns(t))

	sa, err := n.CreatePodLink(a)
	require.NoError(t, err)
	sb, err := n.CreatePodLink(b)
	require.NoError(t, err)
	assert.NotZero(t, sa.Ifindex)
	assert.NotEqual(t, sa.Ifindex, sb.Ifindex)
	macs := map[datapath.MAC]bool{sa.MAC: true, sa.NodeMAC: true, sb.MAC: true, sb.NodeMAC: true, {}: true}
	assert.Len(t, macs, 5, "addresses are different and not zero")

	assert.Error(t, n.CheckPodLink(a), "not active yet")
	require.NoError(t, n.ActivatePodLink(a))
	assert.NoError(t, n.CheckPodLink(a))
	assert.Error(t, n.CheckPodLink(b), "activating one does not activate the other")
	require.NoError(t, n.ActivatePodLink(b))
	assert.NoError(t, n.CheckPodLink(b))

	names, err := n.PodLinks()
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{a.HostName, b.HostName}, names)

	require.NoError(t, n.DeletePodLink(a.HostName))
	require.NoError(t, n.DeletePodLink(a.HostName), "absent is no error")
	assert.ErrorIs(t, n.CheckPodLink(a), ports.ErrNotFound)
	assert.NoError(t, n.CheckPodLink(b))
	names, err = n.PodLinks()
	require.NoError(t, err)
	assert.Equal(t, []string{b.HostName}, names)
}

func testNetworkPodRepeated(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	l := testPod(0, s.NewNetns(t))
	first, err := n.CreatePodLink(l)
	require.NoError(t, err)
	again, err := n.CreatePodLink(l)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.Error(t, n.CheckPodLink(l), "repeating does not activate")
	require.NoError(t, n.ActivatePodLink(l))
	require.NoError(t, n.ActivatePodLink(l))
	again, err = n.CreatePodLink(l)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.NoError(t, n.CheckPodLink(l), "an active link stays active")
}

func testNetworkPodOneFamily(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	for i := range 2 {
		l := testPod(byte(i), s.NewNetns(t))
		l.Addresses, l.Gateways = l.Addresses[i:i+1], l.Gateways[i:i+1]
		_, err := n.CreatePodLink(l)
		require.NoError(t, err)
		require.NoError(t, n.ActivatePodLink(l))
		assert.NoError(t, n.CheckPodLink(l))
	}
}

// A link that an earlier sandbox of the same name left is replaced.
func testNetworkPodMoved(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	old := testPod(0, s.NewNetns(t))
	before, err := n.CreatePodLink(old)
	require.NoError(t, err)
	require.NoError(t, n.ActivatePodLink(old))

	moved := testPod(0, s.NewNetns(t))
	assert.ErrorIs(t, n.ActivatePodLink(moved), ports.ErrNotFound)
	after, err := n.CreatePodLink(moved)
	require.NoError(t, err)
	assert.NotEqual(t, before.Ifindex, after.Ifindex)
	assert.Error(t, n.CheckPodLink(moved), "a new link is not active")
	require.NoError(t, n.ActivatePodLink(moved))
	assert.NoError(t, n.CheckPodLink(moved))
	assert.ErrorIs(t, n.CheckPodLink(old), ports.ErrNotFound)
}

func testNetworkPodChanged(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	l := testPod(0, s.NewNetns(t))
	_, err = n.CreatePodLink(l)
	require.NoError(t, err)
	require.NoError(t, n.ActivatePodLink(l))

	c := l
	c.MTU = 1400
	assert.ErrorContains(t, n.CheckPodLink(c), "1400")
	c.Addresses = []netip.Addr{l.Addresses[0].Next(), l.Addresses[1]}
	assert.ErrorContains(t, n.CheckPodLink(c), c.Addresses[0].String())
	_, err = n.CreatePodLink(c)
	require.NoError(t, err)
	require.NoError(t, n.ActivatePodLink(c))
	assert.NoError(t, n.CheckPodLink(c))
	assert.Error(t, n.CheckPodLink(l))
}

func testNetworkPodRefuses(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	ns := s.NewNetns(t)
	for name, change := range map[string]func(*ports.PodLink){
		"long host name":     func(l *ports.PodLink) { l.HostName = "lxc0123456789abcd" },
		"no host name":       func(l *ports.PodLink) { l.HostName = "" },
		"slash in interface": func(l *ports.PodLink) { l.Interface = "eth/0" },
		"no interface":       func(l *ports.PodLink) { l.Interface = "" },
		"small MTU":          func(l *ports.PodLink) { l.MTU = 500 },
		"no addresses":       func(l *ports.PodLink) { l.Addresses, l.Gateways = nil, nil },
		"gateway missing":    func(l *ports.PodLink) { l.Gateways = l.Gateways[:1] },
		"two of one family":  func(l *ports.PodLink) { l.Addresses = append(l.Addresses, l.Addresses[0].Next()) },
		"mapped address":     func(l *ports.PodLink) { l.Addresses[0] = netip.MustParseAddr("::ffff:10.244.1.10") },
	} {
		l := testPod(0, ns)
		change(&l)
		_, err := n.CreatePodLink(l)
		assert.Error(t, err, name)
		assert.Error(t, n.ActivatePodLink(l), name)
	}
	names, err := n.PodLinks()
	require.NoError(t, err)
	assert.Empty(t, names, "a refused link leaves nothing behind")
	assert.Error(t, n.DeletePodLink(""))
}

func testNetworkPodOrder(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	l := testPod(0, s.NewNetns(t))
	assert.ErrorIs(t, n.ActivatePodLink(l), ports.ErrNotFound)
	assert.ErrorIs(t, n.CheckPodLink(l), ports.ErrNotFound)
}

func testNetworkPodGone(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	l := testPod(0, s.NewNetns(t))
	_, err = n.CreatePodLink(l)
	require.NoError(t, err)
	s.DeleteNetns(t, l.Netns)
	assert.ErrorIs(t, n.CheckPodLink(l), ports.ErrNotFound)
	assert.ErrorIs(t, n.ActivatePodLink(l), ports.ErrNotFound)
	require.NoError(t, n.DeletePodLink(l.HostName))
	_, err = n.CreatePodLink(l)
	assert.ErrorIs(t, err, ports.ErrNotFound)
}
