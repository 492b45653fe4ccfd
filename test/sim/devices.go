package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

// deviceNames are what the agents of all nodes are told to serve.
var deviceNames = []string{"eth0", "wan+"}

// home is the device that has the node's own addresses, and stays.
func (n *node) home() devices.Link {
	return devices.Link{Index: network.DirectIfindex, Name: "eth0", Ethernet: true, Up: true, Default: true, Addresses: n.object.Addresses}
}

// changeDevices gives a node other devices, some of which lead to the network. Nobody outside the cluster has their addresses,
// but pods' and other nodes' may be among them.
func (n *node) changeDevices(rng *rand.Rand) {
	links := []devices.Link{n.home()}
	for range rng.IntN(4) {
		l := devices.Link{
			Index: 2*network.DirectIfindex + uint32(rng.IntN(3)), Name: one(rng, "wan0", "wan1", "lan0"),
			Ethernet: rng.IntN(5) > 0, Up: rng.IntN(4) > 0,
		}
		same := func(o devices.Link) bool { return o.Name == l.Name || o.Index == l.Index }
		if slices.ContainsFunc(links, same) {
			continue
		}
		for range rng.IntN(3) {
			l.Addresses = append(l.Addresses, one(rng, netip.AddrFrom4([4]byte{198, 18, byte(n.index), byte(rng.IntN(3))}),
				netip.MustParseAddr(fmt.Sprintf("2001:2:0:%x::%x", n.index, 1+rng.IntN(3))), n.someAddress(rng)))
		}
		links = append(links, l)
	}
	n.s.trace("%s: devices %v", n.name, links)
	n.network.SetLinks(links...)
	n.linksNews = true
}

// someAddress is one that the cluster knows as a node's.
func (n *node) someAddress(rng *rand.Rand) netip.Addr {
	return one(rng, one(rng, n.s.nodes...).object.Addresses...)
}

// hearOfDevices tells the agent, which may be late.
func (n *node) hearOfDevices() {
	if n.linksNews && n.agent != nil {
		n.linksNews = false
		n.s.trace("%s: hears that devices changed", n.name)
		n.do(func(a *runtime.Stepper) { a.LinksChanged() })
	}
}

// choice is what the agent has to make of the node's devices.
func (n *node) choice() devices.Choice {
	return devices.Choose(must(n.network.Links()), devices.Wanted{Names: deviceNames, Node: n.object.Addresses})
}

// checkDevices holds a quiet node's programs against its devices.
func (s *Sim) checkDevices(n *node) {
	attached, want := must(n.kernel.AttachedNetwork()), n.choice().Indexes()
	if !slices.Equal(attached, want) {
		s.failf("rows", "%s: the programs of the network are at %v, want %v", n.name, attached, want)
	}
}

func (n *node) deviceAddresses() engine.DeviceAddresses {
	return engine.DeviceAddresses{Addresses: n.choice().Addresses()}
}

func (l links) Links() ([]devices.Link, error) {
	if err := l.n.call("network Links", "", l.n.fault.network, false); err != nil {
		return nil, err
	}
	return l.Network.Links()
}

func (p programs) AttachNetwork(ifindexes []uint32) error {
	return p.n.change("kernel attach network", fmt.Sprint(ifindexes), p.n.fault.writes, func() error { return p.Kernel.AttachNetwork(ifindexes) })
}

var _ ports.Network = links{}
