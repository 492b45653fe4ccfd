package rtnetlink

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/ports"
)

func run(t *testing.T, path string, commands ...string) {
	t.Helper()
	for _, args := range commands {
		require.NoError(t, netns.Do(path, func() error {
			out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
			assert.NoError(t, err, "ip %s: %s", args, out)
			return err
		}))
	}
}

func TestDevicesForNodePorts(t *testing.T) {
	netnstest.Require(t)
	n, path := newNode(t)
	run(t, path, "link add wan type veth peer name wanp", "link set wan up", "link set wanp up",
		"link add lan0 type veth peer name lanp0", "link set lan0 up", "link set lanp0 up", "link add idle type veth peer name idlep",
		"addr add 203.0.113.5/24 dev wan", "addr add 192.0.2.1/24 dev lan0", "addr add 192.0.2.9/24 dev lan0", "addr add 2001:db8:1::1/64 dev lan0 nodad",
		"route add default via 203.0.113.1 dev wan")
	node := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.1")}
	ask := func(p ports.NodePorts) (ports.OverlayLinks, error) {
		return n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4}, NodePorts: &p})
	}
	names := func(p ports.NodePorts) (out []string) {
		links, err := ask(p)
		require.NoError(t, err)
		for _, d := range links.Devices {
			inside(t, path, func(c *conn) error {
				l, err := c.link(d.Name)
				assert.Equal(t, l.index, d.Index)
				return err
			})
			out = append(out, d.Name)
		}
		return out
	}
	pod := newPod(t, 0)
	links, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4, router6}})
	require.NoError(t, err)
	assert.Empty(t, links.Devices, "nobody asked")
	attach(t, n, pod)

	assert.ElementsMatch(t, []string{"wan", "lan0"}, names(ports.NodePorts{Addresses: node}))
	links, err = ask(ports.NodePorts{Addresses: node, Devices: []string{"lan0"}})
	require.NoError(t, err)
	require.Len(t, links.Devices, 1)
	assert.ElementsMatch(t, []netip.Addr{node[0], node[1], node[2]}, links.Devices[0].Addresses)
	assert.Equal(t, ports.Outside{Devices: []uint32{links.Devices[0].Index}, Addresses: node[:2]}, links.Outside, "one a family")
	assert.ElementsMatch(t, []string{"lan0", "lanp0"}, names(ports.NodePorts{Addresses: node, Devices: []string{"la+"}}))
	assert.ElementsMatch(t, []string{"idle", "idlep", "wan"}, names(ports.NodePorts{Devices: []string{"idle+", "wan", "none"}}))
	for _, d := range names(ports.NodePorts{Devices: []string{"+"}}) {
		assert.False(t, d == "lo" || strings.HasPrefix(d, "cilium_") || strings.HasPrefix(d, "lxc"), d)
	}

	if _, err := os.Stat("/dev/net/tun"); err == nil { // not every machine has it
		run(t, path, "tuntap add dev raw mode tun", "link set raw up")
		_, err = ask(ports.NodePorts{Addresses: node, Devices: []string{"lan0", "raw"}})
		require.ErrorIs(t, err, ports.ErrUnsupported, "it has no Ethernet headers")
		assert.ElementsMatch(t, []string{"lan0"}, names(ports.NodePorts{Addresses: node, Devices: []string{"lan0", "ra+"}}))
	}
	_, err = ask(ports.NodePorts{Addresses: node, Devices: []string{"eth+", "ens1"}})
	require.ErrorIs(t, err, ports.ErrNotFound)
	assert.Contains(t, err.Error(), "none is called eth+ or ens1")
	run(t, path, "route del default")
	assert.Empty(t, names(ports.NodePorts{Addresses: node[3:]}), "a node may have no way outside")
}

func TestPortsAreReserved(t *testing.T) {
	netnstest.Require(t)
	_, path := newNode(t)
	read := func() string {
		var s string
		require.NoError(t, netns.Do(path, func() error {
			b, err := os.ReadFile(sysctlRoot + "ipv4/ip_local_reserved_ports")
			s = strings.TrimSpace(string(b))
			return err
		}))
		return s
	}
	reserve := func(first, last uint16) {
		t.Helper()
		require.NoError(t, netns.Do(path, func() error { return reservePorts(first, last) }))
	}
	reserve(0, 0)
	reserve(30000, 32767)
	assert.Empty(t, read(), "no connection gets these anyway")
	reserve(32000, 33000)
	assert.Equal(t, "32000-33000", read())
	reserve(32500, 32999)
	assert.Equal(t, "32000-33000", read())
	reserve(40000, 40001)
	assert.Equal(t, "32000-33000,40000-40001", read(), "what is reserved stays so")
}
