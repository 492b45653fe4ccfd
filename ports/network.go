package ports

import (
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
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

	// NodePorts asks for the devices on which packets for services come from the network; nil: for none.
	NodePorts *NodePorts
}

// NodePorts says where services are served to the network.
type NodePorts struct {
	// Devices are names; a + at the end stands for the rest of one. None: those that have one of Addresses, or a
	// default route, if there are any. Only Ethernet devices count.
	Devices []string
	// Addresses are the node's.
	Addresses []netip.Addr
	// First and Last bound a range of ports that the kernel gives to no connection of its own; 0: no range.
	First, Last uint16
}

// Device of the node that leads to the network.
type Device struct {
	Name      string       `json:"name"`
	Index     uint32       `json:"index"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // those of one link apart
}

// OverlayLinks are the indexes of the devices.
type OverlayLinks struct {
	VXLAN, Host, Net uint32 // VXLAN is 0 when Native
	Direct           uint32 // with Overlay.Direct: the device that has Underlay; 0: not asked for
	Tunnel           Tunnel
	Outside          Outside
	HostMAC, NetMAC  datapath.MAC
	Devices          []Device // with Overlay.NodePorts: those of Outside, by index
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

// Outside says where packets for services come from the network. The zero value: nowhere, only sockets reach services.
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
	// Underlay; with NodePorts, if none has one of the names.
	EnsureOverlay(o Overlay) (OverlayLinks, error)
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
