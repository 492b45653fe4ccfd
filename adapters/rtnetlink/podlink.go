package rtnetlink

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// CreatePodLink implements ports.Network. A link of this name whose other side is not the asked
// interface of the asked namespace is made anew. ports.ErrNotFound if the namespace is absent;
// ports.ErrConflict if the pod has a foreign interface of that name, or the node a foreign device.
func (n *Network) CreatePodLink(l ports.PodLink) (ports.PodLinkState, error) {
	st, err := n.createPodLink(l)
	if err != nil {
		return ports.PodLinkState{}, fmt.Errorf("create pod link %s to %s in %s: %w", l.HostName, l.Interface, l.Netns, err)
	}
	return st, nil
}

func (n *Network) createPodLink(l ports.PodLink) (ports.PodLinkState, error) {
	var st ports.PodLinkState
	if err := checkPodLink(l); err != nil {
		return st, err
	}
	fd, err := n.openPod(l)
	if err != nil {
		return st, err
	}
	defer fd.Close()

	var host, pod *link
	err = n.node(func(c *conn) error {
		host, err = c.vethOrNone(l.HostName)
		if err != nil {
			return err
		}
		if host != nil {
			if pod, err = c.podSide(host, fd, l); err != nil {
				return err
			}
			if pod == nil {
				if err := c.deleteLink(host); err != nil {
					return err
				}
				host = nil
			}
		}
		if host == nil {
			if host, pod, err = c.newPodLink(fd, l); err != nil {
				return err
			}
		}
		if err := c.setShape(host, shape{mtu: uint32(l.MTU), noARP: true}); err != nil {
			return err
		}
		return setSysctls(hostDevice(l.HostName, hasFamily(l.Addresses, false)))
	})
	if err != nil {
		return st, err
	}
	if err := in(l.Netns, func(c *conn) error { return c.configurePod(pod, host.mac, l) }); err != nil {
		return st, err
	}
	return ports.PodLinkState{Ifindex: host.index, MAC: pod.mac, NodeMAC: host.mac}, nil
}

func checkPodLink(l ports.PodLink) error {
	if err := checkDeviceName("host name", l.HostName); err != nil {
		return err
	}
	if err := checkDeviceName("interface", l.Interface); err != nil {
		return err
	}
	if l.MTU < MinMTU || l.MTU > MaxMTU {
		return fmt.Errorf("MTU %d: must be %d to %d", l.MTU, MinMTU, MaxMTU)
	}
	if err := checkAddresses("addresses", l.Addresses); err != nil {
		return err
	}
	if err := checkAddresses("gateways", l.Gateways); err != nil {
		return err
	}
	if len(l.Addresses) == 0 {
		return errors.New("addresses: at least one is needed")
	}
	for _, v4 := range []bool{true, false} {
		if hasFamily(l.Addresses, v4) != hasFamily(l.Gateways, v4) {
			return fmt.Errorf("addresses %s and gateways %s: must be of the same families", l.Addresses, l.Gateways)
		}
	}
	return nil
}

