package v2

// LabelSelector selects by labels; all its parts must hold. The empty selector selects everything in
// its reach.
// +structType=atomic
type LabelSelector struct {
	// Labels that must be there with exactly these values. A key may begin with the source of the
	// label: "k8s:" for labels from Kubernetes, "reserved:" for what is no pod ("reserved:host"),
	// "any:", or nothing, for both.
	// +optional
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// Conditions on labels. All must hold.
	// +optional
	// +listType=atomic
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitzero"`
}

// LabelValue is the value of a label: at most 63 letters, digits, '-', '_' and '.', beginning and
// ending with a letter or digit, or nothing.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// LabelRequirement is a condition on one label.
type LabelRequirement struct {
	// The label's key, with or without a source before it as in matchLabels.
	// +kubebuilder:validation:MaxLength=357
	// +kubebuilder:validation:Pattern=`^(reserved:(host|world|world-ipv4|world-ipv6|unmanaged|health|init|remote-node|kube-apiserver|ingress)|((any|k8s):)?(io\.cilium\.k8s\.namespace\.labels\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$`
	Key string `json:"key"`

	// In: the label is there with one of the values. NotIn: it is absent, or has none of them. Exists
	// and DoesNotExist: it is there with any value, or absent.
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator string `json:"operator"`

	// The values. In and NotIn need at least one, Exists and DoesNotExist take none.
	// +optional
	// +listType=atomic
	Values []LabelValue `json:"values,omitzero"`
}
