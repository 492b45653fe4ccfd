package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// CiliumNode is what a node's agent and the operator say of a node: its addresses and the ranges that
// its pods get theirs from. It has the node's name and ends with the node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumnode,path=ciliumnodes,scope=Cluster,shortName={cn,ciliumn}
// +kubebuilder:printcolumn:JSONPath=".spec.addresses[?(@.type==\"CiliumInternalIP\")].ip",name=CiliumInternalIP,type=string,description="The address of the node's side of the pod network"
// +kubebuilder:printcolumn:JSONPath=".spec.addresses[?(@.type==\"InternalIP\")].ip",name=InternalIP,type=string,description="The node's address"
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The node's addresses and ranges.
	Spec NodeSpec `json:"spec"`

	// What became of them.
	// +optional
	Status NodeStatus `json:"status,omitzero"`
}

// CiliumNodeList is a list of nodes.
// +kubebuilder:object:root=true
type CiliumNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumNode `json:"items"`
}

// NodeSpec is a node's addresses and ranges.
type NodeSpec struct {
	// What a cloud provider calls the node.
	// +optional
	InstanceID string `json:"instance-id,omitempty"`

	// The kernel's boot id: it changes when the node starts anew.
	// +optional
	BootID string `json:"bootid,omitempty"`

	// The node's addresses.
	// +optional
	// +listType=atomic
	Addresses []NodeAddress `json:"addresses,omitempty"`

	// The addresses that the node's reachability is probed at.
	// +optional
	Health AddressPair `json:"health,omitzero"`

	// The addresses that the node's proxy sends from.
	// +optional
	Ingress AddressPair `json:"ingress,omitzero"`

	// The key that traffic to the node is encrypted with.
	// +optional
	Encryption EncryptionKey `json:"encryption,omitzero"`

	// The number of the node's identity. Kept for objects that hold it.
	// +optional
	NodeIdentity uint64 `json:"nodeidentity,omitempty"`

	// Where pods get their addresses from.
	// +optional
	IPAM NodeIPAM `json:"ipam,omitzero"`

	// Network interfaces of Amazon Web Services. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ENI *runtime.RawExtension `json:"eni,omitempty"`

	// Network interfaces of Azure. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Azure *runtime.RawExtension `json:"azure,omitempty"`

	// Network interfaces of Alibaba Cloud. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AlibabaCloud *runtime.RawExtension `json:"alibaba-cloud,omitempty"`
}

// NodeAddress is an address of a node.
type NodeAddress struct {
	// InternalIP and ExternalIP are the node's own, CiliumInternalIP that of its side of the pod
	// network.
	// +optional
	Type string `json:"type,omitempty"`
	// The address.
	// +optional
	IP string `json:"ip,omitempty"`
}

// NodeIPAM says where a node's pods get their addresses from.
type NodeIPAM struct {
	// The ranges of the node's pods: the first of each family counts.
	// +optional
	// +listType=atomic
	PodCIDRs []string `json:"podCIDRs,omitempty"`

	// Addresses that a cloud provider gave the node, by address.
	// +optional
	Pool map[string]Allocation `json:"pool,omitempty"`

	// The same for IPv6.
	// +optional
	IPv6Pool map[string]Allocation `json:"ipv6-pool,omitempty"`

	// Ranges from CiliumPodIPPools.
	// +optional
	Pools NodePools `json:"pools,omitzero"`

	// How many addresses the node has at least.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinAllocate int `json:"min-allocate,omitempty"`

	// How many addresses the node has at most.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxAllocate int `json:"max-allocate,omitempty"`

	// How many addresses are ready before they are needed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	PreAllocate int `json:"pre-allocate,omitempty"`

	// How many addresses more than needed may be asked for at once.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxAboveWatermark int `json:"max-above-watermark,omitempty"`

	// Tags that fixed addresses of a cloud provider are chosen by.
	// +optional
	StaticIPTags map[string]string `json:"static-ip-tags,omitempty"`
}

// Allocation says who has an address.
type Allocation struct {
	// The pod, or another owner.
	// +optional
	Owner string `json:"owner,omitempty"`
	// The cloud provider's id of the interface that has the address.
	// +optional
	Resource string `json:"resource,omitempty"`
}

// NodePools are ranges from pools.
type NodePools struct {
	// What the agent asks for.
	// +optional
	// +listType=map
	// +listMapKey=pool
	Requested []PoolRequest `json:"requested,omitempty"`
	// What the operator gave.
	// +optional
	// +listType=map
	// +listMapKey=pool
	Allocated []PoolAllocation `json:"allocated,omitempty"`
}

// PoolRequest is how many addresses of a pool a node needs.
type PoolRequest struct {
	// The pool's name.
	// +kubebuilder:validation:MinLength=1
	Pool string `json:"pool"`
	// How many addresses.
	// +optional
	Needed PoolDemand `json:"needed,omitzero"`
}

// PoolDemand is a number of addresses.
type PoolDemand struct {
	// How many IPv4 addresses.
	// +optional
	IPv4Addrs int `json:"ipv4-addrs,omitempty"`
	// How many IPv6 addresses.
	// +optional
	IPv6Addrs int `json:"ipv6-addrs,omitempty"`
}

// PoolAllocation is ranges of a pool.
type PoolAllocation struct {
	// The pool's name.
	// +kubebuilder:validation:MinLength=1
	Pool string `json:"pool"`
	// The ranges.
	// +optional
	// +listType=atomic
	CIDRs []CIDR `json:"cidrs,omitempty"`
}

// NodeStatus is what became of a node's addresses.
type NodeStatus struct {
	// Network interfaces of Amazon Web Services. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	ENI *runtime.RawExtension `json:"eni,omitempty"`
	// Network interfaces of Azure. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Azure *runtime.RawExtension `json:"azure,omitempty"`
	// Network interfaces of Alibaba Cloud. Kept for objects that hold it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AlibabaCloud *runtime.RawExtension `json:"alibaba-cloud,omitempty"`
	// What became of the ranges.
	// +optional
	IPAM NodeIPAMStatus `json:"ipam,omitzero"`
}

// NodeIPAMStatus is what became of a node's ranges.
type NodeIPAMStatus struct {
	// Addresses in use, by address.
	// +optional
	Used map[string]Allocation `json:"used,omitempty"`
	// The same for IPv6.
	// +optional
	IPv6Used map[string]Allocation `json:"ipv6-used,omitempty"`
	// What the operator says.
	// +optional
	OperatorStatus OperatorStatus `json:"operator-status,omitzero"`
	// How full each range is, by range.
	// +optional
	PodCIDRs map[string]PodCIDRStatus `json:"pod-cidrs,omitempty"`
	// Addresses that the operator wants back, and what the agent says to that.
	// +optional
	ReleaseIPs map[string]string `json:"release-ips,omitempty"`
	// The same for IPv6.
	// +optional
	ReleaseIPv6s map[string]string `json:"release-ipv6s,omitempty"`
	// Fixed addresses of a cloud provider that the node has.
	// +optional
	AssignedStaticIP string `json:"assigned-static-ip,omitempty"`
}

// OperatorStatus is what the operator says of a node.
type OperatorStatus struct {
	// Why the node has no range, or not the one that it asks for.
	// +optional
	Error string `json:"error,omitempty"`
}

// PodCIDRStatus is how full a range is.
type PodCIDRStatus struct {
	// released: no longer in use. depleted: full. in-use: neither.
	// +optional
	// +kubebuilder:validation:Enum=released;depleted;in-use
	Status string `json:"status,omitempty"`
}