// openPod opens the pod's namespace. The node's own is refused: configuring it as a pod's would take
// the node off the network.
func (n *Network) openPod(l ports.PodLink) (*os.File, error) {
	f, err := netns.Open(l.Netns)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, ports.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	same, err := netns.Same(n.netns, l.Netns)
	if err == nil && same {
		err = fmt.Errorf("network namespace %s: is the node's own", l.Netns)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// podSide finds the pod's side of an existing link; nil if it is not the asked interface in the asked
// namespace.
func (c *conn) podSide(host *link, podNS *os.File, l ports.PodLink) (*link, error) {
	id, err := c.nsid(int(podNS.Fd()))
	if err != nil {
		return nil, err
	}
	if id < 0 || host.peerNSID != id {
		return nil, nil
	}
	pod, err := readPodSide(l)
	if errors.Is(err, ports.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if pod.kind != kindVeth || pod.index != host.peer || pod.peer != host.index {
		return nil, nil
	}
	return pod, nil
}

func readPodSide(l ports.PodLink) (pod *link, err error) {
	err = in(l.Netns, func(c *conn) error {
		pod, err = c.link(l.Interface)
		return err
	})
	return pod, err
}

// newPodLink makes both sides at once, each in its namespace with its name: there is no moment at
// which a half-named device is visible.
func (c *conn) newPodLink(podNS *os.File, l ports.PodLink) (host, pod *link, err error) {
	r := linkRequest{name: l.HostName, kind: kindVeth, mtu: uint32(l.MTU), mac: macFor(l.HostName)}
	r.data = vethPeer(linkRequest{
		name:    l.Interface,
		mtu:     uint32(l.MTU),
		mac:     macFor(l.HostName + " pod"),
		netnsFD: int(podNS.Fd()),
	})
	if err := c.newLink(r); err != nil {
		if errors.Is(err, ports.ErrConflict) {
			err = fmt.Errorf("either %s on the node or %s in the pod exists already: %w", l.HostName, l.Interface, err)
		}
		return nil, nil, err
	}
	if host, err = c.link(l.HostName); err != nil {
		return nil, nil, err
	}
	if pod, err = readPodSide(l); err != nil {
		return nil, nil, err
	}
	return host, pod, nil
}

// configurePod sets up the pod's side, in the pod's namespace. The link has no carrier until the host
// side is up, and the kernel takes addresses, routes and neighbours all the same.
func (c *conn) configurePod(pod *link, gatewayMAC datapath.MAC, l ports.PodLink) error {
	v6 := hasFamily(l.Addresses, false)
	if v6 && !ipv6Available() {
		return fmt.Errorf("IPv6 address %s: the kernel has no IPv6: %w", l.Addresses, ports.ErrUnsupported)
	}
	lo, err := c.link("lo")
	if err != nil {
		return err
	}
	if err := setSysctls(podSettings(l.Interface, v6)); err != nil {
		return err
	}
	if err := c.setUp(lo); err != nil {
		return err
	}
	if err := c.setShape(pod, shape{mtu: uint32(l.MTU), noARP: true}); err != nil {
		return err
	}
	if err := c.setAddresses(pod, l.Addresses); err != nil {
		return err
	}
	if err := c.setUp(pod); err != nil {
		return err
	}
	if err := c.awaitLocal(l.Addresses); err != nil {
		return err
	}
	for _, g := range l.Gateways {
		if err := c.setNeighbour(pod, g, gatewayMAC); err != nil {
			return err
		}
	}
	return c.setRoutes(pod, podRoutes(l))
}

func podSettings(device string, wantIPv6 bool) []sysctl {
	if !ipv6Available() {
		return nil
	}
	ss := quietIPv6(device)
	if wantIPv6 {
		ss = append(ss,
			sysctl{path: "ipv6/conf/lo/disable_ipv6", value: "0"},
			sysctl{path: "ipv6/conf/" + device + "/disable_ipv6", value: "0"})
	}
	return ss
}

// podRoutes are the routes inside the pod: to each gateway, then everything through it.
func podRoutes(l ports.PodLink) []route {
	var rs []route
	for _, g := range l.Gateways {
		rs = append(rs, route{dst: netip.PrefixFrom(g, g.BitLen())}, route{dst: anywhere(g), via: g})
	}
	return rs
}

func anywhere(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, 0).Masked()
}

// hostRoutes are the node's routes to the pod. The node speaks to its pods as the router they know.
func hostRoutes(l ports.PodLink) []route {
	var rs []route
	for _, a := range l.Addresses {
		r := route{dst: netip.PrefixFrom(a, a.BitLen())}
		for _, g := range l.Gateways {
			if g.Is4() == a.Is4() {
				r.src = g
			}
		}
		rs = append(rs, r)
	}
	return rs
}

// ActivatePodLink implements ports.Network. The gateways must be addresses of the node, as
// EnsureOverlay makes them. ports.ErrNotFound if CreatePodLink has not made the link.
func (n *Network) ActivatePodLink(l ports.PodLink) error {
	if err := n.activatePodLink(l); err != nil {
		return fmt.Errorf("activate pod link %s: %w", l.HostName, err)
	}
	return nil
}

func (n *Network) activatePodLink(l ports.PodLink) error {
	if err := checkPodLink(l); err != nil {
		return err
	}
	fd, err := n.openPod(l)
	if err != nil {
		return err
	}
	defer fd.Close()
	err = n.node(func(c *conn) error {
		host, err := c.link(l.HostName)
		if err != nil {
			return err
		}
		pod, err := c.podSide(host, fd, l)
		if err != nil {
			return err
		}
		if pod == nil {
			return fmt.Errorf("link %s: its other side is not %s in %s: %w", l.HostName, l.Interface, l.Netns, ports.ErrNotFound)
		}
		// Something that follows new devices (udev, network managers) may have changed them meanwhile.
		if err := setSysctls(hostDevice(l.HostName, hasFamily(l.Addresses, false))); err != nil {
			return err
		}
		for _, a := range l.Addresses {
			if err := c.setNeighbour(host, a, pod.mac); err != nil {
				return err
			}
		}
		if err := c.setUp(host); err != nil {
			return err
		}
		return c.setRoutes(host, hostRoutes(l))
	})
	if err != nil {
		return err
	}
	return in(l.Netns, func(c *conn) error { return c.awaitOperational(l.Interface) })
}

// DeletePodLink implements ports.Network. A device that is no veth is ports.ErrConflict.
func (n *Network) DeletePodLink(hostName string) error {
	err := checkDeviceName("host name", hostName)
	if err == nil {
		err = n.node(func(c *conn) error {
			l, err := c.vethOrNone(hostName)
			if err != nil || l == nil {
				return err
			}
			return c.deleteLink(l)
		})
	}
	if err != nil {
		return fmt.Errorf("delete pod link: %w", err)
	}
	return nil
}

// PodLinks implements ports.Network: the veth devices whose name begins with
// datapath.HostDevicePrefix.
func (n *Network) PodLinks() ([]string, error) {
	var names []string
	err := n.node(func(c *conn) error {
		ls, err := c.links(kindVeth)
		for _, l := range ls {
			if strings.HasPrefix(l.name, datapath.HostDevicePrefix) {
				names = append(names, l.name)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pod links: %w", err)
	}
	return names, nil
}
