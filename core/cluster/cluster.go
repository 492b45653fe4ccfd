// Package cluster holds what a cluster tells the engine: nodes, namespaces, pods, identities,
// endpoints, policies and services, in weir's own terms. Adapters translate Kubernetes objects into
// these types; the engine knows no others.
package cluster

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// DefaultName is the name of a cluster that was not given one.
const DefaultName = "default"

// Name of a namespaced object.
type Name struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// ParseName reads "namespace/name".
func ParseName(s string) (Name, error) {
	ns, n, ok := strings.Cut(s, "/")
	if !ok || ns == "" || n == "" || strings.Contains(n, "/") {
		return Name{}, fmt.Errorf("%q is not namespace/name", s)
	}
	return Name{ns, n}, nil
}

// Node is a machine of the cluster.
type Node struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Addresses []netip.Addr      `json:"addresses"`         // of the machine (InternalIP, ExternalIP), the one to tunnel to first
	PodCIDRs  []netip.Prefix    `json:"podCIDRs"`          // pods of the node get addresses from these; at most one a family
	Routers   []netip.Addr      `json:"routers,omitempty"` // the node's own addresses inside PodCIDRs (CiliumInternalIP): the pods' gateways
}

// Namespace of the cluster. Labels always hold kubernetes.io/metadata.name.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Pod as far as networking needs it.
type Pod struct {
	Name           Name
	UID            string
	Labels         map[string]string
	Annotations    map[string]string
	ServiceAccount string
	Node           string
	IPs            []netip.Addr
	Ports          []policy.NamedPort // declared containerPorts; Name may be empty
	HostPorts      []HostPort
	HostNetwork    bool
	Ready          bool
	Terminating    bool // deletion was asked for
	Finished       bool // Succeeded or Failed: owns no address any more
}

// HostPort is a port of a pod's node that leads to the pod.
type HostPort struct {
	IP    netip.Addr // of the node; unspecified: each of that family; invalid: each of any
	Port  uint16     // of the node
	To    uint16     // the container's
	Proto uint8
}

// Endpoint is a pod's network attachment as its node published it.
type Endpoint struct {
	Name     Name
	ID       uint16 // on its node
	Identity identity.ID
	IPs      []netip.Addr
	Node     string
	NodeIP   netip.Addr
	Ports    []policy.NamedPort

	// For who reads the published object; sources leave these empty.
	UID         string // the pod's; may be empty
	ContainerID string // the sandbox's; may be empty
	// Whether policies isolate the endpoint: unmatched traffic of the direction is denied.
	EnforceIngress, EnforceEgress bool
}

// Event is one change of the cluster. The set of types is closed: those below. What an event holds is never
// changed: sender and receivers may keep it.
type Event interface{ clusterEvent() }

// The events. An Upsert carries the whole object and may repeat; deleting what is absent is no
// error.
type (
	NodeUpsert      struct{ Node Node }
	NodeDelete      struct{ Name string }
	NamespaceUpsert struct{ Namespace Namespace }
	NamespaceDelete struct{ Name string }
	PodUpsert       struct{ Pod Pod }
	PodDelete       struct{ Name Name }
	IdentityUpsert  struct {
		ID     identity.ID
		Labels labels.Set
	}
	IdentityDelete struct{ ID identity.ID }
	EndpointUpsert struct{ Endpoint Endpoint }
	EndpointDelete struct{ Name Name }
	PolicyUpsert   struct{ Policy policy.Policy }
	PolicyDelete   struct{ Ref policy.Ref }
	ServiceUpsert  struct{ Service lb.Service }
	ServiceDelete  struct{ Name lb.Name }
	BackendsUpsert struct{ Slice lb.Slice }
	BackendsDelete struct {
		Service lb.Name
		Slice   string
	}
	// Synced says that every object that existed when the source was opened has been delivered.
	// Until then nothing that the kernel holds may be pruned.
	Synced struct{}
)

func (NodeUpsert) clusterEvent()      {}
func (NodeDelete) clusterEvent()      {}
func (NamespaceUpsert) clusterEvent() {}
func (NamespaceDelete) clusterEvent() {}
func (PodUpsert) clusterEvent()       {}
func (PodDelete) clusterEvent()       {}
func (IdentityUpsert) clusterEvent()  {}
func (IdentityDelete) clusterEvent()  {}
func (EndpointUpsert) clusterEvent()  {}
func (EndpointDelete) clusterEvent()  {}
func (PolicyUpsert) clusterEvent()    {}
func (PolicyDelete) clusterEvent()    {}
func (ServiceUpsert) clusterEvent()   {}
func (ServiceDelete) clusterEvent()   {}
func (BackendsUpsert) clusterEvent()  {}
func (BackendsDelete) clusterEvent()  {}
func (Synced) clusterEvent()          {}

// PodLabels joins a pod's own labels with those that its namespace, service account and cluster
// give it: the set that decides its identity. Labels that change with every rollout (pod template
// hashes and the like) are left out. The cluster is the one without a name.
func PodLabels(p Pod, ns Namespace) labels.Set { return PodLabelsIn(DefaultName, p, ns) }

// PodLabelsIn is PodLabels for a pod of a cluster with a name.
func PodLabelsIn(cluster string, p Pod, ns Namespace) labels.Set {
	ls := make([]labels.Label, 0, len(p.Labels)+len(ns.Labels)+3)
	add := func(k, v string) { ls = append(ls, labels.Label{Source: labels.SourceK8s, Key: k, Value: v}) }
	for k, v := range p.Labels {
		if !ignoredForIdentity(k) {
			add(k, v)
		}
	}
	for k, v := range ns.Labels {
		add(labels.KeyNamespacePrefix+k, v)
	}
	add(labels.KeyNamespacePrefix+"kubernetes.io/metadata.name", p.Name.Namespace)
	add(labels.KeyNamespace, p.Name.Namespace)
	add(labels.KeyCluster, cluster)
	sa := p.ServiceAccount
	if sa == "" {
		sa = "default"
	}
	add(labels.KeyServiceAccount, sa)
	return labels.NewSet(ls...)
}

func ignoredForIdentity(key string) bool {
	switch key {
	case "pod-template-hash", "pod-template-generation", "controller-revision-hash", "controller-uid",
		"batch.kubernetes.io/controller-uid", "statefulset.kubernetes.io/pod-name",
		"apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index":
		return true
	}
	return false
}

// Finding is something wrong or doubtful in an object that a user gave us.
type Finding struct {
	File    string `json:"file,omitempty"`    // where it was read, if from a file
	Object  string `json:"object,omitempty"`  // "NetworkPolicy shop/backend-ingress"
	Field   string `json:"field,omitempty"`   // "spec.ingress[0].ports[1].port"
	Message string `json:"message"`           // what is wrong and what is allowed
	Warning bool   `json:"warning,omitempty"` // the object takes effect all the same
}

func (f Finding) String() string {
	s := ""
	if f.File != "" {
		s = f.File + ": "
	}
	if f.Object != "" {
		s += f.Object + ": "
	}
	if f.Field != "" {
		s += f.Field + ": "
	}
	return s + f.Message
}
