package rtnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// DefaultVXLANPort is used when an overlay does not say (Linux's and Cilium's choice).
const DefaultVXLANPort = 8472

// Next hops of the routes through cilium_host. They have permanent neighbour entries that point to
// cilium_net, and stand for nobody: the program on cilium_host takes the packet away before it gets
// there. One next hop for all keeps the neighbour table small however many pods other nodes have.
var (
	nextHop4 = netip.AddrFrom4([4]byte{169, 254, 119, 1})
	nextHop6 = netip.MustParseAddr("fe80::7765:6972")
)

func nextHop(v4 bool) netip.Addr {
	if v4 {
		return nextHop4
	}
	return nextHop6
}

// EnsureOverlay implements ports.Network. A device of one of the names that is of another kind is
// ports.ErrConflict; a cilium_vxlan with another port, which the kernel cannot change, is made anew.
func (n *Network) EnsureOverlay(o ports.Overlay) (ports.OverlayLinks, error) {
	var out ports.OverlayLinks
	if o.VXLANPort == 0 {
		o.VXLANPort = DefaultVXLANPort
	}
	if o.MTU < MinMTU || o.MTU > MaxMTU {
		return out, fmt.Errorf("overlay MTU %d: must be %d to %d", o.MTU, MinMTU, MaxMTU)
	}
	if err := checkAddresses("overlay routers", o.Routers); err != nil {
		return out, err
	}
	if o.Direct && !o.Native {
		return out, errors.New("overlay: direct routes need native routing")
	}
	if o.Direct && !o.Underlay.IsValid() {
		return out, errors.New("overlay: direct routes need the node's underlay address")
	}
	err := n.node(func(c *conn) error {
		var err error
		out, err = c.ensureOverlay(o)
		return err
	})
	if err != nil {
		return ports.OverlayLinks{}, fmt.Errorf("ensure overlay: %w", err)
	}
	return out, nil
}

func (c *conn) ensureOverlay(o ports.Overlay) (ports.OverlayLinks, error) {
	var out ports.OverlayLinks
	v6 := hasFamily(o.Routers, false)
	if v6 && !ipv6Available() {
		return out, fmt.Errorf("IPv6 router %s: the kernel has no IPv6: %w", o.Routers, ports.ErrUnsupported)
	}
	// Before the devices: turning forwarding on resets it for each device there is.
	if err := setSysctls(nodeSettings()); err != nil {
		return out, err
	}
	devices := []*link{}
	if o.Native {
		if err := c.removeVXLAN(); err != nil {
			return out, err
		}
	} else {
		vxlan, err := c.ensureVXLAN(o)
		if err != nil {
			return out, err
		}
		devices, out.VXLAN = append(devices, vxlan), vxlan.index
		if out.Tunnel, err = c.tunnel(o); err != nil {
			return out, err
		}
	}
	if o.Direct {
		l, err := c.ethernetWith(o.Underlay.Unmap())
		if err != nil {
			return out, fmt.Errorf("direct-routing device: %w", err)
		}
		out.Direct = l.index
	}
	host, peer, err := c.ensureHostPair(o.MTU)
	if err != nil {
		return out, err
	}
	devices = append(devices, peer, host)
	for _, l := range devices {
		if err := setSysctls(hostDevice(l.name, v6 && l != peer)); err != nil {
			return out, err
		}
	}
	if err := setSysctls(deadEnd(peer.name)); err != nil {
		return out, err
	}
	for _, l := range devices {
		if err := c.setUp(l); err != nil {
			return out, err
		}
	}
	if err := c.setAddresses(host, o.Routers); err != nil {
		return out, err
	}
	if err := c.awaitLocal(o.Routers); err != nil {
		return out, err
	}
	for _, r := range o.Routers {
		if err := c.setNeighbour(host, nextHop(r.Is4()), peer.mac); err != nil {
			return out, err
		}
	}
	if err := reservePorts(o.Reserved.First, o.Reserved.Last); err != nil {
		return out, err
	}
	out.Host, out.Net, out.HostMAC, out.NetMAC = host.index, peer.index, host.mac, peer.mac
	return out, nil
}

// nodeSettings turn the namespace into a router.
func nodeSettings() []sysctl {
	ss := []sysctl{
		{path: "ipv4/ip_forward", value: "1"},
		// The stricter of this and a device's own setting counts.
		{path: "ipv4/conf/all/rp_filter", value: "0"},
	}
	if ipv6Available() {
		ss = append(ss, sysctl{path: "ipv6/conf/all/forwarding", value: "1"})
	}
	return ss
}

// deadEnd keeps what arrives on cilium_net from being forwarded. Packets that the program on
// cilium_host did not take would otherwise be routed back into cilium_host until their hop limit ends.
func deadEnd(device string) []sysctl {
	ss := []sysctl{{path: "ipv4/conf/" + device + "/forwarding", value: "0"}}
	if ipv6Available() {
		ss = append(ss, sysctl{path: "ipv6/conf/" + device + "/disable_ipv6", value: "1"})
	}
	return ss
}

