package rtnetlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func netIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}

// addresses lists the addresses of a device with the length of their prefixes.
func (c *conn) addresses(l *link) ([]netip.Prefix, error) {
	msgs, err := c.dump(unix.RTM_GETADDR, &rtnetlink.AddressMessage{Index: l.index})
	if err != nil {
		return nil, fmt.Errorf("link %s: list addresses: %w", l.name, err)
	}
	var ps []netip.Prefix
	for _, m := range msgs {
		var am rtnetlink.AddressMessage
		if err := am.UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("link %s: list addresses: %w", l.name, err)
		}
		if am.Index != l.index || am.Attributes == nil {
			continue
		}
		ip := am.Attributes.Local // absent for IPv6; what we want if there is a peer
		if ip == nil {
			ip = am.Attributes.Address
		}
		if a := addrOf(ip); a.IsValid() {
			ps = append(ps, netip.PrefixFrom(a, int(am.PrefixLength)))
		}
	}
	return ps, nil
}

func addressMessage(l *link, p netip.Prefix) *rtnetlink.AddressMessage {
	a := p.Addr()
	m := &rtnetlink.AddressMessage{
		Family:       family(a),
		PrefixLength: uint8(p.Bits()),
		Index:        l.index,
		Attributes:   &rtnetlink.AddressAttributes{Address: netIP(a)},
	}
	if a.Is4() {
		m.Attributes.Local = netIP(a)
	} else {
		// Nobody else can have it, and a tentative address could not be used at once.
		m.Attributes.Flags = unix.IFA_F_NODAD
	}
	return m
}

// setAddresses makes the device's addresses exactly these, each alone in its prefix (/32, /128).
func (c *conn) setAddresses(l *link, want []netip.Addr) error {
	have, err := c.addresses(l)
	if err != nil {
		return err
	}
	for _, p := range have {
		if p.IsSingleIP() && slices.Contains(want, p.Addr()) {
			continue
		}
		err := c.do(unix.RTM_DELADDR, 0, addressMessage(l, p))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("link %s: remove address %s: %w", l.name, p, err)
		}
	}
	for _, a := range want {
		p := netip.PrefixFrom(a, a.BitLen())
		if slices.Contains(have, p) {
			continue
		}
		err := c.do(unix.RTM_NEWADDR, netlink.Create|netlink.Replace, addressMessage(l, p))
		if err != nil {
			return fmt.Errorf("link %s: add address %s: %w", l.name, p, err)
		}
	}
	return nil
}

// linkWithAddress finds the device that has an address; ports.ErrNotFound if none has.
func (c *conn) linkWithAddress(a netip.Addr) (index uint32, err error) {
	msgs, err := c.dump(unix.RTM_GETADDR, &rtnetlink.AddressMessage{Family: family(a)})
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range msgs {
		var am rtnetlink.AddressMessage
		if err := am.UnmarshalBinary(m.Data); err != nil {
			return 0, fmt.Errorf("list addresses: %w", err)
		}
		if am.Attributes != nil && (addrOf(am.Attributes.Local) == a || addrOf(am.Attributes.Address) == a) {
			return am.Index, nil
		}
	}
	return 0, fmt.Errorf("address %s: no device has it: %w", a, ports.ErrNotFound)
}

// setNeighbour makes a permanent neighbour entry.
func (c *conn) setNeighbour(l *link, a netip.Addr, mac datapath.MAC) error {
	err := c.do(unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace, &rtnetlink.NeighMessage{
		Family: uint16(family(a)),
		Index:  l.index,
		State:  unix.NUD_PERMANENT,
		Attributes: &rtnetlink.NeighAttributes{
			Address:   netIP(a),
			LLAddress: mac[:],
			IfIndex:   l.index,
		},
	})
	if err != nil {
		return fmt.Errorf("link %s: set neighbour %s at %s: %w", l.name, a, mac, err)
	}
	return nil
}

// neighbours lists the permanent neighbour entries of a device.
func (c *conn) neighbours(l *link) (map[netip.Addr]datapath.MAC, error) {
	msgs, err := c.dump(unix.RTM_GETNEIGH, &rtnetlink.NeighMessage{})
	if err != nil {
		return nil, fmt.Errorf("link %s: list neighbours: %w", l.name, err)
	}
	ns := map[netip.Addr]datapath.MAC{}
	for _, m := range msgs {
		var nm rtnetlink.NeighMessage
		if err := nm.UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("link %s: list neighbours: %w", l.name, err)
		}
		if nm.Index != l.index || nm.State&unix.NUD_PERMANENT == 0 || nm.Attributes == nil || len(nm.Attributes.LLAddress) != 6 {
			continue
		}
		if a := addrOf(nm.Attributes.Address); a.IsValid() {
			ns[a] = datapath.MAC(nm.Attributes.LLAddress)
		}
	}
	return ns, nil
}
