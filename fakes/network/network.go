// Package network is an in-memory stand-in for a node's links and routes (ports.Network). It
// remembers what it was asked for, shows it as text, refuses calls that come in a wrong order, and can
// be made to fail.
package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/ports"
)

// Bounds of an MTU in bytes.
const (
	minMTU = 1280
	maxMTU = 65535
)

// Network implements ports.Network; it may be used by several goroutines. Every path is taken for a
// network namespace that exists, until RemoveNetns.
type Network struct {
	mu      sync.Mutex
	index   uint32 // the last one given out; never used twice
	overlay *overlay
	routes  []ports.NodeRoute
	pods    map[string]*pod // by host name
	gone    map[string]bool // namespaces
	fail    func(op, object string) error

	links    []devices.Link // those of SetLinks
	watchers map[*func()]bool
}

type overlay struct {
	asked ports.Overlay
	links ports.OverlayLinks
}

type pod struct {
	link   ports.PodLink
	state  ports.PodLinkState
	active *ports.PodLink // as it was when it was activated
}

var _ ports.Network = (*Network)(nil)

// DirectIfindex is the device that has every node's own address. Far from the others, which are numbered from 2.
const DirectIfindex = 1 << 16

// directDevice is its name.
const directDevice = "eth0"

// New returns a node with a device of its own, which has a default route, and the loopback device. Device indexes begin
// at 2, as 1 is the loopback's.
func New() *Network {
	return &Network{
		index: 1, pods: map[string]*pod{}, gone: map[string]bool{}, watchers: map[*func()]bool{},
		links: []devices.Link{{Index: DirectIfindex, Name: directDevice, Up: true, Ethernet: true, Default: true}},
	}
}

// Fail installs a function that is asked before each call and whose error becomes the call's; nil
// removes it. op is the method's name, object the host device or "".
func (n *Network) Fail(f func(op, object string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = f
}

// RemoveNetns makes a namespace absent; links into it vanish, as they do in the kernel.
func (n *Network) RemoveNetns(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone[path] = true
	for name, p := range n.pods {
		if p.link.Netns == path {
			delete(n.pods, name)
		}
	}
}

// AddNetns makes a removed namespace exist again, empty.
func (n *Network) AddNetns(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.gone, path)
}

// Pod returns the link with this host name and whether it is active; false if there is none.
func (n *Network) Pod(hostName string) (l ports.PodLink, active, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.pods[hostName]
	if !ok {
		return ports.PodLink{}, false, false
	}
	return p.link, p.active != nil, true
}

// Routes returns the node routes in the order of the last SyncNodeRoutes.
func (n *Network) Routes() []ports.NodeRoute {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.routes)
}

// Dump shows everything as text, a line for each object, in an order that does not depend on that of
// the calls.
func (n *Network) Dump() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	if o := n.overlay; o != nil {
		lines = append(lines, fmt.Sprintf("overlay port %d mtu %d routers %v", o.asked.VXLANPort, o.asked.MTU, o.asked.Routers))
	}
	for _, r := range n.routes {
		lines = append(lines, fmt.Sprintf("route %s src %s", r.Prefix, r.Source))
	}
	for _, p := range n.pods {
		state := "down"
		if p.active != nil {
			state = "up"
		}
		lines = append(lines, fmt.Sprintf("pod %s %s %s in %s mtu %d %v via %v", p.link.HostName, state, p.link.Interface,
			p.link.Netns, p.link.MTU, p.link.Addresses, p.link.Gateways))
	}
	slices.Sort(lines)
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// begin locks and asks the fault function; the caller unlocks.
func (n *Network) begin(op, object string) error {
	n.mu.Lock()
	if n.fail != nil {
		return n.fail(op, object)
	}
	return nil
}

func (n *Network) nextIndex() uint32 {
	n.index++
	return n.index
}

func macFor(name string) datapath.MAC {
	sum := sha256.Sum256([]byte(name))
	m := datapath.MAC(sum[:6])
	m[0] = m[0]&^0x01 | 0x02
	return m
}

