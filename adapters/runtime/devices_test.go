package runtime_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/network"
)

func ethernet(index uint32, name string, addresses ...string) devices.Link {
	l := devices.Link{Index: index, Name: name, Ethernet: true, Up: true}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	return l
}

// hosts are the addresses that the kernel takes for the node's own.
func (u *upkeep) hosts() (out []string) {
	u.t.Helper()
	rows, err := u.kernel.Tables().Endpoints.Dump()
	require.NoError(u.t, err)
	for _, r := range rows {
		if !r.Value.Host {
			continue
		}
		out = append(out, r.Key.String())
		row, err := u.kernel.Tables().IPCache.Get(netip.PrefixFrom(r.Key, r.Key.BitLen()))
		require.NoError(u.t, err, "%s", r.Key)
		assert.Equal(u.t, identity.Host, row.Identity, "%s", r.Key)
	}
	slices.Sort(out)
	return out
}

// follows has the node's devices be these, and the agent hear of it.
func (u *upkeep) follows(links ...devices.Link) {
	u.t.Helper()
	u.clock.Advance(time.Second)
	u.net.SetLinks(links...)
	u.LinksChanged()
	u.Settle()
	u.Settle()
}

func (u *upkeep) requireDevices(indexes []uint32, hosts ...string) {
	u.t.Helper()
	attached, err := u.kernel.AttachedNetwork()
	require.NoError(u.t, err)
	require.Equal(u.t, indexes, attached)
	require.Equal(u.t, hosts, u.hosts())
	st, err := u.Status()
	require.NoError(u.t, err)
	var told []uint32
	for _, d := range st.Services.Devices {
		told = append(told, d.Index)
	}
	require.Equal(u.t, indexes, told, "weir status")
}

func (u *upkeep) told() (problems, warnings string) {
	u.t.Helper()
	st, err := u.Status()
	require.NoError(u.t, err)
	return strings.Join(st.Problems, "\n"), strings.Join(st.Warnings, "\n")
}

func TestDevicesAreFollowed(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{Enabled: true, Devices: []string{"eth+", "bond0"}}})
	eth0 := ethernet(7, "eth0", "192.0.2.1")
	u.net.SetLinks(eth0)
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.Synced{})
	require.True(t, u.Ready())
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1")

	u.follows(eth0, ethernet(8, "bond0", "203.0.113.1", "2001:db8::1", "fe80::1"))
	u.requireDevices([]uint32{7, 8}, "10.1.0.1", "192.0.2.1", "2001:db8::1", "203.0.113.1")
	u.follows(ethernet(7, "eth0", "192.0.2.1", "192.0.2.9"), ethernet(8, "bond0", "203.0.113.1"))
	u.requireDevices([]uint32{7, 8}, "10.1.0.1", "192.0.2.1", "192.0.2.9", "203.0.113.1")
	down := ethernet(8, "bond0", "203.0.113.1")
	down.Up = false
	u.follows(eth0, down)
	u.requireDevices([]uint32{7, 8}, "10.1.0.1", "192.0.2.1")
	u.follows(eth0, ethernet(8, "dmz", "203.0.113.1"))
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1")
	u.follows(eth0, ethernet(8, "eth1", "203.0.113.1"))
	u.requireDevices([]uint32{7, 8}, "10.1.0.1", "192.0.2.1", "203.0.113.1")
	u.follows(eth0, ethernet(9, "eth1", "203.0.113.1"))
	u.requireDevices([]uint32{7, 9}, "10.1.0.1", "192.0.2.1", "203.0.113.1")
	u.follows()
	u.requireDevices(nil, "10.1.0.1", "192.0.2.1")
	problems, warnings := u.told()
	assert.Contains(t, warnings, "none that could serve is called eth+ or bond0")
	assert.Contains(t, problems, "no device has the node's address 192.0.2.1")
	u.follows(eth0)
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1")
	problems, warnings = u.told()
	assert.Empty(t, problems+warnings)
}

// An agent may start before any device that it serves.
func TestDevicesMayAllComeLater(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{HostPorts: true, Devices: []string{"bond0"}}})
	u.net.SetLinks()
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.Synced{})
	require.True(t, u.Ready())
	u.requireDevices(nil, "10.1.0.1", "192.0.2.1")
	u.follows(ethernet(8, "bond0", "203.0.113.1"))
	u.requireDevices([]uint32{8}, "10.1.0.1", "192.0.2.1", "203.0.113.1")
}

// Who leaves services to kube-proxy has neither programs nor addresses of devices.
func TestDevicesOfOthers(t *testing.T) {
	u := newUpkeep(t, runtime.Config{})
	u.net.SetLinks(ethernet(7, "eth0", "192.0.2.1", "192.0.2.9"))
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.Synced{})
	u.requireDevices(nil, "10.1.0.1", "192.0.2.1")
	u.follows(ethernet(7, "eth0", "192.0.2.9"))
	u.requireDevices(nil, "10.1.0.1", "192.0.2.1")
	problems, _ := u.told()
	assert.Contains(t, problems, "no device has the node's address 192.0.2.1", "that concerns tunnels, too")
}

