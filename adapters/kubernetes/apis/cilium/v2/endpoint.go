package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumEndpoint tells the other nodes of a pod: its addresses and its identity. The agent of the pod's
// node writes it; it has the pod's name and ends with the pod.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumendpoint,path=ciliumendpoints,scope=Namespaced,shortName={cep,ciliumep}
// +kubebuilder:printcolumn:JSONPath=".status.identity.id",name="Security Identity",type=integer
// +kubebuilder:printcolumn:JSONPath=".status.policy.ingress.state",name="Ingress Enforcement",type=string,priority=1
// +kubebuilder:printcolumn:JSONPath=".status.policy.egress.state",name="Egress Enforcement",type=string,priority=1
// +kubebuilder:printcolumn:JSONPath=".status.state",name="Endpoint State",type=string
// +kubebuilder:printcolumn:JSONPath=".status.networking.addressing[0].ipv4",name=IPv4,type=string
// +kubebuilder:printcolumn:JSONPath=".status.networking.addressing[0].ipv6",name=IPv6,type=string
// +kubebuilder:storageversion
type CiliumEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// All that is said of the endpoint.
	// +optional
	Status EndpointStatus `json:"status,omitzero"`
}

// CiliumEndpointList is a list of endpoints.
// +kubebuilder:object:root=true
type CiliumEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumEndpoint `json:"items"`
}

// EndpointStatus is all that is said of an endpoint.
type EndpointStatus struct {
	// The endpoint's number on its node.
	// +optional
	ID int64 `json:"id,omitempty"`

	// How far the endpoint is: ready means that its policy is in force.
	// +optional
	// +kubebuilder:validation:Enum=creating;waiting-for-identity;not-ready;waiting-to-regenerate;regenerating;restoring;ready;disconnecting;disconnected;invalid
	State string `json:"state,omitempty"`

	// What the other nodes know the pod as.
	// +optional
	Identity *EndpointIdentity `json:"identity,omitempty"`

	// The pod's addresses and its node's.
	// +optional
	Networking *EndpointNetworking `json:"networking,omitempty"`

	// The key that traffic to the endpoint is encrypted with.
	// +optional
	Encryption EncryptionKey `json:"encryption,omitzero"`

	// Which directions policies isolate.
	// +optional
	Policy *EndpointPolicy `json:"policy,omitempty"`

	// The names that others have for the endpoint.
	// +optional
	ExternalIdentifiers *EndpointIdentifiers `json:"external-identifiers,omitempty"`

	// The state of the endpoint's parts.
	// +optional
	Health *EndpointHealth `json:"health,omitempty"`

	// The last changes of the endpoint's state.
	// +optional
	// +listType=atomic
	Log []EndpointLogEntry `json:"log,omitempty"`

	// Work in the background that fails.
	// +optional
	// +listType=atomic
	Controllers []EndpointController `json:"controllers,omitempty"`

	// The names that the pod's containers give their ports.
	// +optional
	// +listType=atomic
	NamedPorts []NamedPort `json:"named-ports,omitempty"`

	// The pod's service account.
	// +optional
	ServiceAccount string `json:"service-account,omitempty"`
}

// EndpointIdentity is the identity of an endpoint.
type EndpointIdentity struct {
	// The identity's number.
	// +optional
	ID int64 `json:"id,omitempty"`
	// The labels that the number stands for, as source:key=value.
	// +optional
	// +listType=atomic
	Labels []string `json:"labels,omitempty"`
}

// EndpointNetworking is where an endpoint is reached.
type EndpointNetworking struct {
	// The endpoint's addresses, in pairs of one IPv4 and one IPv6 address.
	// +listType=atomic
	Addressing []AddressPair `json:"addressing"`
	// The address of the endpoint's node.
	// +optional
	NodeIP string `json:"node,omitempty"`
}

// AddressPair is an IPv4 and an IPv6 address.
type AddressPair struct {
	// The IPv4 address.
	// +optional
	IPv4 string `json:"ipv4,omitempty"`
	// The IPv6 address.
	// +optional
	IPv6 string `json:"ipv6,omitempty"`
}

// EncryptionKey is the number of an encryption key.
type EncryptionKey struct {
	// The key's number; 0 for no encryption by key.
	// +optional
	Key int64 `json:"key,omitempty"`
}

// EndpointPolicy says which directions policies isolate.
type EndpointPolicy struct {
	// What the endpoint receives.
	// +optional
	Ingress *EndpointPolicyDirection `json:"ingress,omitempty"`
	// What the endpoint sends.
	// +optional
	Egress *EndpointPolicyDirection `json:"egress,omitempty"`
}

