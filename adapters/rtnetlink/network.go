// Package rtnetlink shapes the node's links, addresses, neighbours and routes through the kernel's
// rtnetlink interface and /proc/sys. It runs no external program.
//
// No address resolution takes place on any device made here: every next hop has a permanent
// neighbour entry, the devices do not answer or ask (NOARP), and IPv6 gives them no link-local address
// and no autoconfiguration. What a pod sends and receives is therefore its own traffic and nothing else.
package rtnetlink

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Names of the node's own devices.
const (
	DeviceVXLAN = "cilium_vxlan"
	DeviceHost  = "cilium_host"
	DeviceNet   = "cilium_net"
)

// RouteProtocol marks the routes made here; routes of others are left alone.
const RouteProtocol = 119

// maxDeviceName is the longest device name in bytes (IFNAMSIZ less the terminating zero).
const maxDeviceName = 15

// Config of a Network.
type Config struct {
	// Netns is the path of the network namespace to act in; empty: that of the process.
	Netns string
}

// Network implements ports.Network. It holds no state and no file between calls; all methods may be
// called at the same time, for different pods. Errors wrap ports.ErrNotFound for a namespace or device
// that is absent, ports.ErrConflict for a name or route that belongs to something else.
type Network struct {
	netns string
}

var _ ports.Network = (*Network)(nil)

// New returns a Network; it touches nothing yet.
func New(c Config) *Network { return &Network{netns: c.Netns} }

// in runs f with a connection inside a namespace ("" is the process's own).
func in(path string, f func(*conn) error) error {
	return enter(path, func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		return f(c)
	})
}

// enter runs f inside a namespace; the error wraps ports.ErrNotFound if there is none.
func enter(path string, f func() error) error {
	err := netns.Do(path, f)
	if errors.Is(err, fs.ErrNotExist) && path != "" {
		if _, statErr := netns.Same(path, path); statErr != nil {
			return fmt.Errorf("%w: %w", statErr, ports.ErrNotFound)
		}
	}
	return err
}

// node runs f inside the node's namespace.
func (n *Network) node(f func(*conn) error) error { return in(n.netns, f) }

// macFor derives a locally administered address from a name, so that a device made again keeps its
// address and nothing (udev among them) sees reason to give it another.
func macFor(name string) datapath.MAC {
	sum := sha256.Sum256([]byte("weir " + name))
	m := datapath.MAC(sum[:6])
	m[0] = m[0]&^0x01 | 0x02
	return m
}

func checkDeviceName(field, name string) error {
	if name == "" || len(name) > maxDeviceName || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("%s %q: must be a device name of 1 to %d bytes without slash, colon and blanks", field, name, maxDeviceName)
	}
	return nil
}

// checkAddresses wants usable unicast addresses, at most one a family.
func checkAddresses(field string, addrs []netip.Addr) error {
	seen := map[bool]bool{}
	for i, a := range addrs {
		switch {
		case !a.IsValid() || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "":
			return fmt.Errorf("%s[%d] %s: must be a unicast address, IPv4 unmapped, without zone", field, i, a)
		case seen[a.Is4()]:
			return fmt.Errorf("%s[%d] %s: at most one address a family", field, i, a)
		}
		seen[a.Is4()] = true
	}
	return nil
}

func hasFamily(addrs []netip.Addr, v4 bool) bool {
	for _, a := range addrs {
		if a.Is4() == v4 {
			return true
		}
	}
	return false
}

// native is the byte order of netlink's integers.
var native = binary.NativeEndian