func TestNodesOwnAddressMoves(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{Enabled: true}})
	u.net.SetLinks(ethernet(7, "eth0", "192.0.2.1"))
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.Synced{})
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1")

	u.clock.Advance(time.Second)
	u.net.SetLinks(ethernet(7, "eth0", "192.0.2.1"), ethernet(8, "eth1", "192.0.2.2"))
	u.feed(nodeEvent("n1", "192.0.2.2", "10.1.0.0/24"))
	problems, _ := u.told()
	assert.Contains(t, problems, "the node's address is 192.0.2.2 now, and no longer 192.0.2.1")
	u.requireDevices([]uint32{8}, "10.1.0.1", "192.0.2.2")
	u.clock.Advance(time.Second)
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"))
	problems, _ = u.told()
	assert.Empty(t, problems, "it is as it was")
	u.follows(ethernet(9, "eth0", "192.0.2.1"))
	problems, _ = u.told()
	assert.Contains(t, problems, "is on another device now, eth0")
}

// What the kernel refuses is tried again, and told meanwhile; many news are one look.
func TestFollowingDevicesFails(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{Enabled: true, Devices: []string{"+"}}})
	u.net.SetLinks(ethernet(7, "eth0", "192.0.2.1"))
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.Synced{})
	looks := 0
	broken := map[string]bool{"Links": true}
	u.net.Fail(func(op, _ string) error {
		if op == "Links" {
			looks++
		}
		if broken[op] {
			return errors.New("no memory")
		}
		return nil
	})
	u.follows(ethernet(7, "eth0", "192.0.2.1"), ethernet(8, "eth1", "203.0.113.1"))
	problems, _ := u.told()
	assert.Contains(t, problems, "devices of the node: links: no memory")
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1")
	broken["Links"] = false
	attach := true
	u.kernel.Fail(func(op, table string, _ any) error {
		if attach && op == "attach" && table == "network" {
			return errors.New("no room")
		}
		return nil
	})
	u.clock.Advance(time.Second)
	u.Settle()
	problems, _ = u.told()
	assert.Contains(t, problems, "no room")
	attach = false
	next := u.Settle()
	require.False(t, next.IsZero(), "it says when to call again")
	u.clock.Advance(next.Sub(u.clock.Now()))
	u.Settle()
	problems, _ = u.told()
	assert.Empty(t, problems)
	u.requireDevices([]uint32{7, 8}, "10.1.0.1", "192.0.2.1", "203.0.113.1")

	u.clock.Advance(time.Second)
	looks = 0
	for range 100 {
		u.LinksChanged()
		u.Settle()
	}
	assert.Equal(t, 1, looks, "a burst")
	u.clock.Advance(time.Second)
	u.Settle()
	assert.Equal(t, 2, looks, "and what came after the look")
	u.clock.Advance(time.Second)
	u.Settle()
	assert.Equal(t, 2, looks, "nothing is polled")
}

// An address that the cluster knows better is not the node's because a device has it.
func TestAddressesOfPodsStayTheirs(t *testing.T) {
	u := newUpkeep(t, runtime.Config{NodePorts: config.NodePorts{Enabled: true, Devices: []string{"+"}}})
	u.net.SetLinks(ethernet(7, "eth0", "192.0.2.1"))
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}}, podEvent("web"),
		nodeEvent("n2", "192.0.2.2", "10.2.0.0/24"), cluster.Synced{})
	pod := u.attach("c-web", "web").Addresses[0].String()
	u.follows(ethernet(7, "eth0", "192.0.2.1", "192.0.2.2", pod, "203.0.113.1"))
	u.requireDevices([]uint32{7}, "10.1.0.1", "192.0.2.1", "203.0.113.1")
	row, err := u.kernel.Tables().Endpoints.Get(netip.MustParseAddr(pod))
	require.NoError(t, err)
	assert.NotZero(t, row.ID)
	require.NoError(t, u.Release("c-web", "eth0"))
	u.feed(cluster.NodeDelete{Name: "n2"})
	u.requireDevices([]uint32{7}, "10.1.0.1", pod, "192.0.2.1", "192.0.2.2", "203.0.113.1")
}

// The agent with its goroutines hears of devices by itself, and while it does not run they change, too.
func TestAgentHearsOfDevices(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	c, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		return runtime.New(runtime.Config{Node: node, Datapath: "fake", NodePorts: config.NodePorts{Enabled: true, Devices: []string{"eth+"}}}, runtime.Deps(d))
	}, fakes.Options{Nodes: 1})
	require.NoError(t, err)
	defer func() {
		require.NoError(t, c.Close())
		goleak.VerifyNone(t, leaks)
	}()
	n := c.Node("node1")
	own := devices.Link{Index: network.DirectIfindex, Name: "eth0", Ethernet: true, Up: true, Default: true, Addresses: n.Addresses}
	has := func(a string) func() bool {
		return func() bool {
			row, err := n.Kernel.Tables().Endpoints.Get(netip.MustParseAddr(a))
			return err == nil && row == (datapath.Endpoint{Identity: identity.Host, Host: true})
		}
	}
	n.Network.SetLinks(own, ethernet(9, "eth1", "203.0.113.1"))
	eventually(t, "eth1", has("203.0.113.1"))
	n.Network.SetLinks(own, ethernet(10, "eth2", "203.0.113.2"))
	eventually(t, "eth2", func() bool { return has("203.0.113.2")() && !has("203.0.113.1")() })
	require.NoError(t, c.KillAgent("node1"))
	n.Network.SetLinks(own, ethernet(11, "eth3", "203.0.113.3"))
	c.Launch("node1")
	eventually(t, "eth3", func() bool { return has("203.0.113.3")() && !has("203.0.113.2")() })
	attached, err := n.Kernel.AttachedNetwork()
	require.NoError(t, err)
	assert.Equal(t, []uint32{11, network.DirectIfindex}, attached)
}
