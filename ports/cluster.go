package ports

import (
	"context"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// Source tells what a cluster consists of and how it changes.
type Source interface {
	// Watch delivers every existing object, then cluster.Synced once, then changes, until the context
	// ends. Calls to deliver come from one goroutine. An outage of the source delivers nothing: what
	// was said last stays true. After one it tells what differs, also that identities are gone which only
	// Allocate told of.
	Watch(ctx context.Context, deliver func(cluster.Event)) error
	// Findings are the complaints about objects that are in effect now or were refused.
	Findings() []cluster.Finding
}

// Publisher tells the cluster about this node.
type Publisher interface {
	// PublishNode writes the node's own description (addresses, routers).
	PublishNode(ctx context.Context, n cluster.Node) error
	// PublishEndpoint writes an endpoint of this node; it overwrites.
	PublishEndpoint(ctx context.Context, e cluster.Endpoint) error
	// WithdrawEndpoint removes it if it is still this node's; absent is no error.
	WithdrawEndpoint(ctx context.Context, name cluster.Name, node string) error
}

// Identities allocates cluster-wide identities.
type Identities interface {
	// Allocate returns the identity of a set of labels, the same for every node, new if it must be.
	// ErrFull if no number is free.
	Allocate(ctx context.Context, ls labels.Set) (identity.ID, error)
	// Collect removes identities that no endpoint has used for the grace period, and returns them.
	// Their numbers are not given out again before that period has passed once more.
	Collect(ctx context.Context, grace time.Duration) ([]identity.ID, error)
}

// Attachment is what an agent must remember of an endpoint over a restart.
type Attachment struct {
	ContainerID string              `json:"containerID"`
	Netns       string              `json:"netns"`
	Interface   string              `json:"interface"` // inside the pod
	Pod         cluster.Name        `json:"pod"`
	UID         string              `json:"uid,omitempty"`
	ID          datapath.EndpointID `json:"id"`
	HostDevice  string              `json:"hostDevice"`
	Ifindex     uint32              `json:"ifindex"` // of HostDevice; 0: addresses reserved, link not made yet
	MAC         datapath.MAC        `json:"mac"`
	NodeMAC     datapath.MAC        `json:"nodeMAC"`
	IPs         []netip.Addr        `json:"ips"`
}

// Attachments remembers the node's endpoints. A write is complete or not there.
type Attachments interface {
	Save(a Attachment) error
	Delete(containerID, ifname string) error
	Load() ([]Attachment, error)
}

// Clock tells the time and wakes up.
type Clock interface {
	Now() time.Time
	// After delivers once, not before d has passed.
	After(d time.Duration) <-chan time.Time
}
