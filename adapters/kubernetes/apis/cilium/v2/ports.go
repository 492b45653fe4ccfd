package v2

import "k8s.io/apimachinery/pkg/util/intstr"

// PortRule is a list of ports, and what must hold for the connections on them.
type PortRule struct {
	// The ports. A connection goes to one of them; without any, the entry matches nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=40
	Ports []PortProtocol `json:"ports,omitzero"`

	// How TLS of the peer is terminated, so that its content can be judged.
	// +optional
	TerminatingTLS *TLSContext `json:"terminatingTLS,omitempty"`

	// How TLS is begun anew towards the destination.
	// +optional
	OriginatingTLS *TLSContext `json:"originatingTLS,omitempty"`

	// Names that clients may ask for in TLS. '*' stands for one label, "**" for any number.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	ServerNames []ServerName `json:"serverNames,omitzero"`

	// An Envoy listener that the connections are sent through; not together with rules.
	// +optional
	Listener *Listener `json:"listener,omitempty"`

	// What may be said on the connections. Rules for HTTP and Kafka need TCP, rules for DNS TCP, UDP
	// or ANY; none can stand with port 0.
	// +optional
	Rules *L7Rules `json:"rules,omitempty"`
}

// PortDenyRule is a list of ports.
type PortDenyRule struct {
	// The ports. A connection goes to one of them; without any, the entry matches nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=40
	Ports []PortProtocol `json:"ports,omitzero"`
}

// PortProtocol is a port or a range of ports of a protocol.
type PortProtocol struct {
	// The port: a number in quotes, "0" for every port, or the name that the destination's containers
	// give it. Protocols that have no ports take "0" or nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})|([0-9]+-)*[0-9]*[a-zA-Z][a-zA-Z0-9]*(-[a-zA-Z0-9]+)*)?$`
	Port string `json:"port,omitempty"`

	// The last port of a range that begins with port, which must be a number from 1. 0 means no range.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`

	// The protocol. ANY, the default, is TCP, UDP and SCTP.
	// +optional
	Protocol Protocol `json:"protocol,omitempty"`
}

// Protocol is the name of a protocol.
// +kubebuilder:validation:Enum=TCP;UDP;SCTP;ICMP;ICMPV6;ICMPv6;VRRP;IGMP;GRE;IPIP;IPV6;ESP;AH;ANY;""
type Protocol string

// ICMPRule is a list of ICMP messages.
type ICMPRule struct {
	// The messages; without any, the entry matches nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=40
	Fields []ICMPField `json:"fields,omitzero"`
}

// ICMPField is a type of ICMP messages.
type ICMPField struct {
	// IPv4, the default, for ICMP and IPv6 for ICMPv6.
	// +optional
	// +kubebuilder:validation:Enum=IPv4;IPv6
	Family string `json:"family,omitempty"`

	// The type of message: a number from 0 to 255, or a name of the family like EchoRequest.
	// +kubebuilder:validation:XIntOrString
	Type *intstr.IntOrString `json:"type"`
}

// TLSContext is where certificates and keys are.
type TLSContext struct {
	// The secret that holds them.
	Secret SecretName `json:"secret"`
	// The secret's field with the certificates of trusted authorities; "ca.crt" if absent.
	// +optional
	TrustedCA string `json:"trustedCA,omitempty"`
	// The secret's field with the certificate; "tls.crt" if absent.
	// +optional
	Certificate string `json:"certificate,omitempty"`
	// The secret's field with the private key; "tls.key" if absent.
	// +optional
	PrivateKey string `json:"privateKey,omitempty"`
}

// SecretName names a secret.
type SecretName struct {
	// The secret's namespace; the agent's place for secrets if absent.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// The secret's name.
	Name string `json:"name"`
}

// ServerName is a name in TLS, with or without '*'.
// +kubebuilder:validation:MaxLength=255
// +kubebuilder:validation:Pattern=`^([-a-zA-Z0-9_*]+[.]?)+$`
type ServerName string

// Listener names an Envoy listener.
type Listener struct {
	// The object that configures it.
	EnvoyConfig EnvoyConfigName `json:"envoyConfig"`
	// The listener's name in that object.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Which listener is used if several policies name one for the same traffic: the one with the
	// lowest number.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Priority int32 `json:"priority,omitempty"`
}

// EnvoyConfigName names a configuration of Envoy.
type EnvoyConfigName struct {
	// The object's kind; the kind that has the policy's scope if absent.
	// +optional
	// +kubebuilder:validation:Enum=CiliumEnvoyConfig;CiliumClusterwideEnvoyConfig
	Kind string `json:"kind,omitempty"`
	// The object's name.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
}
