package ports

import (
	"context"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// Endpoints is what a CNI plugin asks of its node's agent.
type Endpoints interface {
	// Reserve gives an attachment its addresses and names. Repeating it with the same container and
	// interface returns the same. ErrFull if no address is free.
	Reserve(ctx context.Context, r ReserveRequest) (Reservation, error)
	// Activate tells that the link exists and returns once the endpoint's policy is in force in the
	// kernel. Idempotent. ErrNotFound without a reservation.
	Activate(ctx context.Context, containerID, ifname string, link PodLinkState) error
	// Release forgets the attachment and frees its addresses; absent is no error.
	Release(ctx context.Context, containerID, ifname string) error
	// Lookup returns the reservation as it is; ErrNotFound if there is none. inForce says whether the
	// endpoint's policy is in the kernel.
	Lookup(ctx context.Context, containerID, ifname string) (r Reservation, inForce bool, err error)
	// Retain releases every attachment that is not named, and returns the host devices of those
	// released.
	Retain(ctx context.Context, valid []ContainerInterface) ([]string, error)
	// Ready is nil when new endpoints can be served, else it says why not.
	Ready(ctx context.Context) error
}

// ContainerInterface names an attachment as CNI does.
type ContainerInterface struct {
	ContainerID string `json:"containerID"`
	Interface   string `json:"interface"`
}

// ReserveRequest asks for an attachment.
type ReserveRequest struct {
	ContainerID string       `json:"containerID"`
	Interface   string       `json:"interface"`
	Netns       string       `json:"netns"`
	Pod         cluster.Name `json:"pod"`
	UID         string       `json:"uid,omitempty"`
	IPs         []netip.Addr `json:"ips,omitempty"` // wanted addresses, at most one a family
}

// Reservation is the answer.
type Reservation struct {
	ID         datapath.EndpointID `json:"id"`
	HostDevice string              `json:"hostDevice"`
	Addresses  []netip.Addr        `json:"addresses"` // one a family, IPv4 first
	Gateways   []netip.Addr        `json:"gateways"`  // same order
	MTU        int                 `json:"mtu"`
}

// Inspector is what the command line asks of an agent. Every answer is a snapshot.
type Inspector interface {
	Status(ctx context.Context) (Status, error)
	Endpoints(ctx context.Context) ([]EndpointInfo, error)
	Identities(ctx context.Context) ([]IdentityInfo, error)
	Services(ctx context.Context) ([]ServiceInfo, error)
	Nodes(ctx context.Context) ([]cluster.Node, error)
	// Policies returns the policy objects in force with the revision that covers them.
	Policies(ctx context.Context) (PolicyInfo, error)
	// Rule explains a cookie; ErrNotFound if no rule in force has it.
	Rule(ctx context.Context, c datapath.Cookie) (policy.Verdict, error)
	// Tables dumps what the kernel holds.
	Tables(ctx context.Context) (TablesDump, error)
	Flows(ctx context.Context) ([]datapath.Flow, error)
	FlushFlows(ctx context.Context) (int, error)
	// Translations lists what becomes of packets that come from the network for services; see Translator.
	Translations(ctx context.Context) ([]datapath.Translation, error)
	// Observe delivers recorded and, with Follow, coming flows, oldest first, until deliver returns
	// an error (which Observe returns), the context ends, or there are no more.
	Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error
}

// Status is the agent's health.
type Status struct {
	Node     string    `json:"node"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Healthy  bool      `json:"healthy"`
	Problems []string  `json:"problems,omitempty"` // one a line, empty when healthy
	Warnings []string  `json:"warnings,omitempty"` // worth knowing; they make nobody ill

	Synced    bool              `json:"synced"` // the cluster's initial lists are complete
	Kernel    string            `json:"kernel"`
	Datapath  string            `json:"datapath"` // "ebpf" or "fake"
	Features  []Feature         `json:"features"`
	Tables    []TableStatus     `json:"tables"`
	Findings  []cluster.Finding `json:"findings,omitempty"`
	PodCIDRs  []netip.Prefix    `json:"podCIDRs"`
	Allocated []netip.Addr      `json:"allocated"`
	Routing   string            `json:"routing"` // "Tunnel [vxlan]"
	// Masquerade is how pods' traffic gets the node's address: "nftables [IPv4: Enabled, IPv6: Disabled]"; "": not.
	Masquerade string         `json:"masquerade,omitempty"`
	Services   *ServiceStatus `json:"services,omitempty"`
	Attach     string         `json:"attach"` // "TCX" or "Legacy TC"
	Endpoints  int            `json:"endpoints"`
	Flows      FlowStatus     `json:"flows"`
	Counters   []Counter      `json:"counters"`
	Revision   uint64         `json:"revision"` // of the policy set
}

// Feature is one thing the kernel may or may not offer.
type Feature struct {
	Name      string `json:"name"`
	Supported bool   `json:"supported"`
	Required  bool   `json:"required"`
	Detail    string `json:"detail,omitempty"` // what is used instead, or why it is missing
}

// TableStatus is one table's health.
type TableStatus struct {
	Name     string `json:"name"`
	Rows     int    `json:"rows"`
	Capacity int    `json:"capacity"`
	Pending  int    `json:"pending"`         // rows not written yet
	Error    string `json:"error,omitempty"` // of the oldest pending row, with its key
}

// ServiceStatus says what of services is served, and to whom.
type ServiceStatus struct {
	KubeProxyReplacement bool             `json:"kubeProxyReplacement"` // nothing is left to kube-proxy
	Sockets              bool             `json:"sockets"`              // sockets of this node reach services
	NodePorts            bool             `json:"nodePorts"`            // and the network does, node ports included
	NodePortRange        string           `json:"nodePortRange,omitempty"`
	HostPorts            bool             `json:"hostPorts"`
	Devices              []devices.Device `json:"devices,omitempty"` // on which the network comes
}

// FlowStatus is the state of the flow record.
type FlowStatus struct {
	Current  int     `json:"current"`
	Max      int     `json:"max"`
	Seen     uint64  `json:"seen"`
	Lost     uint64  `json:"lost"` // events the kernel could not hand over
	PerSec   float64 `json:"perSec"`
	InKernel int     `json:"inKernel"` // rows of the kernel's flow table
}

// EndpointInfo describes an endpoint of this node.
type EndpointInfo struct {
	Attachment
	Identity identity.ID        `json:"identity"`
	Labels   []string           `json:"labels"`
	State    string             `json:"state"` // "waiting-for-identity", "regenerating", "ready", "not-ready"
	Ingress  bool               `json:"ingressEnforced"`
	Egress   bool               `json:"egressEnforced"`
	Policy   datapath.PolicyID  `json:"policy"`
	Epoch    datapath.Epoch     `json:"epoch"`
	Ports    []policy.NamedPort `json:"namedPorts,omitempty"`
}

// IdentityInfo describes an identity known to the agent.
type IdentityInfo struct {
	ID       identity.ID    `json:"id"`
	Labels   []string       `json:"labels"`
	Class    datapath.Class `json:"class"`
	RefCount int            `json:"refCount"` // addresses that have it
}

// ServiceInfo is one frontend in one of its scopes.
type ServiceInfo struct {
	ID       uint32        `json:"id"`
	Name     string        `json:"name"`     // namespace/name
	Frontend string        `json:"frontend"` // ip:port/PROTO; an unspecified ip is every address of a node
	Scope    string        `json:"scope"`    // "internal": sockets of the cluster; "external": packets from the network
	Type     string        `json:"type"`
	Local    bool          `json:"local,omitempty"` // a traffic policy leaves only backends on this node
	Affinity time.Duration `json:"affinity,omitempty"`
	Backends []BackendInfo `json:"backends"`
}

// BackendInfo is one backend of a frontend.
type BackendInfo struct {
	ID      uint32 `json:"id"`
	Address string `json:"address"` // ip:port/PROTO
	State   string `json:"state"`
	Node    string `json:"node,omitempty"`
}

// PolicyInfo lists the policies in force.
type PolicyInfo struct {
	Revision uint64          `json:"revision"`
	Policies []policy.Policy `json:"policies"`
}

// TablesDump is what the kernel holds.
type TablesDump struct {
	Endpoints      []Row[netip.Addr, datapath.Endpoint]                `json:"endpoints"`
	EndpointPolicy []Row[datapath.EndpointID, datapath.EndpointPolicy] `json:"endpointPolicy"`
	IPCache        []Row[netip.Prefix, datapath.IPCache]               `json:"ipcache"`
	Classes        []Row[datapath.ClassKey, datapath.Class]            `json:"classes"`
	Policy         []Row[datapath.PolicyKey, datapath.PolicyRow]       `json:"policy"`
	Nodes          []Row[netip.Addr, datapath.Node]                    `json:"nodes"`
	Services       []Row[datapath.ServiceKey, datapath.Service]        `json:"services"`
	Slots          []Row[datapath.SlotKey, uint32]                     `json:"slots"`
	Backends       []Row[uint32, datapath.Backend]                     `json:"backends"`
}
