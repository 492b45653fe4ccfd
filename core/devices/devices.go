// Package devices decides which of a node's network devices lead to the network, and which addresses they give
// the node. It is told what the kernel has, and gives the same answer for any order of it.
package devices

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

// ownPrefix begins the names of the node's own devices that carry pods' traffic.
const ownPrefix = "cilium_"

// Link is a device as the kernel has it.
type Link struct {
	Index    uint32
	Name     string
	Loopback bool
	Ethernet bool // its frames have Ethernet headers
	Up       bool // the administrator's wish; there may be no carrier
	// Default: a default route leads to it.
	Default bool
	// Addresses are those that the kernel uses: not those that it still tries out, or found to be another's.
	Addresses []netip.Addr
}

// Wanted says which devices count.
type Wanted struct {
	// Names are those of devices; a + at the end stands for the rest of one. None: the devices that have one of
	// Node, or a default route.
	Names []string
	// Node are the node's addresses as the cluster knows them.
	Node []netip.Addr
}

// Device of the node that leads to the network.
type Device struct {
	Name      string       `json:"name"`
	Index     uint32       `json:"index"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // at which the node is reached: those of one link apart
}

// Choice is which devices count.
type Choice struct {
	Devices []Device // by index
	// Warnings name devices that were asked for and do not count, and say if there is none.
	Warnings []string
}

// IsPods says whether a device of this name carries the traffic of pods: it never leads to the network.
func IsPods(name string) bool {
	return strings.HasPrefix(name, ownPrefix) || strings.HasPrefix(name, datapath.HostDevicePrefix)
}

// Choose finds the devices that lead to the network. Only Ethernet devices do; those of pods and the loopback device never
// do. A device that is down counts, but its addresses do not.
func Choose(links []Link, w Wanted) Choice {
	var c Choice
	for _, l := range slices.SortedFunc(slices.Values(links), func(a, b Link) int { return cmp.Compare(a.Index, b.Index) }) {
		if l.Loopback || IsPods(l.Name) || !w.wants(l) {
			continue
		}
		if !l.Ethernet {
			if slices.Contains(w.Names, l.Name) {
				c.Warnings = append(c.Warnings, fmt.Sprintf("services are not served on device %s: it has no Ethernet headers", l.Name))
			}
			continue
		}
		c.Devices = append(c.Devices, Device{Name: l.Name, Index: l.Index, Addresses: reachable(l)})
	}
	switch {
	case len(c.Devices) > 0:
	case len(w.Names) > 0:
		c.Warnings = append(c.Warnings, fmt.Sprintf("node ports and host ports are served to no device: none that could serve is called %s", strings.Join(w.Names, " or ")))
	default:
		c.Warnings = append(c.Warnings, fmt.Sprintf("node ports and host ports are served to no device: none has one of %v or a default route; set devices", w.Node))
	}
	return c
}

func (w Wanted) wants(l Link) bool {
	if len(w.Names) > 0 {
		return slices.ContainsFunc(w.Names, func(pattern string) bool { return matches(pattern, l.Name) })
	}
	return l.Default || slices.ContainsFunc(l.Addresses, func(a netip.Addr) bool { return slices.Contains(w.Node, a) })
}

// matches compares a device's name with one of the configuration.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// reachable are the addresses of a device at which others reach the node, sorted.
func reachable(l Link) []netip.Addr {
	if !l.Up {
		return nil
	}
	var out []netip.Addr
	for _, a := range l.Addresses {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Indexes are those of the devices, in ascending order.
func (c Choice) Indexes() []uint32 {
	var out []uint32
	for _, d := range c.Devices {
		out = append(out, d.Index)
	}
	return out
}

// Addresses are those of all devices, each once, sorted.
func (c Choice) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, d := range c.Devices {
		out = append(out, d.Addresses...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// String lists names and addresses.
func (c Choice) String() string {
	parts := make([]string, len(c.Devices))
	for i, d := range c.Devices {
		parts[i] = fmt.Sprintf("%s(%d)%v", d.Name, d.Index, d.Addresses)
	}
	return strings.Join(parts, " ")
}
