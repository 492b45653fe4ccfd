package ports

import (
	"context"
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/policy"
)

// Playground is a cluster in which the connectivity test deploys its pods and lets them talk. Its methods
// may be called at the same time.
type Playground interface {
	// Cluster names the cluster for people.
	Cluster() string
	// Image is what the cluster's agents run. ErrNotFound if there are none.
	Image(ctx context.Context) (string, error)
	// Nodes, Pods and Services describe what there is, sorted by name. Pods are those that the
	// connectivity test made.
	Nodes(ctx context.Context) ([]connectivity.Node, error)
	Pods(ctx context.Context, namespace string) ([]connectivity.Pod, error)
	Services(ctx context.Context, namespace string) ([]connectivity.Service, error)
	// APIServers are the addresses behind the service default/kubernetes.
	APIServers(ctx context.Context) ([]netip.AddrPort, error)

	// Apply makes objects what the documents say. Repeating it changes nothing.
	Apply(ctx context.Context, docs ...connectivity.Document) error
	// Delete removes the objects that the documents name; absent is no error.
	Delete(ctx context.Context, docs ...connectivity.Document) error
	// DeletePolicies removes every policy of the namespace that carries connectivity.OwnerLabel, and what is of
	// the whole cluster and names the namespace in its connectivity.NamespaceLabel.
	DeletePolicies(ctx context.Context, namespace string) error
	// DeleteNamespace removes a namespace and returns when it and all in it is gone; absent is no error.
	DeleteNamespace(ctx context.Context, namespace string) error

	// Probe lets a pod, or the machine of the test if it is connectivity.FromOutside, carry out a job. The
	// outcomes come in the order of the job's probes.
	Probe(ctx context.Context, pod cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error)

	// Policies names the policies that a node's agent has in force.
	Policies(ctx context.Context, node string) ([]policy.Ref, error)
	// Status is how a node's agent is.
	Status(ctx context.Context, node string) (Status, error)
	// Logs delivers the logs of agents and operators, those of containers that ended before too, line by line with
	// the pod's name. It does not deliver from two goroutines at once.
	Logs(ctx context.Context, deliver func(pod, line string)) error
	// Known lists the addresses that a node's kernel has an identity for.
	Known(ctx context.Context, node string) ([]netip.Addr, error)
	// Serves says whether a node's agent serves node ports of services and host ports of pods, as far as
	// there are any.
	Serves(ctx context.Context, node string) (nodePorts, hostPorts bool, err error)
	// Outside says why the machine of the test is nobody outside of the cluster who reaches its nodes;
	// empty if it is. addrs are then its addresses towards the nodes, at most one a family.
	Outside(ctx context.Context) (addrs []netip.Addr, why string, err error)
	// Evidence tells in words what a node's agent saw of some addresses since a time, and how its
	// endpoints stand.
	Evidence(ctx context.Context, node string, since time.Time, addrs []netip.Addr) (string, error)
}
