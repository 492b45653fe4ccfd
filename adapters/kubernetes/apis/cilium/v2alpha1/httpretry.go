package v2alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumHTTPRetryPolicy says when requests that failed are sent again. HTTPRoutes of its namespace name it
// in a filter: type ExtensionRef, group cilium.io, kind CiliumHTTPRetryPolicy.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium},singular=ciliumhttpretrypolicy,path=ciliumhttpretrypolicies,scope=Namespaced,shortName={chrp}
// +kubebuilder:printcolumn:JSONPath=".spec.attempts",name=Attempts,type=integer
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type=='Accepted')].status",name=Accepted,type=string
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
type CiliumHTTPRetryPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// When requests are sent again.
	// +optional
	Spec HTTPRetrySpec `json:"spec,omitzero"`

	// Who uses the policy.
	// +optional
	Status HTTPRetryStatus `json:"status,omitzero"`
}

// CiliumHTTPRetryPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumHTTPRetryPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumHTTPRetryPolicy `json:"items"`
}

// HTTPRetrySpec is when requests are sent again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.statusCodes) || has(self.retryOn) && 'retriable-status-codes' in self.retryOn",message="statusCodes needs retriable-status-codes in retryOn"
// +kubebuilder:validation:XValidation:rule="!has(self.perTryTimeout) || !has(self.timeout) || duration(self.timeout) == duration('0s') || duration(self.perTryTimeout) <= duration(self.timeout)",message="perTryTimeout can not be longer than timeout"
type HTTPRetrySpec struct {
	// How often a request is sent again at most.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Attempts *int32 `json:"attempts,omitempty"`

	// How long one try may take.
	// +optional
	PerTryTimeout Duration `json:"perTryTimeout,omitempty"`

	// How long all tries together may take; "0s" is without limit.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// What a failure is. By default gateway-error, connect-failure, refused-stream and reset.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	RetryOn []RetryReason `json:"retryOn,omitempty"`

	// The answers that retriable-status-codes means.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	StatusCodes []HTTPStatus `json:"statusCodes,omitempty"`

	// The time between two tries. It doubles from try to try.
	// +optional
	Backoff *RetryBackoff `json:"backoff,omitempty"`

	// Whether requests that may do something twice (POST, PATCH) are sent again too.
	// +optional
	// +kubebuilder:default=false
	RetryNonIdempotent *bool `json:"retryNonIdempotent,omitempty"`

	// How many requests may be tried again at a time.
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
}

// Duration is a time: up to four numbers with h, m, s or ms, as in "1m30s".
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
type Duration string

// RetryReason is a failure: an answer (5xx, gateway-error: 502 to 504, retriable-4xx: 409,
// retriable-status-codes), a connection (connect-failure, refused-stream, reset), or a status of gRPC.
// +kubebuilder:validation:Enum="5xx";gateway-error;reset;connect-failure;refused-stream;retriable-status-codes;retriable-4xx;cancelled;deadline-exceeded;resource-exhausted;unavailable
type RetryReason string

// HTTPStatus is the status of an answer.
// +kubebuilder:validation:Minimum=400
// +kubebuilder:validation:Maximum=599
type HTTPStatus int32

// RetryBackoff is the time between two tries.
// +kubebuilder:validation:XValidation:rule="!has(self.maxInterval) || duration(self.baseInterval) <= duration(self.maxInterval)",message="baseInterval can not be longer than maxInterval"
type RetryBackoff struct {
	// The time before the first further try.
	BaseInterval Duration `json:"baseInterval"`
	// The longest time; ten times baseInterval if absent.
	// +optional
	MaxInterval Duration `json:"maxInterval,omitempty"`
}

// RetryBudget is how many requests may be tried again at a time.
type RetryBudget struct {
	// In percent of the requests under way.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// How many further tries a second are allowed in any case.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MinPerSecond *int32 `json:"minPerSecond,omitempty"`
}

// HTTPRetryStatus is who uses a policy.
type HTTPRetryStatus struct {
	// Conditions by their type: Accepted.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// The routes that use the policy.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Ancestors []RetryAncestor `json:"ancestors,omitempty"`
}

// RetryAncestor is a user of a policy.
type RetryAncestor struct {
	// The object.
	AncestorRef ObjectReference `json:"ancestorRef"`
	// Who writes this.
	ControllerName string `json:"controllerName"`
	// Conditions by their type: Accepted.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ObjectReference names an object.
type ObjectReference struct {
	// The object's group.
	// +optional
	Group string `json:"group,omitempty"`
	// The object's kind.
	// +optional
	Kind string `json:"kind,omitempty"`
	// The object's namespace.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// The object's name.
	Name string `json:"name"`
	// The part of the object.
	// +optional
	SectionName string `json:"sectionName,omitempty"`
}
