package v2

// Rule selects pods or nodes and says what they may receive (ingress) and send (egress). Who is
// selected by a rule with a section for a direction gets, in that direction, only what some rule
// allows and none denies.
//
// +kubebuilder:validation:XValidation:rule="has(self.endpointSelector) != has(self.nodeSelector)",message="want endpointSelector or nodeSelector, and not both"
// +kubebuilder:validation:XValidation:rule="has(self.ingress) || has(self.ingressDeny) || has(self.egress) || has(self.egressDeny)",message="holds no rules; want at least one of ingress, ingressDeny, egress, egressDeny"
type Rule struct {
	// The pods that the rule applies to, of the policy's own namespace in a CiliumNetworkPolicy; {} is
	// all of them.
	// +optional
	EndpointSelector *LabelSelector `json:"endpointSelector,omitempty"`

	// The nodes that the rule applies to; only in a CiliumClusterwideNetworkPolicy, and instead of
	// endpointSelector.
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`

	// What the pods may receive. An empty list says nothing; an entry {} denies all that no other
	// rule allows.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	Ingress []IngressRule `json:"ingress,omitzero"`

	// What the pods must not receive, whatever is allowed elsewhere.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	IngressDeny []IngressDenyRule `json:"ingressDeny,omitzero"`

	// What the pods may send. An empty list says nothing; an entry {} denies all that no other rule
	// allows.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	Egress []EgressRule `json:"egress,omitzero"`

	// What the pods must not send, whatever is allowed elsewhere.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	EgressDeny []EgressDenyRule `json:"egressDeny,omitzero"`

	// Whether the rule isolates the pods that it selects, so that what no rule allows is denied. By
	// default it does in the directions that it has a section for.
	// +optional
	EnableDefaultDeny DefaultDeny `json:"enableDefaultDeny,omitzero"`

	// Labels to find the rule by. They decide nothing.
	// +optional
	// +listType=atomic
	Labels []RuleLabel `json:"labels,omitzero"`

	// For people. It decides nothing.
	// +optional
	Description string `json:"description,omitempty"`

	// What flows that this rule decides say of it.
	// +optional
	Log *RuleLog `json:"log,omitempty"`
}

// DefaultDeny says whether a rule isolates.
type DefaultDeny struct {
	// Whether to isolate for what the pods receive.
	// +optional
	Ingress *bool `json:"ingress,omitempty"`
	// Whether to isolate for what the pods send.
	// +optional
	Egress *bool `json:"egress,omitempty"`
}

// RuleLabel is a label of a rule.
type RuleLabel struct {
	// The label's key.
	// +optional
	Key string `json:"key,omitempty"`
	// The label's value.
	// +optional
	Value string `json:"value,omitempty"`
	// Where the label comes from.
	// +optional
	Source string `json:"source,omitempty"`
	// Kept for objects that hold it; without meaning.
	// +optional
	CIDR string `json:"cidr,omitempty"`
}

// RuleLog is what flows say of the rule that decided them.
type RuleLog struct {
	// At most 32 printable characters.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$`
	Value string `json:"value,omitempty"`
}

