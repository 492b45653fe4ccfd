package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What the tunnels of plain networks are told apart by, and Linux's port for them.
const (
	plainVNI  = 42
	plainPort = 8472
)

// vxlanDevice describes a VXLAN device to the kernel: without learning, and with the checksum of the outer
// header left out, as weir's tunnels leave it out.
type vxlanDevice struct{ local netip.Addr }

func (*vxlanDevice) New() rtnetlink.LinkDriver { return &vxlanDevice{} }

func (*vxlanDevice) Kind() string { return "vxlan" }

func (*vxlanDevice) Decode(*netlink.AttributeDecoder) error { return nil }

func (v *vxlanDevice) Encode(ae *netlink.AttributeEncoder) error {
	ae.Uint32(unix.IFLA_VXLAN_ID, plainVNI)
	ae.Bytes(unix.IFLA_VXLAN_LOCAL, v.local.AsSlice())
	ae.Uint8(unix.IFLA_VXLAN_TTL, 64)
	ae.Uint8(unix.IFLA_VXLAN_LEARNING, 0)
	ae.Uint8(unix.IFLA_VXLAN_UDP_CSUM, 0)
	ae.Bytes(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, plainPort))
	return nil
}

func (c *netConn) newVXLAN(name string, mac net.HardwareAddr, local netip.Addr, mtu int) (uint32, error) {
	err := c.Link.New(&rtnetlink.LinkMessage{
		Flags: unix.IFF_NOARP, Change: unix.IFF_NOARP,
		Attributes: &rtnetlink.LinkAttributes{
			Name: name, MTU: uint32(mtu), Address: mac,
			Info: &rtnetlink.LinkInfo{Kind: "vxlan", Data: &vxlanDevice{local}},
		},
	})
	if err != nil {
		return 0, fmt.Errorf("%s: vxlan %s: %w", c.name, name, err)
	}
	index, err := c.index(name)
	if err != nil {
		return 0, err
	}
	return index, c.up(index)
}
