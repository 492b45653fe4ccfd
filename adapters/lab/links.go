package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// netConn is a route netlink connection into a named namespace.
type netConn struct {
	*rtnetlink.Conn
	name string
	ns   *os.File
}

func dialNetns(name string) (*netConn, error) {
	f, err := os.Open(netns.Path(name))
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	c, err := rtnetlink.Dial(&netlink.Config{NetNS: int(f.Fd()), Strict: false})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("network namespace %s: netlink: %w", name, err)
	}
	return &netConn{Conn: c, name: name, ns: f}, nil
}

func (c *netConn) Close() {
	c.Conn.Close()
	c.ns.Close()
}

func (c *netConn) index(link string) (uint32, error) {
	links, err := c.Link.List()
	if err != nil {
		return 0, fmt.Errorf("%s: list links: %w", c.name, err)
	}
	for _, l := range links {
		if l.Attributes != nil && l.Attributes.Name == link {
			return l.Index, nil
		}
	}
	return 0, fmt.Errorf("%s: link %s: %w", c.name, link, os.ErrNotExist)
}

func (c *netConn) up(index uint32) error {
	err := c.Link.Set(&rtnetlink.LinkMessage{Index: index, Flags: unix.IFF_UP, Change: unix.IFF_UP})
	if err != nil {
		return fmt.Errorf("%s: link %d up: %w", c.name, index, err)
	}
	return nil
}

// addAddress assigns without duplicate address detection: the address works at once.
func (c *netConn) addAddress(index uint32, p netip.Prefix) error {
	m := &rtnetlink.AddressMessage{
		Family: family(p.Addr()), PrefixLength: uint8(p.Bits()), Scope: unix.RT_SCOPE_UNIVERSE, Index: index,
		Attributes: &rtnetlink.AddressAttributes{Address: p.Addr().AsSlice(), Local: p.Addr().AsSlice()},
	}
	if p.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD
		m.Attributes.Flags = unix.IFA_F_NODAD
	}
	if err := c.Address.New(m); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: address %s: %w", c.name, p, err)
	}
	return nil
}

// addRoute replaces the route to p; without a gateway the destination is on the link.
func (c *netConn) addRoute(index uint32, p netip.Prefix, gateway netip.Addr) error {
	m := &rtnetlink.RouteMessage{
		Family: family(p.Addr()), DstLength: uint8(p.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST,
		Attributes: rtnetlink.RouteAttributes{OutIface: index},
	}
	if p.Bits() > 0 {
		m.Attributes.Dst = net.IP(p.Masked().Addr().AsSlice())
	}
	if gateway.IsValid() {
		m.Scope = unix.RT_SCOPE_UNIVERSE
		m.Attributes.Gateway = gateway.AsSlice()
	}
	if err := c.Route.Replace(m); err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", c.name, p, gateway, err)
	}
	return nil
}

// newBridge makes a bridge that is up and returns its index.
func (c *netConn) newBridge(name string) (uint32, error) {
	err := c.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: name, Info: &rtnetlink.LinkInfo{Kind: "bridge"},
	}})
	if err != nil {
		return 0, fmt.Errorf("%s: bridge %s: %w", c.name, name, err)
	}
	index, err := c.index(name)
	if err != nil {
		return 0, err
	}
	return index, c.up(index)
}

// newVeth makes a pair: port here, a member of the bridge, and link in the other namespace. Both are up.
func (c *netConn) newVeth(port string, bridge uint32, other *netConn, link string) (uint32, error) {
	err := c.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: port, Master: &bridge,
		Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
			Attributes: &rtnetlink.LinkAttributes{Name: link, NetNS: rtnetlink.NetNSForFD(uint32(other.ns.Fd()))},
		}}},
	}})
	if err != nil {
		return 0, fmt.Errorf("%s: veth %s to %s: %w", c.name, port, other.name, err)
	}
	here, err := c.index(port)
	if err != nil {
		return 0, err
	}
	there, err := other.index(link)
	if err != nil {
		return 0, err
	}
	return there, errors.Join(c.up(here), other.up(there))
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