func (c *conn) ensureVXLAN(o ports.Overlay) (*link, error) {
	l, err := c.link(DeviceVXLAN)
	if err == nil && l.kind != kindVXLAN {
		return nil, fmt.Errorf("link %s: is a %q device, must be %s: %w", l.name, l.kind, kindVXLAN, ports.ErrConflict)
	}
	if err == nil && !sameVXLAN(l.data, o.VXLANPort) {
		if err := c.deleteLink(l); err != nil {
			return nil, err
		}
		err = ports.ErrNotFound
	}
	if errors.Is(err, ports.ErrNotFound) {
		if err := c.newLink(linkRequest{
			name: DeviceVXLAN,
			kind: kindVXLAN,
			mtu:  uint32(o.MTU),
			mac:  datapath.OverlayMAC,
			data: func(ae *netlink.AttributeEncoder) error {
				ae.Uint8(unix.IFLA_VXLAN_COLLECT_METADATA, 1)
				ae.Uint8(unix.IFLA_VXLAN_LEARNING, 0)
				ae.Bytes(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, o.VXLANPort))
				return nil
			},
		}); err != nil {
			return nil, err
		}
		l, err = c.link(DeviceVXLAN)
	}
	if err != nil {
		return nil, err
	}
	return l, c.setShape(l, shape{mtu: uint32(o.MTU), mac: datapath.OverlayMAC, noARP: true})
}

// tunnel describes the way of tunnelled packets outside, if it is an ordinary one.
func (c *conn) tunnel(o ports.Overlay) (ports.Tunnel, error) {
	address := o.Underlay.Unmap()
	if !address.Is4() {
		return ports.Tunnel{}, nil
	}
	l, err := c.ethernetWith(address)
	if errors.Is(err, ports.ErrNotFound) || errors.Is(err, ports.ErrUnsupported) {
		return ports.Tunnel{}, nil // the overlay device finds another way, or none
	}
	if err != nil {
		return ports.Tunnel{}, fmt.Errorf("device of the tunnels: %w", err)
	}
	return ports.Tunnel{Device: l.index, Address: address, Port: o.VXLANPort}, nil
}

// ethernetWith is the device that has an address; ports.ErrUnsupported if it is no Ethernet device.
func (c *conn) ethernetWith(a netip.Addr) (*link, error) {
	index, err := c.linkWithAddress(a)
	if err != nil {
		return nil, err
	}
	l, err := c.linkByIndex(index)
	if err != nil {
		return nil, err
	}
	if l.mac == (datapath.MAC{}) {
		return nil, fmt.Errorf("link %s, which has %s, is no Ethernet device: %w", l.name, a, ports.ErrUnsupported)
	}
	return l, nil
}

// removeVXLAN takes away the device of a time when packets were encapsulated.
func (c *conn) removeVXLAN() error {
	l, err := c.link(DeviceVXLAN)
	if errors.Is(err, ports.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.kind != kindVXLAN {
		return fmt.Errorf("link %s: is a %q device, must be %s: %w", l.name, l.kind, kindVXLAN, ports.ErrConflict)
	}
	return c.deleteLink(l)
}

func sameVXLAN(data []byte, port uint16) bool {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return false
	}
	var collect bool
	var have uint16
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_VXLAN_COLLECT_METADATA:
			collect = ad.Uint8() != 0
		case unix.IFLA_VXLAN_PORT:
			if b := ad.Bytes(); len(b) == 2 {
				have = binary.BigEndian.Uint16(b)
			}
		}
	}
	return ad.Err() == nil && collect && have == port
}

// ensureHostPair makes cilium_host and cilium_net. A pair and not one dummy device, because a packet
// needs a far side to be sent to, and not every kernel has dummy devices.
func (c *conn) ensureHostPair(mtu int) (host, peer *link, err error) {
	host, err = c.vethOrNone(DeviceHost)
	if err != nil {
		return nil, nil, err
	}
	peer, err = c.vethOrNone(DeviceNet)
	if err != nil {
		return nil, nil, err
	}
	paired := host != nil && peer != nil && host.peer == peer.index && host.peerNSID == samePlace
	if !paired {
		for _, l := range []*link{host, peer} {
			if l == nil {
				continue
			}
			if err := c.deleteLink(l); err != nil {
				return nil, nil, err
			}
		}
		r := linkRequest{name: DeviceHost, kind: kindVeth, mtu: uint32(mtu), mac: macFor(DeviceHost)}
		r.data = vethPeer(linkRequest{name: DeviceNet, mtu: uint32(mtu), mac: macFor(DeviceNet)})
		if err := c.newLink(r); err != nil {
			return nil, nil, err
		}
		if host, err = c.link(DeviceHost); err != nil {
			return nil, nil, err
		}
		if peer, err = c.link(DeviceNet); err != nil {
			return nil, nil, err
		}
	}
	for _, l := range []*link{host, peer} {
		if err := c.setShape(l, shape{mtu: uint32(mtu), noARP: true}); err != nil {
			return nil, nil, err
		}
	}
	return host, peer, nil
}

// vethOrNone reads a device that must be a veth; nil if there is none.
func (c *conn) vethOrNone(name string) (*link, error) {
	l, err := c.link(name)
	if errors.Is(err, ports.ErrNotFound) {
		return nil, nil
	}
	if err == nil && l.kind != kindVeth {
		return nil, fmt.Errorf("link %s: is a %q device, must be %s: %w", name, l.kind, kindVeth, ports.ErrConflict)
	}
	return l, err
}

// vethPeer is the data of a veth: how the other side is to be.
func vethPeer(r linkRequest) func(*netlink.AttributeEncoder) error {
	return func(ae *netlink.AttributeEncoder) error {
		ae.Do(vethInfoPeer, r.MarshalBinary)
		return nil
	}
}
