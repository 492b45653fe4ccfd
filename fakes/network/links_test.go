package network_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/fakes/network"
)

// nodeDevices changes the devices of a fake network.
type nodeDevices struct {
	network *network.Network
	links   []devices.Link
	made    uint32
}

func (d *nodeDevices) change(name string, f func(*devices.Link)) {
	for i := range d.links {
		if name == "" || d.links[i].Name == name {
			f(&d.links[i])
		}
	}
	d.network.SetLinks(d.links...)
}

func (d *nodeDevices) Add(_ *testing.T, name string) {
	d.made++
	d.links = append(d.links, devices.Link{Index: 1000 + d.made, Name: name, Ethernet: true})
	d.network.SetLinks(d.links...)
}

func (d *nodeDevices) Delete(_ *testing.T, name string) {
	d.links = slices.DeleteFunc(d.links, func(l devices.Link) bool { return l.Name == name })
	d.network.SetLinks(d.links...)
}

func (d *nodeDevices) Rename(_ *testing.T, from, to string) {
	d.change(from, func(l *devices.Link) { l.Name = to })
}

func (d *nodeDevices) SetUp(_ *testing.T, name string, up bool) {
	d.change(name, func(l *devices.Link) { l.Up = up })
}

func (d *nodeDevices) AddAddress(_ *testing.T, name string, a netip.Prefix) {
	d.change(name, func(l *devices.Link) { l.Addresses = append(l.Addresses, a.Addr()) })
}

func (d *nodeDevices) DeleteAddress(_ *testing.T, name string, a netip.Prefix) {
	d.change(name, func(l *devices.Link) {
		l.Addresses = slices.DeleteFunc(slices.Clone(l.Addresses), func(b netip.Addr) bool { return a.Addr() == b })
	})
}

func (d *nodeDevices) SetDefault(_ *testing.T, name string) {
	d.change(name, func(l *devices.Link) { l.Default = true })
}

func (d *nodeDevices) DeleteDefault(*testing.T) {
	d.change("", func(l *devices.Link) { l.Default = false })
}
