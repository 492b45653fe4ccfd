package devices

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func addrs(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// machine has a bit of everything.
func machine() []Link {
	return []Link{
		{Index: 1, Name: "lo", Loopback: true, Up: true, Addresses: addrs("127.0.0.1", "::1", "198.51.100.9")},
		{Index: 2, Name: "eth0", Ethernet: true, Up: true, Addresses: addrs("192.0.2.1", "2001:db8::1", "fe80::1", "192.0.2.9")},
		{Index: 3, Name: "eth1", Ethernet: true, Up: true, Default: true, Addresses: addrs("203.0.113.5", "203.0.113.5")},
		{Index: 4, Name: "eth2", Ethernet: true, Addresses: addrs("10.9.0.1")},
		{Index: 5, Name: "wg0", Up: true, Addresses: addrs("10.8.0.1")},
		{Index: 6, Name: "cilium_host", Ethernet: true, Up: true, Default: true, Addresses: addrs("10.1.0.1")},
		{Index: 7, Name: "lxc0123456789ab", Ethernet: true, Up: true, Default: true},
		{Index: 8, Name: "docker0", Ethernet: true, Up: true, Addresses: addrs("172.17.0.1")},
	}
}

func names(c Choice) (out []string) {
	for _, d := range c.Devices {
		out = append(out, d.Name)
	}
	return out
}

func TestChoose(t *testing.T) {
	node := addrs("192.0.2.1", "2001:db8::1", "198.51.100.9")
	for name, c := range map[string]struct {
		wanted   Wanted
		names    []string
		warnings string
	}{
		"found out":                 {Wanted{Node: node}, []string{"eth0", "eth1"}, ""},
		"no address of the node":    {Wanted{Node: addrs("192.0.2.77")}, []string{"eth1"}, ""},
		"named":                     {Wanted{Names: []string{"eth0"}, Node: node}, []string{"eth0"}, ""},
		"by pattern, down included": {Wanted{Names: []string{"eth+"}, Node: node}, []string{"eth0", "eth1", "eth2"}, ""},
		"some are not there":        {Wanted{Names: []string{"bond0", "eth1"}, Node: node}, []string{"eth1"}, ""},
		"none is there":             {Wanted{Names: []string{"bond0", "ens+"}, Node: node}, nil, "none that could serve is called bond0 or ens+"},
		"not Ethernet":              {Wanted{Names: []string{"wg0", "eth0"}, Node: node}, []string{"eth0"}, "device wg0: it has no Ethernet headers"},
		"not Ethernet, by pattern":  {Wanted{Names: []string{"w+", "eth0"}, Node: node}, []string{"eth0"}, ""},
		"there, but not Ethernet":   {Wanted{Names: []string{"wg0"}, Node: node}, nil, "none that could serve is called wg0"},
		"never pods and loopback":   {Wanted{Names: []string{"+"}, Node: node}, []string{"eth0", "eth1", "eth2", "docker0"}, ""},
		"not even by name":          {Wanted{Names: []string{"cilium_host", "lo", "lxc+"}, Node: node}, nil, "none that could serve is called"},
	} {
		got := Choose(machine(), c.wanted)
		assert.Equal(t, c.names, names(got), name)
		if c.warnings == "" {
			assert.Empty(t, got.Warnings, name)
		} else {
			assert.Contains(t, strings.Join(got.Warnings, "\n"), c.warnings, name)
		}
	}
	none := Choose(machine()[:1], Wanted{Node: node})
	assert.Empty(t, none.Devices, "the loopback device's address does not count")
	assert.Contains(t, none.Warnings[0], "none has one of [192.0.2.1 2001:db8::1 198.51.100.9] or a default route")
}

func TestAddressesOfChosenDevices(t *testing.T) {
	c := Choose(machine(), Wanted{Names: []string{"eth+"}})
	assert.Equal(t, addrs("192.0.2.1", "192.0.2.9", "2001:db8::1"), c.Devices[0].Addresses, "none of one link alone")
	assert.Equal(t, addrs("203.0.113.5"), c.Devices[1].Addresses)
	assert.Empty(t, c.Devices[2].Addresses, "nobody reaches what is down")
	assert.Equal(t, addrs("192.0.2.1", "192.0.2.9", "203.0.113.5", "2001:db8::1"), c.Addresses())
	assert.Equal(t, []uint32{2, 3, 4}, c.Indexes())
}

func TestChoiceDoesNotDependOnOrder(t *testing.T) {
	want := Choose(machine(), Wanted{Names: []string{"+"}})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		links := machine()
		rng.Shuffle(len(links), func(i, j int) { links[i], links[j] = links[j], links[i] })
		for _, l := range links {
			rng.Shuffle(len(l.Addresses), func(i, j int) { l.Addresses[i], l.Addresses[j] = l.Addresses[j], l.Addresses[i] })
		}
		before := slices.Clone(links)
		require.Equal(t, want, Choose(links, Wanted{Names: []string{"+"}}))
		require.Equal(t, before, links, "what is asked stays")
	}
}

func TestHomeMoved(t *testing.T) {
	node := addrs("192.0.2.1", "192.0.2.9", "2001:db8::1")
	h := Settle(node, machine())
	assert.Equal(t, addrs("192.0.2.1", "2001:db8::1"), h.Addresses)
	change := func(f func([]Link)) []Link {
		ls := machine()
		f(ls)
		return ls
	}
	moved := func(node []netip.Addr, links []Link) string { return strings.Join(h.Moved(node, links), "\n") }
	assert.Empty(t, moved(node, machine()))
	assert.Empty(t, moved(addrs("192.0.2.1", "2001:db8::1", "203.0.113.5"), machine()), "another one more or less")
	assert.Empty(t, moved(addrs("192.0.2.1"), machine()), "what nobody says is not said to be another")
	assert.Contains(t, moved(addrs("192.0.2.9", "192.0.2.1", "2001:db8::1"), machine()), "is 192.0.2.9 now, and no longer 192.0.2.1")
	assert.Contains(t, moved(addrs("192.0.2.1", "2001:db8::2"), machine()), "is 2001:db8::2 now")
	assert.Contains(t, moved(node, change(func(ls []Link) { ls[1].Addresses = addrs("2001:db8::1") })), "no device has the node's address 192.0.2.1")
	assert.Contains(t, moved(node, change(func(ls []Link) { ls[1].Index = 12 })), "is on another device now, eth0")
	assert.Empty(t, moved(node, change(func(ls []Link) { ls[1].Up, ls[1].Name = false, "lan0" })))

	far := Settle(addrs("100.64.0.1"), machine())
	assert.Empty(t, far.Moved(addrs("100.64.0.1"), machine()), "it never was on a device")
}
