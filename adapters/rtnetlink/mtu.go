package rtnetlink

import (
	"fmt"
	"net/netip"
)

// Bounds of an MTU in bytes: what IPv6 needs, and what a device can have.
const (
	MinMTU = 1280
	MaxMTU = 65535
)

// What VXLAN adds to a packet, in bytes: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 or IPv6 40.
const (
	overheadIPv4 = 50
	overheadIPv6 = 70
)

// OverlayMTU is the MTU of pods and overlay, in bytes, over an underlay with the given MTU; underlay is
// an address of the family that tunnels use.
func OverlayMTU(underlayMTU int, underlay netip.Addr) int {
	if underlay.Unmap().Is4() {
		return underlayMTU - overheadIPv4
	}
	return underlayMTU - overheadIPv6
}

// UnderlayMTU is the MTU, in bytes, of the device that has the node's address; ports.ErrNotFound if
// none has it.
func (n *Network) UnderlayMTU(node netip.Addr) (int, error) {
	mtu := 0
	err := n.node(func(c *conn) error {
		index, err := c.linkWithAddress(node.Unmap())
		if err != nil {
			return err
		}
		l, err := c.linkByIndex(index)
		if err != nil {
			return err
		}
		mtu = int(l.mtu)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("MTU of the underlay: %w", err)
	}
	return mtu, nil
}
