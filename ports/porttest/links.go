package porttest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/ports"
)

// NodeDevices changes the devices of a node as others than the agent do.
type NodeDevices interface {
	// Add makes a device with Ethernet headers that is down and has no addresses.
	Add(t *testing.T, name string)
	Delete(t *testing.T, name string)
	Rename(t *testing.T, from, to string)
	SetUp(t *testing.T, name string, up bool)
	// AddAddress and DeleteAddress change those of one device.
	AddAddress(t *testing.T, name string, a netip.Prefix)
	DeleteAddress(t *testing.T, name string, a netip.Prefix)
	// SetDefault makes a default route by a device with an address, DeleteDefault takes it away.
	SetDefault(t *testing.T, name string)
	DeleteDefault(t *testing.T)
}

var (
	linkAddr4 = netip.MustParsePrefix("192.0.2.17/24")
	linkAddr6 = netip.MustParsePrefix("2001:db8:2::17/64")
)

// named finds a device among those of the node.
func named(t *testing.T, n ports.Network, name string) (devices.Link, bool) {
	t.Helper()
	links, err := n.Links()
	require.NoError(t, err)
	i := slices.IndexFunc(links, func(l devices.Link) bool { return l.Name == name })
	if i < 0 {
		return devices.Link{}, false
	}
	return links[i], true
}

func mustHave(t *testing.T, n ports.Network, name string) devices.Link {
	t.Helper()
	l, ok := named(t, n, name)
	require.True(t, ok, "%s is missing", name)
	return l
}

func testNetworkLinks(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	lo := mustHave(t, n, "lo")
	assert.True(t, lo.Loopback)
	assert.False(t, lo.Ethernet)
	_, ok := named(t, n, "wan")
	require.False(t, ok)

	s.Devices.Add(t, "wan")
	wan := mustHave(t, n, "wan")
	assert.NotZero(t, wan.Index)
	assert.Equal(t, devices.Link{Index: wan.Index, Name: "wan", Ethernet: true}, wan)
	s.Devices.SetUp(t, "wan", true)
	s.Devices.AddAddress(t, "wan", linkAddr4)
	s.Devices.AddAddress(t, "wan", linkAddr6)
	wan = mustHave(t, n, "wan")
	assert.True(t, wan.Up)
	assert.Subset(t, wan.Addresses, []netip.Addr{linkAddr4.Addr(), linkAddr6.Addr()})
	assert.False(t, wan.Default)
	s.Devices.SetDefault(t, "wan")
	assert.True(t, mustHave(t, n, "wan").Default)
	s.Devices.DeleteDefault(t)
	assert.False(t, mustHave(t, n, "wan").Default)
	s.Devices.DeleteAddress(t, "wan", linkAddr4)
	assert.NotContains(t, mustHave(t, n, "wan").Addresses, linkAddr4.Addr())

	_, err := n.EnsureOverlay(testOverlay())
	require.NoError(t, err)
	l := testPod(0, s.NewNetns(t))
	_, err = n.CreatePodLink(l)
	require.NoError(t, err)
	links, err := n.Links()
	require.NoError(t, err)
	choice := devices.Choose(links, devices.Wanted{Names: []string{"+"}})
	assert.Contains(t, choice.Indexes(), wan.Index)
	for _, d := range choice.Devices {
		assert.False(t, devices.IsPods(d.Name), d.Name)
	}

	s.Devices.SetUp(t, "wan", false)
	assert.False(t, mustHave(t, n, "wan").Up)
	s.Devices.Rename(t, "wan", "wan1")
	assert.Equal(t, wan.Index, mustHave(t, n, "wan1").Index)
	s.Devices.Delete(t, "wan1")
	_, ok = named(t, n, "wan1")
	assert.False(t, ok)
}

func testNetworkWatchLinks(t *testing.T, s NetworkSetup) {
	n := s.New(t)
	news := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- n.WatchLinks(ctx, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}()
	told := func(what string) {
		t.Helper()
		select {
		case <-news:
		case err := <-ended:
			require.Fail(t, "the watch ended", "%s: %v", what, err)
		case <-time.After(patience):
			require.Fail(t, "not told", what)
		}
	}
	// until waits for news after which it is true: what was told may be of before.
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			told(what)
		}
	}
	told("that it watches")
	has := func(name string, ok func(devices.Link) bool) func() bool {
		return func() bool {
			l, there := named(t, n, name)
			return there && ok(l)
		}
	}
	// Each change has to be told by itself: news of the one before are over when the list was read.
	quiet := func() {
		for {
			select {
			case <-news:
			case <-time.After(50 * time.Millisecond):
				return
			}
		}
	}
	change := func(what string, do func(), ok func() bool) {
		t.Helper()
		quiet()
		do()
		told(what)
		until(what, ok)
	}
	any := func(devices.Link) bool { return true }
	change("a new device", func() { s.Devices.Add(t, "wan") }, has("wan", any))
	change("up", func() { s.Devices.SetUp(t, "wan", true) }, has("wan", func(l devices.Link) bool { return l.Up }))
	change("an address", func() { s.Devices.AddAddress(t, "wan", linkAddr4) },
		has("wan", func(l devices.Link) bool { return slices.Contains(l.Addresses, linkAddr4.Addr()) }))
	change("an IPv6 address", func() { s.Devices.AddAddress(t, "wan", linkAddr6) },
		has("wan", func(l devices.Link) bool { return slices.Contains(l.Addresses, linkAddr6.Addr()) }))
	change("a default route", func() { s.Devices.SetDefault(t, "wan") }, has("wan", func(l devices.Link) bool { return l.Default }))
	change("no default route", func() { s.Devices.DeleteDefault(t) }, has("wan", func(l devices.Link) bool { return !l.Default }))
	change("an address less", func() { s.Devices.DeleteAddress(t, "wan", linkAddr4) },
		has("wan", func(l devices.Link) bool { return !slices.Contains(l.Addresses, linkAddr4.Addr()) }))
	change("down", func() { s.Devices.SetUp(t, "wan", false) }, has("wan", func(l devices.Link) bool { return !l.Up }))
	change("a name", func() { s.Devices.Rename(t, "wan", "wan1") }, has("wan1", any))
	change("gone", func() { s.Devices.Delete(t, "wan1") }, func() bool {
		_, there := named(t, n, "wan1")
		return !there
	})
	cancel()
	select {
	case err := <-ended:
		assert.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "WatchLinks did not return")
	}
}