// EnsureOverlay implements ports.Network.
func (n *Network) EnsureOverlay(o ports.Overlay) (ports.OverlayLinks, error) {
	err := n.begin("EnsureOverlay", "")
	defer n.mu.Unlock()
	if err == nil && (o.MTU < minMTU || o.MTU > maxMTU) {
		err = fmt.Errorf("MTU %d: must be %d to %d", o.MTU, minMTU, maxMTU)
	}
	if err == nil {
		err = checkAddresses("routers", o.Routers)
	}
	if err == nil && o.Direct && !o.Native {
		err = errors.New("direct routes need native routing")
	}
	if err == nil && o.Direct && !o.Underlay.IsValid() {
		err = errors.New("direct routes need the node's underlay address")
	}
	if err != nil {
		return ports.OverlayLinks{}, fmt.Errorf("ensure overlay: %w", err)
	}
	o.Routers = slices.Clone(o.Routers)
	vxlan := uint32(0)
	switch was := n.overlay; {
	case o.Native:
	case was != nil && was.links.VXLAN != 0 && was.asked.VXLANPort == o.VXLANPort:
		vxlan = was.links.VXLAN
	default:
		vxlan = n.nextIndex()
	}
	if n.overlay == nil {
		n.overlay = &overlay{links: ports.OverlayLinks{
			Host: n.nextIndex(), Net: n.nextIndex(), HostMAC: macFor("cilium_host"), NetMAC: macFor("cilium_net"),
		}}
	}
	n.overlay.links.VXLAN, n.overlay.links.Direct = vxlan, 0
	if o.Direct {
		n.overlay.links.Direct = DirectIfindex
	}
	n.overlay.asked = o
	return n.overlay.links, nil
}

// SyncNodeRoutes implements ports.Network. The sources must be routers of the overlay.
func (n *Network) SyncNodeRoutes(routes []ports.NodeRoute) error {
	err := n.begin("SyncNodeRoutes", "")
	defer n.mu.Unlock()
	if err == nil && n.overlay == nil {
		err = fmt.Errorf("there is no overlay: %w", ports.ErrNotFound)
	}
	for _, r := range routes {
		if err != nil {
			break
		}
		switch {
		case !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6():
			err = fmt.Errorf("prefix %s: must be without host bits, IPv4 unmapped", r.Prefix)
		case r.Source.IsValid() && r.Source.Is4() != r.Prefix.Addr().Is4():
			err = fmt.Errorf("%s: source %s is of the other family", r.Prefix, r.Source)
		case r.Via.IsValid() && r.Via.Is4() != r.Prefix.Addr().Is4():
			err = fmt.Errorf("%s: neighbour %s is of the other family", r.Prefix, r.Via)
		case r.Source.IsValid() && !slices.Contains(n.overlay.asked.Routers, r.Source):
			err = fmt.Errorf("%s: source %s is no router of this node", r.Prefix, r.Source)
		}
	}
	if err != nil {
		return fmt.Errorf("node routes: %w", err)
	}
	n.routes = slices.Clone(routes)
	return nil
}

// CreatePodLink implements ports.Network.
func (n *Network) CreatePodLink(l ports.PodLink) (ports.PodLinkState, error) {
	err := n.begin("CreatePodLink", l.HostName)
	defer n.mu.Unlock()
	if err == nil {
		err = n.checkLink(l)
	}
	if err != nil {
		return ports.PodLinkState{}, fmt.Errorf("create pod link %s: %w", l.HostName, err)
	}
	l.Addresses, l.Gateways = slices.Clone(l.Addresses), slices.Clone(l.Gateways)
	p := n.pods[l.HostName]
	if p == nil || p.link.Netns != l.Netns || p.link.Interface != l.Interface {
		for _, other := range n.pods {
			if other != p && other.link.Netns == l.Netns && other.link.Interface == l.Interface {
				return ports.PodLinkState{}, fmt.Errorf("create pod link %s: %s exists in %s: %w", l.HostName, l.Interface, l.Netns, ports.ErrConflict)
			}
		}
		p = &pod{state: ports.PodLinkState{
			Ifindex: n.nextIndex(),
			MAC:     macFor(l.HostName + " pod"),
			NodeMAC: macFor(l.HostName),
		}}
		n.pods[l.HostName] = p
	}
	p.link = l
	return p.state, nil
}

