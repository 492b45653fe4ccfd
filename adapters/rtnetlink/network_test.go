package rtnetlink

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestNetworkContract(t *testing.T) {
	netnstest.Require(t)
	d := &nodeDevices{}
	porttest.TestNetwork(t, porttest.NetworkSetup{
		New: func(t *testing.T) ports.Network {
			n, path := newNode(t)
			d.path = path
			return n
		},
		Devices:  d,
		NewNetns: func(t *testing.T) string { return netns.Path(netnstest.New(t)) },
		DeleteNetns: func(t *testing.T, path string) {
			require.NoError(t, netns.Delete(filepath.Base(path)))
		},
	})
}

// TestProcessNamespace runs the adapter without a Netns, as agent and plugin do, in a process that has
// a namespace of its own.
func TestProcessNamespace(t *testing.T) {
	netnstest.Require(t)
	if pod := os.Getenv("WEIR_TEST_POD_NETNS"); pod != "" {
		n := New(Config{})
		_, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4, router6}})
		require.NoError(t, err)
		l := ports.PodLink{Netns: pod, Interface: "eth0", HostName: "lxc0123456789ab", MTU: 1450,
			Addresses: []netip.Addr{pod4, pod6}, Gateways: []netip.Addr{router4, router6}}
		attach(t, n, l)
		require.NoError(t, n.CheckPodLink(l))
		own := l
		own.Netns = "/proc/self/ns/net"
		_, err = n.CreatePodLink(own)
		assert.ErrorContains(t, err, "is the node's own")
		return
	}
	before, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_TEST_POD_NETNS="+netns.Path(netnstest.New(t)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NotContains(t, string(out), "SKIP")
	after, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestManyPodsAtOnceLeakNothing(t *testing.T) {
	netnstest.Require(t)
	n, path, _ := overlayNode(t)
	files := func() int {
		es, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(es)
	}
	var links []ports.PodLink
	for i := range 20 {
		links = append(links, newPod(t, i))
	}
	before := files()
	errs := make([]error, len(links))
	var wg sync.WaitGroup
	for i, l := range links {
		wg.Go(func() {
			if _, errs[i] = n.CreatePodLink(l); errs[i] == nil {
				errs[i] = errors.Join(n.ActivatePodLink(l), n.CheckPodLink(l))
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	names, err := n.PodLinks()
	require.NoError(t, err)
	assert.Len(t, names, len(links))
	for i, l := range links {
		wg.Go(func() { errs[i] = n.DeletePodLink(l.HostName) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	assert.Equal(t, before, files(), "open files")
	inside(t, path, func(c *conn) error {
		ls, err := c.links("")
		assert.Len(t, ls, 4, "lo and the overlay's")
		return err
	})
}

func TestErrorsNameTheObject(t *testing.T) {
	netnstest.Require(t)
	gone := New(Config{Netns: "/run/netns/no-such-node"})
	_, err := gone.EnsureOverlay(ports.Overlay{MTU: 1450})
	assert.ErrorIs(t, err, ports.ErrNotFound)
	assert.ErrorContains(t, err, "/run/netns/no-such-node")

	n, path, _ := overlayNode(t)
	l := newPod(t, 0)
	inside(t, l.Netns, func(c *conn) error {
		return c.newLink(linkRequest{name: "eth0", kind: kindVeth, data: vethPeer(linkRequest{name: "other"})})
	})
	_, err = n.CreatePodLink(l)
	assert.ErrorIs(t, err, ports.ErrConflict)
	assert.ErrorContains(t, err, l.HostName)
	assert.ErrorContains(t, err, l.Netns)

	inside(t, path, func(c *conn) error { return c.newLink(linkRequest{name: "lxcbridge", kind: "bridge"}) })
	assert.ErrorIs(t, n.DeletePodLink("lxcbridge"), ports.ErrConflict)
	names, err := n.PodLinks()
	require.NoError(t, err)
	assert.Empty(t, names)
	l = newPod(t, 1)
	l.HostName = "lxcbridge"
	_, err = n.CreatePodLink(l)
	assert.ErrorIs(t, err, ports.ErrConflict)
}

func TestMTU(t *testing.T) {
	assert.Equal(t, 1450, OverlayMTU(1500, netip.MustParseAddr("192.0.2.1")))
	assert.Equal(t, 1450, OverlayMTU(1500, netip.MustParseAddr("::ffff:192.0.2.1")))
	assert.Equal(t, 1430, OverlayMTU(1500, netip.MustParseAddr("2001:db8::1")))

	netnstest.Require(t)
	n, _, _ := overlayNode(t)
	for _, a := range []netip.Addr{router4, router6} {
		mtu, err := n.UnderlayMTU(a)
		require.NoError(t, err)
		assert.Equal(t, 1450, mtu)
	}
	_, err := n.UnderlayMTU(netip.MustParseAddr("192.0.2.1"))
	assert.ErrorIs(t, err, ports.ErrNotFound)
	assert.ErrorContains(t, err, "192.0.2.1")
}

func TestMACsAreStableAndLocal(t *testing.T) {
	seen := map[datapath.MAC]bool{datapath.OverlayMAC: true}
	for i := range 100 {
		m := macFor(fmt.Sprint("lxc", i))
		assert.Equal(t, m, macFor(fmt.Sprint("lxc", i)))
		assert.Equal(t, byte(0x02), m[0]&0x03, "unicast, locally administered")
		assert.False(t, seen[m])
		seen[m] = true
	}
}
