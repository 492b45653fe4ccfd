package v2alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// CiliumEndpointSlice tells of many endpoints of a namespace in one object, for clusters with more pods
// than each node should watch one by one. The operator makes it of CiliumEndpoints.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumendpointslice,path=ciliumendpointslices,scope=Cluster,shortName={ces}
// +kubebuilder:storageversion
type CiliumEndpointSlice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The namespace of the endpoints.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// The endpoints.
	// +listType=atomic
	Endpoints []CoreEndpoint `json:"endpoints"`
}

// CiliumEndpointSliceList is a list of slices.
// +kubebuilder:object:root=true
type CiliumEndpointSliceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumEndpointSlice `json:"items"`
}

// CoreEndpoint is what the other nodes need to know of an endpoint.
type CoreEndpoint struct {
	// The endpoint's name, which is its pod's.
	// +optional
	Name string `json:"name,omitempty"`
	// The number of the endpoint's identity.
	// +optional
	IdentityID int64 `json:"id,omitempty"`
	// The uid of the pod.
	// +optional
	PodUID string `json:"pod-uid,omitempty"`
	// The pod's addresses and its node's.
	// +optional
	Networking *v2.EndpointNetworking `json:"networking,omitempty"`
	// The key that traffic to the endpoint is encrypted with.
	// +optional
	Encryption v2.EncryptionKey `json:"encryption,omitzero"`
	// The names that the pod's containers give their ports.
	// +optional
	// +listType=atomic
	NamedPorts []v2.NamedPort `json:"named-ports,omitempty"`
	// The pod's service account.
	// +optional
	ServiceAccount string `json:"service-account,omitempty"`
}
