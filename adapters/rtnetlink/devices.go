package rtnetlink

import (
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
)

// Links implements ports.Network.
func (n *Network) Links() ([]devices.Link, error) {
	var out []devices.Link
	err := n.node(func(c *conn) (err error) {
		out, err = c.nodeLinks()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("devices of the node: %w", err)
	}
	return out, nil
}

// nodeLinks lists all devices but those of pods.
func (c *conn) nodeLinks() ([]devices.Link, error) {
	links, err := c.links("")
	if err != nil {
		return nil, err
	}
	addresses, err := c.usedAddresses()
	if err != nil {
		return nil, err
	}
	uplinks, err := c.uplinks()
	if err != nil {
		return nil, err
	}
	var out []devices.Link
	for _, l := range links {
		if devices.IsPods(l.name) {
			continue
		}
		out = append(out, devices.Link{
			Index: l.index, Name: l.name, Up: l.up(), Loopback: l.flags&unix.IFF_LOOPBACK != 0,
			Ethernet: l.mac != (datapath.MAC{}), Default: uplinks[l.index], Addresses: addresses[l.index],
		})
	}
	return out, nil
}

// usedAddresses lists the addresses of all devices, by index, but those that IPv6 is still trying out or has found on
// another machine.
func (c *conn) usedAddresses() (map[uint32][]netip.Addr, error) {
	msgs, err := c.dump(unix.RTM_GETADDR, &rtnetlink.AddressMessage{})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := map[uint32][]netip.Addr{}
	for _, m := range msgs {
		var am rtnetlink.AddressMessage
		if err := am.UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if am.Attributes == nil || inDoubt(&am) {
			continue
		}
		ip := am.Attributes.Local
		if ip == nil {
			ip = am.Attributes.Address
		}
		if a := addrOf(ip); a.IsValid() {
			out[am.Index] = append(out[am.Index], a)
		}
	}
	return out, nil
}

// inDoubt says whether the kernel does not answer for an address.
func inDoubt(am *rtnetlink.AddressMessage) bool {
	flags := uint32(am.Flags) | am.Attributes.Flags
	return flags&unix.IFA_F_DADFAILED != 0 || flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
}

// uplinks are the devices of default routes.
func (c *conn) uplinks() (map[uint32]bool, error) {
	out := map[uint32]bool{}
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := c.dump(unix.RTM_GETROUTE, &rtnetlink.RouteMessage{Family: fam, Table: unix.RT_TABLE_MAIN})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range msgs {
			var r rtnetlink.RouteMessage
			if err := r.UnmarshalBinary(m.Data); err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			if r.DstLength != 0 || r.Type != unix.RTN_UNICAST || r.Table != unix.RT_TABLE_MAIN {
				continue
			}
			out[r.Attributes.OutIface] = true
			for _, hop := range r.Attributes.Multipath {
				out[hop.Hop.IfIndex] = true
			}
		}
	}
	delete(out, 0)
	return out, nil
}
