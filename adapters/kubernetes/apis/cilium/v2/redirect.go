package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumLocalRedirectPolicy sends what pods send to an address or a service to a pod on their own node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumpolicy},singular=ciliumlocalredirectpolicy,path=ciliumlocalredirectpolicies,scope=Namespaced,shortName={clrp}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumLocalRedirectPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// From where to where.
	// +optional
	Spec LocalRedirectSpec `json:"spec,omitzero"`

	// Whether the policy is in force.
	// +optional
	Status LocalRedirectStatus `json:"status,omitzero"`
}

// CiliumLocalRedirectPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumLocalRedirectPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumLocalRedirectPolicy `json:"items"`
}

// LocalRedirectSpec is from where to where traffic is sent.
type LocalRedirectSpec struct {
	// The traffic. It can't be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="redirectFrontend can't be changed; delete the policy and make another"
	RedirectFrontend RedirectFrontend `json:"redirectFrontend"`

	// The pods that get it. They can't be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="redirectBackend can't be changed; delete the policy and make another"
	RedirectBackend RedirectBackend `json:"redirectBackend"`

	// Whether traffic of those pods themselves is left alone. It can't be changed.
	// +optional
	// +kubebuilder:default=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="skipRedirectFromBackend can't be changed; delete the policy and make another"
	SkipRedirectFromBackend bool `json:"skipRedirectFromBackend"`

	// For people.
	// +optional
	Description string `json:"description,omitempty"`
}

// RedirectFrontend is traffic to an address or to a service.
// +kubebuilder:validation:XValidation:rule="has(self.addressMatcher) != has(self.serviceMatcher)",message="want addressMatcher or serviceMatcher, and not both"
type RedirectFrontend struct {
	// Traffic to an address.
	// +optional
	AddressMatcher *RedirectAddress `json:"addressMatcher,omitempty"`
	// Traffic to a service of the policy's namespace.
	// +optional
	ServiceMatcher *RedirectService `json:"serviceMatcher,omitempty"`
}

// RedirectAddress is an address with ports.
type RedirectAddress struct {
	// The address.
	IP IP `json:"ip"`
	// The ports. With more than one, each needs a name that a port of redirectBackend has.
	// +listType=atomic
	ToPorts []RedirectPort `json:"toPorts"`
}

// RedirectService is a service.
type RedirectService struct {
	// The service's name.
	ServiceName string `json:"serviceName"`
	// The service's namespace, which is the policy's.
	Namespace string `json:"namespace"`
	// The ports of the service; all if absent.
	// +optional
	// +listType=atomic
	ToPorts []RedirectPort `json:"toPorts,omitempty"`
}

// RedirectBackend is pods with ports.
type RedirectBackend struct {
	// The pods, by their labels. Those on the sender's node and in the policy's namespace count.
	LocalEndpointSelector LabelSelector `json:"localEndpointSelector"`
	// The address that stands in for the pods' own, as for pods in the host's network that listen on
	// a loopback address.
	// +optional
	OverrideIP IP `json:"overrideIP,omitempty"`
	// The pods' ports.
	// +listType=atomic
	ToPorts []RedirectPort `json:"toPorts"`
}

// RedirectPort is a port.
type RedirectPort struct {
	// The number, in quotes.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:Pattern=`^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$`
	Port string `json:"port"`
	// The protocol.
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol string `json:"protocol"`
	// A name, by which ports of both sides belong together.
	// +optional
	// +kubebuilder:validation:Pattern=`^([0-9]{1,4})|([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*$`
	Name string `json:"name,omitempty"`
}

// LocalRedirectStatus says whether a policy is in force.
type LocalRedirectStatus struct {
	// Whether the policy is in force.
	// +optional
	OK bool `json:"ok,omitempty"`
}
