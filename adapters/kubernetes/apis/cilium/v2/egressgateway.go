package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumEgressGatewayPolicy sends what pods send to the outside through a node, so that it leaves with an
// address known beforehand.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories={cilium,ciliumpolicy},singular=ciliumegressgatewaypolicy,path=ciliumegressgatewaypolicies,scope=Cluster,shortName={cegp}
// +kubebuilder:printcolumn:JSONPath=".metadata.creationTimestamp",name=Age,type=date
// +kubebuilder:storageversion
type CiliumEgressGatewayPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// The traffic and its gateway.
	// +optional
	Spec EgressGatewaySpec `json:"spec,omitzero"`
}

// CiliumEgressGatewayPolicyList is a list of policies.
// +kubebuilder:object:root=true
type CiliumEgressGatewayPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []CiliumEgressGatewayPolicy `json:"items"`
}

// EgressGatewaySpec is traffic and its gateway.
// +kubebuilder:validation:XValidation:rule="has(self.egressGateway) || has(self.egressGateways) && size(self.egressGateways) > 0",message="want egressGateway, or at least one of egressGateways"
type EgressGatewaySpec struct {
	// The pods whose traffic it is: those that any of the entries selects.
	// +listType=atomic
	Selectors []EgressSelector `json:"selectors"`

	// The addresses outside that the traffic goes to.
	// +listType=atomic
	DestinationCIDRs []CIDR `json:"destinationCIDRs"`

	// Parts of destinationCIDRs whose traffic is left alone.
	// +optional
	// +listType=atomic
	ExcludedCIDRs []CIDR `json:"excludedCIDRs,omitempty"`

	// The gateway.
	// +optional
	EgressGateway *EgressGateway `json:"egressGateway,omitempty"`

	// Several gateways: each pod's traffic goes through one of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	EgressGateways []EgressGateway `json:"egressGateways,omitempty"`
}

// EgressSelector selects pods. All that it names must hold.
type EgressSelector struct {
	// Labels of the pods' namespaces.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	// Labels of the pods.
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
	// Labels of the pods' nodes.
	// +optional
	NodeSelector *LabelSelector `json:"nodeSelector,omitempty"`
}

// EgressGateway is a node and the address that traffic leaves it with: that of the default route's
// interface, unless interface or egressIP names another.
// +kubebuilder:validation:XValidation:rule="!(has(self.interface) && has(self.egressIP))",message="interface and egressIP exclude one another; keep one"
type EgressGateway struct {
	// The node, by its labels: of several, the first by name.
	NodeSelector LabelSelector `json:"nodeSelector"`
	// The interface whose first address the traffic leaves with.
	// +optional
	Interface string `json:"interface,omitempty"`
	// The address that the traffic leaves with. The node must have it.
	// +optional
	EgressIP IP `json:"egressIP,omitempty"`
}
