package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/shortcut"
)

// plainCgroup holds what runs in plain networks, away from the nodes' socket programs.
const plainCgroup = "_plain"

// Addresses of plain networks. They are apart from everything else, so all have the same.
var (
	plainNode    = [2][2]netip.Addr{addrs("172.31.0.1", "fd00:172:31::1"), addrs("172.31.0.2", "fd00:172:31::2")}
	plainPods    = [2][2]netip.Prefix{prefixes("10.251.1.0/24", "fd00:10:251:1::/64"), prefixes("10.251.2.0/24", "fd00:10:251:2::/64")}
	plainGateway = addrs("169.254.1.1", "fe80::1")
	// The nodes' ends of the tunnel, as next hops.
	plainTunnel = [2][2]netip.Addr{addrs("10.251.255.1", "fd00:10:251:ff::1"), addrs("10.251.255.2", "fd00:10:251:ff::2")}
)

func addrs(four, six string) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(four), netip.MustParseAddr(six)}
}

func prefixes(four, six string) [2]netip.Prefix {
	return [2]netip.Prefix{netip.MustParsePrefix(four), netip.MustParsePrefix(six)}
}

// Plain is a network that the kernel alone forwards in, by routes and nothing else: what a pod network
// without policies, services and agents can be at best. Two pods are on one node, the third on another
// that is joined to it as the nodes of a lab are.
type Plain struct {
	A, B  Place // pods of the first node
	Other Place // of the second node

	Node Place // the first node itself; its addresses are those that the other reaches it at

	shortcut *shortcut.Shortcut
}

// Close ends the shortcuts, if there are any; the network stays. It may be called on nil.
func (p *Plain) Close() {
	if p != nil && p.shortcut != nil {
		p.shortcut.Close()
	}
}

// PlainOptions shape a plain network.
type PlainOptions struct {
	MTU   int  // of the pods' links, in bytes
	VXLAN bool // tunnel between the nodes; else they route

	// Shortcut lets programs of one lookup take IPv4 packets past the stacks of nodes that route: what a program that did
	// nothing else could reach. It needs kernel 6.6 (ports.ErrUnsupported), and lasts until Close.
	Shortcut bool
}

// BuildPlain makes a plain network beside the lab; Down removes it. The name (a few letters) tells several
// apart.
func (l *Lab) BuildPlain(name string, o PlainOptions) (*Plain, error) {
	b := &plainBuilder{l: l, prefix: l.netnsPrefix() + "plain-" + name + "-", o: o, conns: map[string]*netConn{}}
	defer b.close()
	p, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("plain network %s: %w", name, err)
	}
	return p, nil
}

// BuildPair makes two namespaces joined by a single link: what no network can be faster than.
func (l *Lab) BuildPair(name string, mtu int) (a, b Place, err error) {
	pb := &plainBuilder{l: l, prefix: l.netnsPrefix() + "plain-" + name + "-", o: PlainOptions{MTU: mtu}, conns: map[string]*netConn{}}
	defer pb.close()
	if a, b, err = pb.pair(); err != nil {
		return a, b, fmt.Errorf("plain pair %s: %w", name, err)
	}
	return a, b, nil
}

type plainBuilder struct {
	l      *Lab
	prefix string
	o      PlainOptions
	conns  map[string]*netConn
}

func (b *plainBuilder) close() {
	for _, c := range b.conns {
		c.Close()
	}
}

// space makes a namespace without duplicate address detection. Pods send nothing of their own accord; nodes
// have link-local addresses, which they need to ask for each other's hardware addresses.
func (b *plainBuilder) space(name string, router bool) (*netConn, error) {
	full := b.prefix + name
	if _, err := netns.Create(full); err != nil {
		return nil, err
	}
	if err := enableIPv6(full); err != nil {
		return nil, err
	}
	settings := []Setting{
		{"ipv6/conf/default/accept_ra", "0"}, {"ipv6/conf/default/accept_dad", "0"},
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
	}
	if router {
		settings = append(settings, Setting{"ipv4/ip_forward", "1"}, Setting{"ipv6/conf/all/forwarding", "1"})
	} else {
		settings = append(settings, Setting{"ipv6/conf/default/addr_gen_mode", "1"})
	}
	if err := inNetns(full, settings); err != nil {
		return nil, err
	}
	c, err := dialNetns(full)
	if err != nil {
		return nil, err
	}
	b.conns[name] = c
	return c, nil
}