// IngressRule allows traffic to the selected pods: from peers, on ports. It names at most one kind of
// peers (endpoints, entities, CIDR, ...); several entries of a kind are alternatives. Without peers but
// with ports it is for everyone; without either it allows nothing.
//
// +kubebuilder:validation:XValidation:rule="(has(self.fromEndpoints) && size(self.fromEndpoints) > 0 ? 1 : 0) + (has(self.fromEntities) && size(self.fromEntities) > 0 ? 1 : 0) + (has(self.fromCIDR) && size(self.fromCIDR) > 0 ? 1 : 0) + (has(self.fromCIDRSet) && size(self.fromCIDRSet) > 0 ? 1 : 0) + (has(self.fromNodes) && size(self.fromNodes) > 0 ? 1 : 0) + (has(self.fromGroups) && size(self.fromGroups) > 0 ? 1 : 0) <= 1",message="a rule names one kind of peers; make fromEndpoints, fromEntities, fromCIDR, fromCIDRSet, fromNodes and fromGroups rules of their own"
// +kubebuilder:validation:XValidation:rule="!(has(self.toPorts) && size(self.toPorts) > 0 && has(self.icmps) && size(self.icmps) > 0)",message="toPorts and icmps can't stand in one rule; make them two rules"
type IngressRule struct {
	IngressPeers `json:",inline"`

	// The ports that the traffic goes to. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ToPorts []PortRule `json:"toPorts,omitzero"`

	// The ICMP messages; not together with toPorts. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`

	// What the peer must prove of itself.
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// IngressDenyRule denies traffic to the selected pods. Peers and ports are as in ingress; layer 7 can't
// be denied.
//
// +kubebuilder:validation:XValidation:rule="(has(self.fromEndpoints) && size(self.fromEndpoints) > 0 ? 1 : 0) + (has(self.fromEntities) && size(self.fromEntities) > 0 ? 1 : 0) + (has(self.fromCIDR) && size(self.fromCIDR) > 0 ? 1 : 0) + (has(self.fromCIDRSet) && size(self.fromCIDRSet) > 0 ? 1 : 0) + (has(self.fromNodes) && size(self.fromNodes) > 0 ? 1 : 0) + (has(self.fromGroups) && size(self.fromGroups) > 0 ? 1 : 0) <= 1",message="a rule names one kind of peers; make fromEndpoints, fromEntities, fromCIDR, fromCIDRSet, fromNodes and fromGroups rules of their own"
// +kubebuilder:validation:XValidation:rule="!(has(self.toPorts) && size(self.toPorts) > 0 && has(self.icmps) && size(self.icmps) > 0)",message="toPorts and icmps can't stand in one rule; make them two rules"
type IngressDenyRule struct {
	IngressPeers `json:",inline"`

	// The ports that the traffic goes to. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ToPorts []PortDenyRule `json:"toPorts,omitzero"`

	// The ICMP messages; not together with toPorts. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`
}

// EgressRule allows traffic of the selected pods: to peers, on ports. It names at most one kind of peers
// (endpoints, entities, CIDR, ...); several entries of a kind are alternatives. Without peers but with
// ports it is for everyone; without either it allows nothing.
//
// +kubebuilder:validation:XValidation:rule="(has(self.toEndpoints) && size(self.toEndpoints) > 0 ? 1 : 0) + (has(self.toEntities) && size(self.toEntities) > 0 ? 1 : 0) + (has(self.toCIDR) && size(self.toCIDR) > 0 ? 1 : 0) + (has(self.toCIDRSet) && size(self.toCIDRSet) > 0 ? 1 : 0) + (has(self.toNodes) && size(self.toNodes) > 0 ? 1 : 0) + (has(self.toGroups) && size(self.toGroups) > 0 ? 1 : 0) + (has(self.toServices) && size(self.toServices) > 0 ? 1 : 0) + (has(self.toFQDNs) && size(self.toFQDNs) > 0 ? 1 : 0) <= 1",message="a rule names one kind of peers; make toEndpoints, toEntities, toCIDR, toCIDRSet, toNodes, toGroups, toServices and toFQDNs rules of their own"
// +kubebuilder:validation:XValidation:rule="!(has(self.toPorts) && size(self.toPorts) > 0 && has(self.icmps) && size(self.icmps) > 0)",message="toPorts and icmps can't stand in one rule; make them two rules"
type EgressRule struct {
	EgressPeers `json:",inline"`

	// DNS names: the addresses that the pods' DNS answers gave for them.
	// +optional
	// +listType=atomic
	ToFQDNs []FQDNSelector `json:"toFQDNs,omitzero"`

	// The ports that the traffic goes to. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ToPorts []PortRule `json:"toPorts,omitzero"`

	// The ICMP messages; not together with toPorts. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`

	// What the peer must prove of itself.
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// EgressDenyRule denies traffic of the selected pods. Peers and ports are as in egress; DNS names and
// layer 7 can't be denied.
//
// +kubebuilder:validation:XValidation:rule="(has(self.toEndpoints) && size(self.toEndpoints) > 0 ? 1 : 0) + (has(self.toEntities) && size(self.toEntities) > 0 ? 1 : 0) + (has(self.toCIDR) && size(self.toCIDR) > 0 ? 1 : 0) + (has(self.toCIDRSet) && size(self.toCIDRSet) > 0 ? 1 : 0) + (has(self.toNodes) && size(self.toNodes) > 0 ? 1 : 0) + (has(self.toGroups) && size(self.toGroups) > 0 ? 1 : 0) + (has(self.toServices) && size(self.toServices) > 0 ? 1 : 0) <= 1",message="a rule names one kind of peers; make toEndpoints, toEntities, toCIDR, toCIDRSet, toNodes, toGroups and toServices rules of their own"
// +kubebuilder:validation:XValidation:rule="!(has(self.toPorts) && size(self.toPorts) > 0 && has(self.icmps) && size(self.icmps) > 0)",message="toPorts and icmps can't stand in one rule; make them two rules"
// +kubebuilder:validation:XValidation:rule="!has(self.toFQDNs)",message="toFQDNs is not possible in a deny rule: what a name will resolve to is only known after the fact"
type EgressDenyRule struct {
	EgressPeers `json:",inline"`

	// Not possible here. The field is known so that the API server refuses it instead of dropping it,
	// which would leave a rule that denies something else.
	// +optional
	// +listType=atomic
	ToFQDNs []FQDNSelector `json:"toFQDNs,omitzero"`

	// The ports that the traffic goes to. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ToPorts []PortDenyRule `json:"toPorts,omitzero"`

	// The ICMP messages; not together with toPorts. An empty list does not restrict.
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`
}

// Authentication is what a peer must prove of itself.
type Authentication struct {
	// disabled: nothing. required: who it is, by mutual authentication. test-always-fail: for tests.
	// +kubebuilder:validation:Enum=disabled;required;test-always-fail
	Mode string `json:"mode"`
}
