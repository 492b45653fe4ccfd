package rtnetlink

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// CheckPodLink implements ports.Network: nil when the link is active and exactly as asked. The error
// names everything that differs; it wraps ports.ErrNotFound if the link or the namespace is absent.
func (n *Network) CheckPodLink(l ports.PodLink) error {
	if err := n.checkPodLink(l); err != nil {
		return fmt.Errorf("check pod link %s: %w", l.HostName, err)
	}
	return nil
}

func (n *Network) checkPodLink(l ports.PodLink) error {
	if err := checkPodLink(l); err != nil {
		return err
	}
	fd, err := n.openPod(l)
	if err != nil {
		return err
	}
	defer fd.Close()
	var host, pod *link
	err = n.node(func(c *conn) error {
		if host, err = c.link(l.HostName); err != nil {
			return err
		}
		if pod, err = c.podSide(host, fd, l); err != nil {
			return err
		}
		if pod == nil {
			return fmt.Errorf("link %s: its other side is not %s in %s: %w", l.HostName, l.Interface, l.Netns, ports.ErrNotFound)
		}
		entries := map[netip.Addr]datapath.MAC{}
		for _, a := range l.Addresses {
			entries[a] = pod.mac
		}
		return c.compare(host, l.MTU, hostRoutes(l), entries)
	})
	if pod == nil {
		return err
	}
	podErr := in(l.Netns, func(c *conn) error {
		entries := map[netip.Addr]datapath.MAC{}
		for _, g := range l.Gateways {
			entries[g] = host.mac
		}
		err := c.compare(pod, l.MTU, podRoutes(l), entries)
		have, listErr := c.addresses(pod)
		if listErr != nil {
			return errors.Join(err, listErr)
		}
		for _, a := range l.Addresses {
			if !slices.Contains(have, netip.PrefixFrom(a, a.BitLen())) {
				err = errors.Join(err, fmt.Errorf("link %s in the pod: address %s is missing", pod.name, a))
			}
		}
		return err
	})
	return errors.Join(err, podErr)
}

// compare names what is wrong with one side of a pod's link.
func (c *conn) compare(l *link, mtu int, routes []route, neighbours map[netip.Addr]datapath.MAC) error {
	var errs []error
	complain := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("link %s: "+format, append([]any{l.name}, args...)...))
	}
	if !l.up() {
		complain("is down")
	}
	if int(l.mtu) != mtu {
		complain("MTU is %d, must be %d", l.mtu, mtu)
	}
	haveRoutes, err := c.routes(l)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if !slices.Contains(haveRoutes, r) {
			complain("route %s is missing", r)
		}
	}
	haveNeighbours, err := c.neighbours(l)
	if err != nil {
		return err
	}
	for a, mac := range neighbours {
		if have, ok := haveNeighbours[a]; !ok {
			complain("permanent neighbour %s is missing", a)
		} else if have != mac {
			complain("neighbour %s is at %s, must be at %s", a, have, mac)
		}
	}
	return errors.Join(errs...)
}
