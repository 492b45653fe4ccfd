package rtnetlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// nodePortDevices finds the devices that lead to the network, and the addresses that stand for the node.
func (c *conn) nodePortDevices(p ports.NodePorts, out *ports.OverlayLinks) error {
	links, err := c.links("")
	if err != nil {
		return err
	}
	uplinks := map[uint32]bool{}
	if len(p.Devices) == 0 {
		if uplinks, err = c.uplinks(); err != nil {
			return err
		}
	}
	for i := range links {
		l := &links[i]
		if !leadsOutside(l) {
			continue
		}
		if l.mac == (datapath.MAC{}) {
			if slices.Contains(p.Devices, l.name) {
				return fmt.Errorf("devices for node ports: %s is no Ethernet device: %w", l.name, ports.ErrUnsupported)
			}
			continue
		}
		prefixes, err := c.addresses(l)
		if err != nil {
			return err
		}
		d := ports.Device{Name: l.name, Index: l.index}
		wanted := slices.ContainsFunc(p.Devices, func(name string) bool { return matches(name, l.name) }) || uplinks[l.index]
		for _, prefix := range prefixes {
			a := prefix.Addr()
			if len(p.Devices) == 0 && slices.Contains(p.Addresses, a) {
				wanted = true
			}
			if !a.IsLinkLocalUnicast() {
				d.Addresses = append(d.Addresses, a)
			}
		}
		if wanted {
			out.Devices = append(out.Devices, d)
		}
	}
	if len(out.Devices) == 0 && len(p.Devices) > 0 {
		return fmt.Errorf("devices for node ports: none is called %s: %w", strings.Join(p.Devices, " or "), ports.ErrNotFound)
	}
	slices.SortFunc(out.Devices, func(a, b ports.Device) int { return int(a.Index) - int(b.Index) })
	for _, d := range out.Devices {
		out.Outside.Devices = append(out.Outside.Devices, d.Index)
	}
	for _, v4 := range []bool{true, false} {
		for _, a := range p.Addresses {
			if a.Is4() == v4 {
				out.Outside.Addresses = append(out.Outside.Addresses, a)
				break
			}
		}
	}
	return reservePorts(p.First, p.Last)
}

// leadsOutside leaves out what never does: our own devices, those of pods, and the loopback device.
func leadsOutside(l *link) bool {
	return l.flags&unix.IFF_LOOPBACK == 0 && l.name != DeviceVXLAN && l.name != DeviceHost && l.name != DeviceNet &&
		!strings.HasPrefix(l.name, datapath.HostDevicePrefix)
}

// matches compares a device's name with one of the configuration, where a + at the end stands for the rest.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// uplinks are the devices of default routes.
func (c *conn) uplinks() (map[uint32]bool, error) {
	out := map[uint32]bool{}
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := c.dump(unix.RTM_GETROUTE, &rtnetlink.RouteMessage{Family: fam, Table: unix.RT_TABLE_MAIN})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range msgs {
			var r rtnetlink.RouteMessage
			if err := r.UnmarshalBinary(m.Data); err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			if r.DstLength != 0 || r.Type != unix.RTN_UNICAST || r.Table != unix.RT_TABLE_MAIN {
				continue
			}
			out[r.Attributes.OutIface] = true
			for _, hop := range r.Attributes.Multipath {
				out[hop.Hop.IfIndex] = true
			}
		}
	}
	delete(out, 0)
	return out, nil
}

// reservePorts keeps the kernel from giving a range of ports to connections of its own, if it would: their answers
// could not be told from requests. What others reserved stays so.
func reservePorts(first, last uint16) error {
	if first == 0 {
		return nil
	}
	const reserved = "ipv4/ip_local_reserved_ports"
	ephemeral, err := os.ReadFile(sysctlRoot + "ipv4/ip_local_port_range")
	if err != nil {
		return fmt.Errorf("protect ports %d to %d: %w", first, last, err)
	}
	have, err := os.ReadFile(sysctlRoot + reserved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("protect ports %d to %d: %w", first, last, err)
	}
	var low, high int
	if _, err := fmt.Sscan(string(ephemeral), &low, &high); err != nil {
		return fmt.Errorf("protect ports %d to %d: ip_local_port_range is %q", first, last, ephemeral)
	}
	all := strings.TrimSpace(string(have))
	if int(last) < low || int(first) > high || covers(all, int(first), int(last)) {
		return nil
	}
	if all != "" {
		all += ","
	}
	return setSysctls([]sysctl{{path: reserved, value: all + fmt.Sprintf("%d-%d", first, last)}})
}

// covers says whether one of the ranges of a list like "53,30000-32767" holds all of first to last.
func covers(list string, first, last int) bool {
	for _, r := range strings.Split(list, ",") {
		a, b, isRange := strings.Cut(strings.TrimSpace(r), "-")
		if !isRange {
			b = a
		}
		low, err := strconv.Atoi(a)
		high, err2 := strconv.Atoi(b)
		if err == nil && err2 == nil && low <= first && last <= high {
			return true
		}
	}
	return false
}
