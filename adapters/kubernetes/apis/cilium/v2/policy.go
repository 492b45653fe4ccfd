package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumNetworkPolicy says which traffic the pods of its namespace that it selects may receive and
// send. All policies that select a pod add up; what one denies, none can allow.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumpolicy},singular=ciliumnetworkpolicy,path=ciliumnetworkpolicies,scope=Namespaced,shortName={cnp,ciliumnp}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type=='Valid')].status",name=Valid,type=string
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="has(self.spec) || has(self.specs) && size(self.specs) > 0",message="want spec, one set of rules, or specs, at least one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.spec) || !has(self.spec.nodeSelector)",message="only a CiliumClusterwideNetworkPolicy may select nodes; use endpointSelector",fieldPath=".spec"
// +kubebuilder:validation:XValidation:rule="!has(self.specs) || self.specs.all(s, !has(s.nodeSelector))",message="only a CiliumClusterwideNetworkPolicy may select nodes; use endpointSelector",fieldPath=".specs"
type CiliumNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The policy: a selector of pods and what holds for them.
	// +optional
	Spec *Rule `json:"spec,omitempty"`

	// More of the same in one object, besides spec or instead of it.
	// +optional
	// +listType=atomic
	Specs []*Rule `json:"specs,omitzero"`

	// What became of the policy. Written by the operator.
	// +optional
	Status PolicyStatus `json:"status,omitzero"`
}

// CiliumNetworkPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumNetworkPolicy `json:"items"`
}

// CiliumClusterwideNetworkPolicy is a CiliumNetworkPolicy for the pods of every namespace, or for the
// nodes themselves.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumpolicy},singular=ciliumclusterwidenetworkpolicy,path=ciliumclusterwidenetworkpolicies,scope=Cluster,shortName={ccnp}
// +kubebuilder:printcolumn:JSONPath=".status.conditions[?(@.type=='Valid')].status",name=Valid,type=string
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="has(self.spec) || has(self.specs) && size(self.specs) > 0",message="want spec, one set of rules, or specs, at least one of them"
type CiliumClusterwideNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The policy: a selector of pods or nodes and what holds for them.
	// +optional
	Spec *Rule `json:"spec,omitempty"`

	// More of the same in one object, besides spec or instead of it.
	// +optional
	// +listType=atomic
	Specs []*Rule `json:"specs,omitzero"`

	// What became of the policy. Written by the operator.
	// +optional
	Status PolicyStatus `json:"status,omitzero"`
}

// CiliumClusterwideNetworkPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumClusterwideNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumClusterwideNetworkPolicy `json:"items"`
}

// PolicyStatus is what became of a policy.
type PolicyStatus struct {
	// Conditions by their type. "Valid" says whether the policy takes effect; its message holds what
	// is wrong with it, or the warnings.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []PolicyCondition `json:"conditions,omitzero"`

	// State of the policies that were derived from this one, by name. Kept for objects that hold it;
	// nothing is written here.
	// +optional
	DerivativePolicies map[string]DerivedPolicyStatus `json:"derivativePolicies,omitempty"`
}

// PolicyCondition is one condition.
type PolicyCondition struct {
	// What the condition is about: Valid.
	Type string `json:"type"`

	// True, False or Unknown.
	Status metav1.ConditionStatus `json:"status"`

	// When status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`

	// Why, in one word.
	// +optional
	Reason string `json:"reason,omitempty"`

	// Why, in sentences.
	// +optional
	Message string `json:"message,omitempty"`
}

// DerivedPolicyStatus is the state of a policy that was derived from another.
type DerivedPolicyStatus struct {
	// Annotations of the derived policy.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// Whether the policy is in force.
	// +optional
	Enforcing bool `json:"enforcing,omitempty"`
	// What went wrong.
	// +optional
	Error string `json:"error,omitempty"`
	// When this was last written.
	// +optional
	LastUpdated metav1.Time `json:"lastUpdated,omitzero"`
	// Revision of the policies that holds this one.
	// +optional
	Revision int64 `json:"localPolicyRevision,omitempty"`
	// Whether the policy could be read.
	// +optional
	OK bool `json:"ok,omitempty"`
}
