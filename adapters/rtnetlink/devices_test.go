package rtnetlink

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/core/devices"
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

// nodeDevices are veths whose other sides have the letter p behind their names.
type nodeDevices struct{ path string }

func (d *nodeDevices) Add(t *testing.T, name string) {
	run(t, d.path, "link add "+name+" type veth peer name "+name+"p", "link set "+name+"p up")
}
func (d *nodeDevices) Delete(t *testing.T, name string) { run(t, d.path, "link del "+name) }
func (d *nodeDevices) Rename(t *testing.T, from, to string) {
	run(t, d.path, "link set "+from+" name "+to)
}
func (d *nodeDevices) SetUp(t *testing.T, name string, up bool) {
	run(t, d.path, "link set "+name+map[bool]string{true: " up", false: " down"}[up])
}
func (d *nodeDevices) AddAddress(t *testing.T, name string, a netip.Prefix) {
	run(t, d.path, "addr add "+a.String()+" dev "+name+map[bool]string{true: " nodad"}[a.Addr().Is6()])
}
func (d *nodeDevices) DeleteAddress(t *testing.T, name string, a netip.Prefix) {
	run(t, d.path, "addr del "+a.String()+" dev "+name)
}
func (d *nodeDevices) SetDefault(t *testing.T, name string) {
	run(t, d.path, "route add default via 192.0.2.1 dev "+name+" onlink")
}
func (d *nodeDevices) DeleteDefault(t *testing.T) { run(t, d.path, "route del default") }

// What the port's contract does not say: which of the kernel's devices and addresses are like what.
func TestLinksOfTheKernel(t *testing.T) {
	netnstest.Require(t)
	n, path := newNode(t)
	run(t, path, "link add wan type veth peer name wanp", "link set wan up",
		"addr add 203.0.113.5/24 dev wan", "addr add 203.0.113.6 peer 198.51.100.1 dev wan", "addr add 2001:db8:1::1/64 dev wan",
		"link add many type veth peer name manyp", "link set many up", "addr add 192.0.2.1/24 dev many",
		"-6 addr add 2001:db8:2::1/64 dev many nodad", "-6 route add default via 2001:db8:2::9 dev many")
	find := func(name string) devices.Link {
		links, err := n.Links()
		require.NoError(t, err)
		i := slices.IndexFunc(links, func(l devices.Link) bool { return l.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		return links[i]
	}
	wan := find("wan")
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("203.0.113.6")}, wan.Addresses,
		"the own side of a pair, and not what IPv6 is still trying out")
	assert.False(t, wan.Default)
	assert.True(t, find("many").Default, "IPv6 has default routes, too")
	run(t, path, "-6 route del default", "route add default nexthop via 203.0.113.1 dev wan nexthop via 192.0.2.9 dev many",
		"route add default via 192.0.2.9 table 100")
	assert.True(t, find("wan").Default && find("many").Default, "one route may lead to several")
	run(t, path, "route del default")
	assert.False(t, find("many").Default, "only the main table counts")

	if _, err := os.Stat("/dev/net/tun"); err == nil { // not every machine has it
		run(t, path, "tuntap add dev raw mode tun", "link set raw up")
		assert.False(t, find("raw").Ethernet)
	}
}

// watched counts what a watch tells; hold makes it wait in the middle of telling.
type watched struct {
	calls atomic.Int32
	hold  sync.Mutex
}

func watch(t *testing.T, n *Network, buffer int) *watched {
	t.Helper()
	w := &watched{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- n.watchLinks(ctx, func() {
			w.calls.Add(1)
			w.hold.Lock()
			defer w.hold.Unlock()
		}, buffer)
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	w.more(t, 0, "it watches")
	return w
}

// more waits until more than so many calls were made.
func (w *watched) more(t *testing.T, than int32, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return w.calls.Load() > than }, 5*time.Second, time.Millisecond, what)
}

// quiet waits until nothing is told any more, and says how often something was.
func (w *watched) quiet() int32 {
	for seen := w.calls.Load(); ; {
		time.Sleep(100 * time.Millisecond)
		now := w.calls.Load()
		if now == seen {
			return now
		}
		seen = now
	}
}

// What happens to pods' links is no news, as long as they are that.
func TestWatchLeavesPodsOut(t *testing.T) {
	netnstest.Require(t)
	n, path, _ := overlayNode(t)
	w := watch(t, n, watchBuffer)
	seen := w.quiet()
	pod := newPod(t, 0)
	attach(t, n, pod)
	require.NoError(t, n.DeletePodLink(pod.HostName))
	assert.Equal(t, seen, w.quiet(), "a pod that comes and goes")

	run(t, path, "link add wan type veth peer name wanp")
	w.more(t, seen, "a new device")
	seen = w.quiet()
	run(t, path, "link set wan name lxcfoo")
	w.more(t, seen, "it has become a pod's")
	seen = w.quiet()
	run(t, path, "link set lxcfoo up", "addr add 192.0.2.1/24 dev lxcfoo")
	assert.Equal(t, seen, w.quiet(), "and stays one")
	run(t, path, "link set lxcfoo down", "link set lxcfoo name wan")
	w.more(t, seen, "and is one no more")
	seen = w.quiet()
	run(t, path, "addr add 192.0.2.2/24 dev wan")
	w.more(t, seen, "its addresses count")
}

// What the kernel could not tell leads to one more look.
func TestWatchSurvivesLosses(t *testing.T) {
	netnstest.Require(t)
	n, path := newNode(t)
	run(t, path, "link add wan type veth peer name wanp")
	w := watch(t, n, 4096)
	seen := w.quiet()
	w.hold.Lock()
	run(t, path, "link set wan up") // the one that it is told of
	w.more(t, seen, "the first")
	for range 20 {
		run(t, path, "link set wan down", "link set wan up")
	}
	run(t, path, "link add lan type veth peer name lanp")
	seen = w.calls.Load()
	w.hold.Unlock()
	w.more(t, seen, "the loss")
	seen = w.quiet()
	run(t, path, "addr add 192.0.2.2/24 dev lan")
	w.more(t, seen, "a device of which it was not told")
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
