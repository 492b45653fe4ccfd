package ports

import (
	"context"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
)

// Overlay describes the overlay device (cilium_vxlan) and the host's own pair (cilium_host,
// cilium_net).
type Overlay struct {
	VXLANPort uint16
	MTU       int
	Routers   []netip.Addr // the node's addresses inside its pod CIDRs; put on cilium_host

	// Underlay is the node's address that its tunnelled packets come from and go to; invalid: unknown.
	Underlay netip.Addr

	// Native: packets to other nodes' pods are not encapsulated; there is no cilium_vxlan then. Direct: the other nodes
	// are neighbours on the device that has Underlay; otherwise routes that others made lead to them.
	Native, Direct bool

	// Reserved is a range of ports that the kernel gives to no connection of its own.
	Reserved PortRange
}

// PortRange is First to Last. The zero value: none.
type PortRange struct{ First, Last uint16 }

// OverlayLinks are the indexes of the devices.
type OverlayLinks struct {
	VXLAN, Host, Net uint32 // VXLAN is 0 when Native
	Direct           uint32 // with Overlay.Direct: the device that has Underlay; 0: not asked for
	Tunnel           Tunnel
	HostMAC, NetMAC  datapath.MAC

	// Outside is the agent's choice among Network.Links; EnsureOverlay leaves it alone.
	Outside Outside
}

// PodLink describes a pod's link to its node.
type PodLink struct {
	Netns     string // path
	Interface string // name inside the pod, "eth0"
	HostName  string // name of the host side, at most 15 bytes
	MTU       int
	Addresses []netip.Addr // one a family
	Gateways  []netip.Addr // one a family
}

// PodLinkState is what was made.
type PodLinkState struct {
	Ifindex      uint32 // of the host side
	MAC, NodeMAC datapath.MAC
}

// Tunnel is what a datapath needs to know to write the tunnel's outer headers itself. The zero value: it can't.
type Tunnel struct {
	Device  uint32     // has the address, and Ethernet headers
	Address netip.Addr // IPv4
	Port    uint16
}

// Outside says where packets for services come from the network. The zero value: nowhere, only sockets reach services. One with
// addresses and no devices is prepared for devices that come later, see Datapath.AttachNetwork.
type Outside struct {
	Devices []uint32 // with Ethernet headers; those to other nodes included if clients come by them

	// Addresses of the node, one a family at most: what clients of backends elsewhere get as their own. Without one of its
	// family, such a client's packets are dropped.
	Addresses []netip.Addr
}

// NodeRoute sends a prefix into the overlay through cilium_host, or to the neighbour that has its pods.
type NodeRoute struct {
	Prefix netip.Prefix
	Source netip.Addr // preferred source address: the local router of that family; invalid: the kernel chooses
	Via    netip.Addr // the neighbour, of the prefix's family; invalid: into the overlay
}

// Network shapes links, addresses and routes of the node (of the namespace that the process runs
// in). All methods are idempotent: what is already as asked is left alone.
type Network interface {
	// EnsureOverlay makes cilium_vxlan (collect-metadata, MAC datapath.OverlayMAC), cilium_host and
	// cilium_net, turns forwarding on, and assigns the routers. With Direct, ErrNotFound if no device has
	// Underlay.
	EnsureOverlay(o Overlay) (OverlayLinks, error)
	// Links lists the node's devices with their addresses, in no particular order; those of pods may be left out.
	Links() ([]devices.Link, error)
	// WatchLinks calls changed as soon as it watches, and after everything that may change what Links answers, until the
	// context ends. What happens at the same time may be told once; what the kernel could not tell for lack of space
	// is. changed must not wait for anything. It returns nil then.
	WatchLinks(ctx context.Context, changed func()) error
	// SyncNodeRoutes makes the routes via cilium_host and to neighbours exactly these.
	SyncNodeRoutes(routes []NodeRoute) error

	// CreatePodLink makes the veth, configures the pod's side (addresses, default routes, permanent
	// neighbour entries for the gateways) and leaves the host side down: nothing passes before
	// ActivatePodLink.
	CreatePodLink(l PodLink) (PodLinkState, error)
	// ActivatePodLink installs the host's route and neighbour entry for each address and takes the
	// link up.
	ActivatePodLink(l PodLink) error
	// CheckPodLink returns an error that names what is not as asked.
	CheckPodLink(l PodLink) error
	// DeletePodLink removes the link by its host side's name; absent is no error.
	DeletePodLink(hostName string) error
	// PodLinks lists the names of host sides that exist ("lxc…").
	PodLinks() ([]string, error)
}
