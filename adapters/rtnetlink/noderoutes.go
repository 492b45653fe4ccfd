package rtnetlink

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// SyncNodeRoutes implements ports.Network. ports.ErrNotFound before EnsureOverlay. Routes that others
// made are left alone; where one of them has the same destination, that route is ports.ErrConflict, where
// a neighbour is none it is ports.ErrUnsupported, and the rest is made all the same.
func (n *Network) SyncNodeRoutes(routes []ports.NodeRoute) error {
	var overlay, direct []route
	for i, r := range routes {
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6() {
			return fmt.Errorf("node routes: [%d] prefix %s: must be a prefix without host bits, IPv4 unmapped", i, r.Prefix)
		}
		v4 := r.Prefix.Addr().Is4()
		if r.Source.IsValid() && r.Source.Is4() != v4 {
			return fmt.Errorf("node routes: [%d] %s: source %s is of the other family", i, r.Prefix, r.Source)
		}
		if !r.Via.IsValid() {
			overlay = append(overlay, route{dst: r.Prefix, via: nextHop(v4), src: r.Source})
			continue
		}
		if r.Via.Is4() != v4 {
			return fmt.Errorf("node routes: [%d] %s: neighbour %s is of the other family", i, r.Prefix, r.Via)
		}
		direct = append(direct, route{dst: r.Prefix, via: r.Via, src: r.Source})
	}
	err := n.node(func(c *conn) error {
		host, err := c.link(DeviceHost)
		if err != nil {
			return err
		}
		return errors.Join(c.setOverlayRoutes(host, overlay), c.setDirectRoutes(host, direct))
	})
	if err != nil {
		return fmt.Errorf("node routes: %w", err)
	}
	return nil
}

func (c *conn) setOverlayRoutes(host *link, want []route) error {
	peer, err := c.link(DeviceNet)
	if err != nil {
		return err
	}
	for _, v4 := range []bool{true, false} {
		for _, r := range want {
			if r.dst.Addr().Is4() != v4 {
				continue
			}
			if err := c.setNeighbour(host, nextHop(v4), peer.mac); err != nil {
				return err
			}
			break
		}
	}
	return c.setRoutes(host, want)
}

// setDirectRoutes makes our routes to neighbours exactly these, on whatever devices the neighbours are.
func (c *conn) setDirectRoutes(host *link, want []route) error {
	all, err := c.links("")
	if err != nil {
		return err
	}
	byDevice := map[uint32][]route{}
	var errs []error
	for _, r := range want {
		device, err := c.neighbourDevice(r.via)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r, err))
			continue
		}
		byDevice[device] = append(byDevice[device], r)
	}
	for i := range all {
		l := &all[i]
		if l.index == host.index || l.kind == kindVXLAN {
			continue
		}
		have, err := c.routes(l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keep := byDevice[l.index]
		for _, r := range have {
			if !r.via.IsValid() {
				keep = append(keep, r) // of a pod's link
			}
		}
		errs = append(errs, c.setRoutes(l, keep))
	}
	return errors.Join(errs...)
}

// neighbourDevice is the device on which an address is reached without a router.
func (c *conn) neighbourDevice(a netip.Addr) (uint32, error) {
	msgs, err := c.get(unix.RTM_GETROUTE, &rtnetlink.RouteMessage{
		Family: family(a), DstLength: uint8(a.BitLen()), Attributes: rtnetlink.RouteAttributes{Dst: netIP(a)},
	})
	if err != nil {
		return 0, fmt.Errorf("find the way to %s: %w", a, err)
	}
	if len(msgs) > 0 {
		var rm rtnetlink.RouteMessage
		if err := rm.UnmarshalBinary(msgs[0].Data); err != nil {
			return 0, fmt.Errorf("find the way to %s: %w", a, err)
		}
		if rm.Type == unix.RTN_UNICAST && !addrOf(rm.Attributes.Gateway).IsValid() {
			return rm.Attributes.OutIface, nil
		}
	}
	return 0, fmt.Errorf("%s is not a neighbour: direct node routes need all nodes on one link: %w", a, ports.ErrUnsupported)
}