// EndpointPolicyDirection is the policy in one direction.
type EndpointPolicyDirection struct {
	// Whether policies isolate the endpoint.
	// +optional
	Enforcing bool `json:"enforcing"`
	// The same in a word.
	// +optional
	State string `json:"state,omitempty"`
	// What is allowed.
	// +optional
	// +listType=atomic
	Allowed []PolicyEntry `json:"allowed,omitempty"`
	// What is denied.
	// +optional
	// +listType=atomic
	Denied []PolicyEntry `json:"denied,omitempty"`
	// What is about to be allowed.
	// +optional
	// +listType=atomic
	Adding []PolicyEntry `json:"adding,omitempty"`
	// What is about to be no longer allowed.
	// +optional
	// +listType=atomic
	Removing []PolicyEntry `json:"removing,omitempty"`
}

// PolicyEntry is an identity with a port.
type PolicyEntry struct {
	// The identity's number.
	// +optional
	Identity int64 `json:"identity,omitempty"`
	// The identity's labels.
	// +optional
	IdentityLabels map[string]string `json:"identity-labels,omitempty"`
	// The port; 0 for all.
	// +optional
	DestPort int32 `json:"dest-port,omitempty"`
	// The protocol's number; 0 for all.
	// +optional
	Protocol int32 `json:"protocol,omitempty"`
}

// EndpointIdentifiers are the names that others have for an endpoint.
type EndpointIdentifiers struct {
	// The container's id.
	// +optional
	ContainerID string `json:"container-id,omitempty"`
	// The container's name.
	// +optional
	ContainerName string `json:"container-name,omitempty"`
	// The pod's namespace.
	// +optional
	K8sNamespace string `json:"k8s-namespace,omitempty"`
	// The pod's name.
	// +optional
	K8sPodName string `json:"k8s-pod-name,omitempty"`
	// The pod's namespace and name.
	// +optional
	PodName string `json:"pod-name,omitempty"`
	// The name of this object.
	// +optional
	CEPName string `json:"cep-name,omitempty"`
	// Which of the pod's attachments to a network this is.
	// +optional
	CNIAttachmentID string `json:"cni-attachment-id,omitempty"`
	// The endpoint's id in Docker.
	// +optional
	DockerEndpointID string `json:"docker-endpoint-id,omitempty"`
	// The network's id in Docker.
	// +optional
	DockerNetworkID string `json:"docker-network-id,omitempty"`
}

// EndpointHealth is the state of an endpoint's parts.
type EndpointHealth struct {
	// Its programs in the kernel.
	// +optional
	BPF string `json:"bpf,omitempty"`
	// Its policy.
	// +optional
	Policy string `json:"policy,omitempty"`
	// Whether it is reachable.
	// +optional
	Connected bool `json:"connected,omitempty"`
	// All of it together.
	// +optional
	OverallHealth string `json:"overallHealth,omitempty"`
}

// EndpointLogEntry is a change of an endpoint's state.
type EndpointLogEntry struct {
	// What happened.
	// +optional
	Code string `json:"code,omitempty"`
	// More on what happened.
	// +optional
	Message string `json:"message,omitempty"`
	// The state after it.
	// +optional
	State string `json:"state,omitempty"`
	// When it happened.
	// +optional
	Timestamp string `json:"timestamp,omitempty"`
}

// EndpointController is work in the background.
type EndpointController struct {
	// The work's name.
	// +optional
	Name string `json:"name,omitempty"`
	// The work's id.
	// +optional
	UUID string `json:"uuid,omitempty"`
	// How often and whether it is done again.
	// +optional
	Configuration *ControllerConfiguration `json:"configuration,omitempty"`
	// How it went.
	// +optional
	Status ControllerStatus `json:"status,omitzero"`
}

// ControllerConfiguration says how often work is done.
type ControllerConfiguration struct {
	// Whether it is tried again after a failure.
	// +optional
	ErrorRetry bool `json:"error-retry,omitempty"`
	// The base of the time until then, in nanoseconds.
	// +optional
	ErrorRetryBase int64 `json:"error-retry-base,omitempty"`
	// The time between two runs, in nanoseconds.
	// +optional
	Interval int64 `json:"interval,omitempty"`
}

// ControllerStatus says how work went.
type ControllerStatus struct {
	// Failures since the last success.
	// +optional
	ConsecutiveFailureCount int64 `json:"consecutive-failure-count,omitempty"`
	// All failures.
	// +optional
	FailureCount int64 `json:"failure-count,omitempty"`
	// When it last failed.
	// +optional
	LastFailureTimestamp string `json:"last-failure-timestamp,omitempty"`
	// What went wrong then.
	// +optional
	LastFailureMsg string `json:"last-failure-msg,omitempty"`
	// When it last succeeded.
	// +optional
	LastSuccessTimestamp string `json:"last-success-timestamp,omitempty"`
	// All successes.
	// +optional
	SuccessCount int64 `json:"success-count,omitempty"`
}

// NamedPort is a port that a container gives a name.
type NamedPort struct {
	// The port's name.
	// +optional
	Name string `json:"name,omitempty"`
	// The port's number.
	// +optional
	Port int32 `json:"port,omitempty"`
	// TCP, UDP or SCTP.
	// +optional
	Protocol string `json:"protocol,omitempty"`
}
