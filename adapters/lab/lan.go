package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// bridgeName is the LAN's bridge in its namespace; its own addresses are the outside host.
const bridgeName = "lan"

// nodeLink is the name of a node's link to the LAN.
const nodeLink = "eth0"

// buildNetwork makes the LAN and the nodes' namespaces, joined by veth pairs.
func (l *Lab) buildNetwork() error {
	if _, err := netns.Create(l.lanNetns()); err != nil {
		return err
	}
	lan, err := dialNetns(l.lanNetns())
	if err != nil {
		return err
	}
	defer lan.Close()
	if err := settledIPv6(l.lanNetns()); err != nil {
		return err
	}
	bridge, err := lan.newBridge(bridgeName)
	if err != nil {
		return err
	}
	for i, p := range []netip.Prefix{underlay4, underlay6} {
		if err := lan.addAddress(bridge, netip.PrefixFrom(outside[i], p.Bits())); err != nil {
			return err
		}
	}
	for i, n := range l.st.Nodes {
		if err := l.buildNode(lan, bridge, i, n); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}

func (l *Lab) buildNode(lan *netConn, bridge uint32, i int, n *nodeState) error {
	name := l.nodeNetns(n.Name)
	if _, err := netns.Create(name); err != nil {
		return err
	}
	if err := settledIPv6(name); err != nil {
		return err
	}
	ns, err := dialNetns(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	link, err := lan.newVeth(fmt.Sprintf("n%d", i+1), bridge, ns, nodeLink)
	if err != nil {
		return err
	}
	for _, a := range n.Addresses {
		if err := ns.addAddress(link, underlayPrefix(a)); err != nil {
			return err
		}
	}
	// An address outside the LAN's prefixes is on the LAN all the same: everybody gets a route to it.
	for _, other := range l.st.Nodes {
		for _, a := range other.Addresses {
			if other != n && underlayPrefix(a).IsSingleIP() {
				if err := ns.addRoute(link, underlayPrefix(a), netip.Addr{}); err != nil {
					return err
				}
			}
		}
	}
	for f, via := range outside {
		bits := []int{32, 128}[f]
		if err := ns.addRoute(link, netip.PrefixFrom(via, bits), netip.Addr{}); err != nil {
			return err
		}
		all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}[f]
		if err := ns.addRoute(link, all, via); err != nil {
			return err
		}
	}
	return l.routeFromOutside(lan, bridge, n)
}

// routeFromOutside tells the outside host where the node and its pods are.
func (l *Lab) routeFromOutside(lan *netConn, bridge uint32, n *nodeState) error {
	for _, a := range n.Addresses {
		if underlayPrefix(a).IsSingleIP() {
			if err := lan.addRoute(bridge, underlayPrefix(a), netip.Addr{}); err != nil {
				return err
			}
		}
		for _, p := range n.PodCIDRs {
			if p.Addr().Is4() == a.Is4() {
				if err := lan.addRoute(bridge, p, a); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// underlayPrefix is how an address is assigned: with the LAN's prefix length inside it, alone outside.
func underlayPrefix(a netip.Addr) netip.Prefix {
	for _, p := range []netip.Prefix{underlay4, underlay6} {
		if p.Contains(a) {
			return netip.PrefixFrom(a, p.Bits())
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// settledIPv6 is enableIPv6 for a machine that is on its network from the first moment. Its link-local address is not
// tried for a second or two, in which it could not ask for its neighbours' hardware addresses.
func settledIPv6(name string) error {
	if err := enableIPv6(name); err != nil {
		return err
	}
	err := inNetns(name, []Setting{{"ipv6/conf/default/accept_dad", "0"}})
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	return err
}

// enableIPv6 makes sure of IPv6 in a namespace of the lab on hosts that turn it off by default. The
// settings are the namespace's own; a kernel without IPv6 is left as it is.
func enableIPv6(name string) error {
	return netns.Do(netns.Path(name), func() error {
		for _, scope := range []string{"all", "default"} {
			path := filepath.Join("/proc/sys/net/ipv6/conf", scope, "disable_ipv6")
			b, err := os.ReadFile(path)
			if err != nil || strings.TrimSpace(string(b)) == "0" {
				continue
			}
			if err := os.WriteFile(path, []byte("0"), 0); err != nil {
				return fmt.Errorf("network namespace %s: enable IPv6: %w", name, err)
			}
		}
		return nil
	})
}
