package rtnetlink

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// route is a unicast route of the main table out of one device.
type route struct {
	dst netip.Prefix
	via netip.Addr // zero: the destination is on the link
	src netip.Addr // preferred source; zero: none
}

func (r route) String() string {
	s := r.dst.String()
	if r.via.IsValid() {
		s += " via " + r.via.String()
	}
	if r.src.IsValid() {
		s += " src " + r.src.String()
	}
	return s
}

func (r route) message(l *link) *rtnetlink.RouteMessage {
	m := &rtnetlink.RouteMessage{
		Family:    family(r.dst.Addr()),
		DstLength: uint8(r.dst.Bits()),
		Table:     unix.RT_TABLE_MAIN,
		Protocol:  RouteProtocol,
		Type:      unix.RTN_UNICAST,
		Scope:     unix.RT_SCOPE_LINK,
		Attributes: rtnetlink.RouteAttributes{
			Dst:      netIP(r.dst.Addr()),
			OutIface: l.index,
		},
	}
	if r.via.IsValid() {
		m.Attributes.Gateway = netIP(r.via)
		m.Scope = unix.RT_SCOPE_UNIVERSE
		m.Flags = unix.RTNH_F_ONLINK
	}
	if r.src.IsValid() {
		m.Attributes.Src = netIP(r.src)
	}
	return m
}

// routes lists the routes of ours out of a device.
func (c *conn) routes(l *link) ([]route, error) {
	var rs []route
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := c.dump(unix.RTM_GETROUTE, &rtnetlink.RouteMessage{
			Family:     fam,
			Table:      unix.RT_TABLE_MAIN,
			Protocol:   RouteProtocol,
			Attributes: rtnetlink.RouteAttributes{OutIface: l.index},
		})
		if err != nil {
			return nil, fmt.Errorf("link %s: list routes: %w", l.name, err)
		}
		for _, m := range msgs {
			var rm rtnetlink.RouteMessage
			if err := rm.UnmarshalBinary(m.Data); err != nil {
				return nil, fmt.Errorf("link %s: list routes: %w", l.name, err)
			}
			if rm.Attributes.OutIface != l.index || rm.Protocol != RouteProtocol || rm.Type != unix.RTN_UNICAST || rm.Table != unix.RT_TABLE_MAIN {
				continue
			}
			rs = append(rs, routeOf(rm))
		}
	}
	return rs, nil
}

func routeOf(rm rtnetlink.RouteMessage) route {
	dst := addrOf(rm.Attributes.Dst)
	if !dst.IsValid() { // the default route
		dst = netip.IPv4Unspecified()
		if rm.Family == unix.AF_INET6 {
			dst = netip.IPv6Unspecified()
		}
	}
	return route{
		dst: netip.PrefixFrom(dst, int(rm.DstLength)),
		via: addrOf(rm.Attributes.Gateway),
		src: addrOf(rm.Attributes.Src),
	}
}

// addRoute adds a route to a destination that has none. ports.ErrConflict if the destination has a
// route already.
func (c *conn) addRoute(l *link, r route) error {
	err := c.do(unix.RTM_NEWROUTE, netlink.Create|netlink.Excl, r.message(l))
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s: add route %s: another route has this destination: %w", l.name, r, ports.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("link %s: add route %s: %w", l.name, r, err)
	}
	return nil
}

func (c *conn) deleteRoute(l *link, r route) error {
	err := c.do(unix.RTM_DELROUTE, 0, r.message(l))
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("link %s: remove route %s: %w", l.name, r, err)
	}
	return nil
}

// setRoutes makes our routes out of a device exactly these. A route that cannot be made does not keep
// the others from being made; the errors are joined.
func (c *conn) setRoutes(l *link, want []route) error {
	have, err := c.routes(l)
	if err != nil {
		return err
	}
	wanted := map[route]bool{}
	for _, r := range want {
		wanted[r] = true
	}
	var errs []error
	present := map[route]bool{}
	for _, r := range have {
		if wanted[r] {
			present[r] = true
			continue
		}
		errs = append(errs, c.deleteRoute(l, r))
	}
	for _, r := range want { // in order: a gateway's route before the one that uses it
		if present[r] {
			continue
		}
		present[r] = true
		errs = append(errs, c.addRoute(l, r))
	}
	return errors.Join(errs...)
}