func (b *plainBuilder) cgroup() (string, error) {
	dir := filepath.Join(b.l.st.Cgroup, plainCgroup)
	return dir, makeCgroup(dir)
}

func (b *plainBuilder) build() (*Plain, error) {
	lan, err := b.space("lan", false)
	if err != nil {
		return nil, err
	}
	bridge, err := lan.newBridge(bridgeName)
	if err != nil {
		return nil, err
	}
	var nodes [2]*netConn
	var links [2]uint32
	for i := range nodes {
		if nodes[i], err = b.space(fmt.Sprintf("node%d", i+1), true); err != nil {
			return nil, err
		}
		if links[i], err = lan.newVeth(fmt.Sprintf("n%d", i+1), bridge, nodes[i], nodeLink); err != nil {
			return nil, err
		}
		for _, a := range plainNode[i] {
			if err := nodes[i].addAddress(links[i], netip.PrefixFrom(a, a.BitLen()-8)); err != nil {
				return nil, err
			}
		}
	}
	for i := range nodes {
		join := b.route
		if b.o.VXLAN {
			join = b.tunnel
		}
		if err := join(nodes[i], links[i], i); err != nil {
			return nil, err
		}
	}
	p := &Plain{Node: Place{Netns: b.prefix + "node1", IPs: plainNode[0][:]}}
	if p.Node.Cgroup, err = b.cgroup(); err != nil {
		return nil, err
	}
	for i, at := range []struct {
		place *Place
		node  int
	}{{&p.A, 0}, {&p.B, 0}, {&p.Other, 1}} {
		if *at.place, err = b.pod(nodes[at.node], at.node, i); err != nil {
			return nil, err
		}
	}
	if b.o.Shortcut {
		if err := b.takeShortcuts(nodes, links, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// pod makes a pod as weir makes its own: a link of its own to the node, single addresses, everything by
// way of the node, no address resolution.
func (b *plainBuilder) pod(node *netConn, n, i int) (Place, error) {
	name := string(rune('a' + i))
	pod, err := b.space("pod-"+name, false)
	if err != nil {
		return Place{}, err
	}
	inside, outer, err := node.newPodLink("pod"+name, pod, b.o.MTU)
	if err != nil {
		return Place{}, err
	}
	var place Place
	for f, p := range plainPods[n] {
		ip := p.Addr()
		for range 10 + i {
			ip = ip.Next()
		}
		place.IPs = append(place.IPs, ip)
		one := netip.PrefixFrom(ip, ip.BitLen())
		gw := plainGateway[f]
		all := netip.PrefixFrom(gw, 0).Masked()
		err := errors.Join(
			pod.addAddress(inside.index, one),
			pod.addNeighbour(inside.index, gw, outer.mac),
			pod.addRoute(inside.index, netip.PrefixFrom(gw, gw.BitLen()), netip.Addr{}),
			pod.addRoute(inside.index, all, gw),
			node.addNeighbour(outer.index, ip, inside.mac),
			node.addRoute(outer.index, one, netip.Addr{}),
		)
		if err != nil {
			return Place{}, err
		}
	}
	place.Netns = b.prefix + "pod-" + name
	place.Cgroup, err = b.cgroup()
	return place, err
}

// route joins a node to the other by a route to its pods.
func (b *plainBuilder) route(node *netConn, link uint32, i int) error {
	other := 1 - i
	for f, p := range plainPods[other] {
		if err := node.addRoute(link, p, plainNode[other][f]); err != nil {
			return err
		}
	}
	return nil
}

// tunnel joins a node to the other by a VXLAN device that knows it, over IPv4.
func (b *plainBuilder) tunnel(node *netConn, link uint32, i int) error {
	other := 1 - i
	mac := func(i int) net.HardwareAddr { return net.HardwareAddr{0x02, 0x77, 0x65, 0x69, 0x01, byte(i)} }
	vxlan, err := node.newVXLAN("vxlan0", mac(i), plainNode[i][0], b.o.MTU)
	if err != nil {
		return err
	}
	if err := node.addForwarding(vxlan, mac(other), plainNode[other][0], link); err != nil {
		return err
	}
	for f, p := range plainPods[other] {
		hop := plainTunnel[other][f]
		self := plainTunnel[i][f]
		err := errors.Join(
			node.addAddress(vxlan, netip.PrefixFrom(self, self.BitLen())),
			node.addNeighbour(vxlan, hop, mac(other)),
			node.addRoute(vxlan, netip.PrefixFrom(hop, hop.BitLen()), netip.Addr{}),
			node.addRoute(vxlan, p, hop),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *plainBuilder) pair() (x, y Place, err error) {
	left, err := b.space("a", false)
	if err != nil {
		return x, y, err
	}
	right, err := b.space("b", false)
	if err != nil {
		return x, y, err
	}
	in, out, err := right.newPodLink(podInterface, left, b.o.MTU)
	if err != nil {
		return x, y, err
	}
	cgroup, err := b.cgroup()
	if err != nil {
		return x, y, err
	}
	x, y = Place{Netns: b.prefix + "a", Cgroup: cgroup}, Place{Netns: b.prefix + "b", Cgroup: cgroup}
	for _, p := range plainPods[0] {
		a := p.Addr().Next()
		c := a.Next()
		x.IPs, y.IPs = append(x.IPs, a), append(y.IPs, c)
		err := errors.Join(
			left.addAddress(in.index, netip.PrefixFrom(a, p.Bits())),
			right.addAddress(out.index, netip.PrefixFrom(c, p.Bits())),
			left.addNeighbour(in.index, c, out.mac),
			right.addNeighbour(out.index, a, in.mac),
		)
		if err != nil {
			return x, y, err
		}
	}
	return x, y, nil
}

// side is one end of a link.
type side struct {
	index uint32
	mac   net.HardwareAddr
}

func (c *netConn) side(link string) (side, error) {
	links, err := c.Link.List()
	if err != nil {
		return side{}, fmt.Errorf("%s: list links: %w", c.name, err)
	}
	for _, l := range links {
		if l.Attributes != nil && l.Attributes.Name == link {
			return side{l.Index, l.Attributes.Address}, nil
		}
	}
	return side{}, fmt.Errorf("%s: link %s: not found", c.name, link)
}

// newPodLink makes a link from here to a pod, without address resolution, as weir's are. Both ends are up.
func (c *netConn) newPodLink(here string, pod *netConn, mtu int) (inside, outer side, err error) {
	size := uint32(mtu)
	err = c.Link.New(&rtnetlink.LinkMessage{
		Flags: unix.IFF_NOARP, Change: unix.IFF_NOARP,
		Attributes: &rtnetlink.LinkAttributes{
			Name: here, MTU: size,
			Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
				Flags: unix.IFF_NOARP, Change: unix.IFF_NOARP,
				Attributes: &rtnetlink.LinkAttributes{Name: podInterface, MTU: size, NetNS: rtnetlink.NetNSForFD(uint32(pod.ns.Fd()))},
			}}},
		},
	})
	if err != nil {
		return side{}, side{}, fmt.Errorf("%s: veth %s to %s: %w", c.name, here, pod.name, err)
	}
	if outer, err = c.side(here); err == nil {
		inside, err = pod.side(podInterface)
	}
	if err != nil {
		return side{}, side{}, err
	}
	return inside, outer, errors.Join(pod.up(inside.index), c.up(outer.index))
}

// addNeighbour makes an address known for good.
func (c *netConn) addNeighbour(index uint32, ip netip.Addr, mac net.HardwareAddr) error {
	m := &rtnetlink.NeighMessage{
		Family: uint16(family(ip)), Index: index, State: unix.NUD_PERMANENT,
		Attributes: &rtnetlink.NeighAttributes{Address: ip.AsSlice(), LLAddress: mac},
	}
	if err := c.Neigh.New(m); err != nil {
		return fmt.Errorf("%s: neighbour %s: %w", c.name, ip, err)
	}
	return nil
}

// addForwarding tells a VXLAN device which node a hardware address is at.
func (c *netConn) addForwarding(vxlan uint32, mac net.HardwareAddr, node netip.Addr, over uint32) error {
	m := &rtnetlink.NeighMessage{
		Family: unix.AF_BRIDGE, Index: vxlan, State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF,
		Attributes: &rtnetlink.NeighAttributes{Address: node.AsSlice(), LLAddress: mac, IfIndex: over},
	}
	if err := c.Neigh.New(m); err != nil {
		return fmt.Errorf("%s: forwarding of %s to %s: %w", c.name, mac, node, err)
	}
	return nil
}