// ActivatePodLink implements ports.Network. The gateways must be routers of the overlay.
func (n *Network) ActivatePodLink(l ports.PodLink) error {
	err := n.begin("ActivatePodLink", l.HostName)
	defer n.mu.Unlock()
	var p *pod
	if err == nil {
		p, err = n.find(l)
	}
	if err == nil {
		for _, g := range l.Gateways {
			if n.overlay == nil || !slices.Contains(n.overlay.asked.Routers, g) {
				err = fmt.Errorf("gateway %s is no router of this node", g)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("activate pod link %s: %w", l.HostName, err)
	}
	l.Addresses, l.Gateways = slices.Clone(l.Addresses), slices.Clone(l.Gateways)
	p.active = &l
	return nil
}

// CheckPodLink implements ports.Network.
func (n *Network) CheckPodLink(l ports.PodLink) error {
	err := n.begin("CheckPodLink", l.HostName)
	defer n.mu.Unlock()
	var p *pod
	if err == nil {
		p, err = n.find(l)
	}
	if err == nil {
		var errs []error
		if p.active == nil {
			errs = append(errs, errors.New("is down"))
		}
		if p.link.MTU != l.MTU {
			errs = append(errs, fmt.Errorf("MTU is %d, must be %d", p.link.MTU, l.MTU))
		}
		if !slices.Equal(p.link.Addresses, l.Addresses) || p.active != nil && !slices.Equal(p.active.Addresses, l.Addresses) {
			errs = append(errs, fmt.Errorf("addresses are %v, must be %v", p.link.Addresses, l.Addresses))
		}
		if !slices.Equal(p.link.Gateways, l.Gateways) {
			errs = append(errs, fmt.Errorf("gateways are %v, must be %v", p.link.Gateways, l.Gateways))
		}
		err = errors.Join(errs...)
	}
	if err != nil {
		return fmt.Errorf("check pod link %s: %w", l.HostName, err)
	}
	return nil
}

// DeletePodLink implements ports.Network.
func (n *Network) DeletePodLink(hostName string) error {
	err := n.begin("DeletePodLink", hostName)
	defer n.mu.Unlock()
	if err == nil {
		err = checkName("host name", hostName)
	}
	if err != nil {
		return fmt.Errorf("delete pod link %s: %w", hostName, err)
	}
	delete(n.pods, hostName)
	return nil
}

// PodLinks implements ports.Network, in alphabetical order.
func (n *Network) PodLinks() ([]string, error) {
	err := n.begin("PodLinks", "")
	defer n.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("pod links: %w", err)
	}
	var names []string
	for name := range n.pods {
		if strings.HasPrefix(name, datapath.HostDevicePrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (n *Network) find(l ports.PodLink) (*pod, error) {
	if err := n.checkLink(l); err != nil {
		return nil, err
	}
	p := n.pods[l.HostName]
	if p == nil || p.link.Netns != l.Netns || p.link.Interface != l.Interface {
		return nil, fmt.Errorf("no link to %s in %s: %w", l.Interface, l.Netns, ports.ErrNotFound)
	}
	return p, nil
}

func (n *Network) checkLink(l ports.PodLink) error {
	if err := checkName("host name", l.HostName); err != nil {
		return err
	}
	if err := checkName("interface", l.Interface); err != nil {
		return err
	}
	if l.MTU < minMTU || l.MTU > maxMTU {
		return fmt.Errorf("MTU %d: must be %d to %d", l.MTU, minMTU, maxMTU)
	}
	if err := checkAddresses("addresses", l.Addresses); err != nil {
		return err
	}
	if err := checkAddresses("gateways", l.Gateways); err != nil {
		return err
	}
	if len(l.Addresses) == 0 || len(l.Addresses) != len(l.Gateways) {
		return fmt.Errorf("addresses %v and gateways %v: one of each a family", l.Addresses, l.Gateways)
	}
	for i := range l.Addresses {
		if l.Addresses[i].Is4() != l.Gateways[i].Is4() {
			return fmt.Errorf("addresses %v and gateways %v: must be of the same families in the same order", l.Addresses, l.Gateways)
		}
	}
	if l.Netns == "" || n.gone[l.Netns] {
		return fmt.Errorf("network namespace %q: %w", l.Netns, ports.ErrNotFound)
	}
	return nil
}

func checkName(field, name string) error {
	if name == "" || len(name) > 15 || strings.ContainsAny(name, "/: ") {
		return fmt.Errorf("%s %q: must be a device name of 1 to 15 bytes", field, name)
	}
	return nil
}

func checkAddresses(field string, addrs []netip.Addr) error {
	for i, a := range addrs {
		if !a.IsValid() || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("%s[%d] %s: must be a unicast address, IPv4 unmapped", field, i, a)
		}
		if i > 0 && slices.ContainsFunc(addrs[:i], func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return fmt.Errorf("%s[%d] %s: at most one address a family", field, i, a)
		}
	}
	return nil
}
