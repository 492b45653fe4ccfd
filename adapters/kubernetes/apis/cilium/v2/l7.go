package v2

// L7Rules are what may be said on a connection, in one protocol: at most one of http, kafka, dns and
// l7 stands here.
type L7Rules struct {
	// HTTP requests.
	// +optional
	// +listType=atomic
	HTTP []HTTPRule `json:"http,omitzero"`

	// Kafka requests.
	// +optional
	// +listType=atomic
	Kafka []KafkaRule `json:"kafka,omitzero"`

	// DNS questions.
	// +optional
	// +listType=atomic
	DNS []FQDNSelector `json:"dns,omitzero"`

	// The name of a parser that reads the protocol. Needed with l7.
	// +optional
	L7Proto string `json:"l7proto,omitempty"`

	// Requests in the words of the parser that l7proto names.
	// +optional
	// +listType=atomic
	L7 []map[string]string `json:"l7,omitzero"`
}

// HTTPRule allows HTTP requests. All that it names must hold; an empty rule allows every request.
type HTTPRule struct {
	// A regular expression for the path with its query. It must match as a whole.
	// +optional
	Path string `json:"path,omitempty"`

	// A regular expression for the method, as in "GET" or "GET|HEAD". It must match as a whole.
	// +optional
	Method string `json:"method,omitempty"`

	// A regular expression for the host. It must match as a whole.
	// +optional
	Host string `json:"host,omitempty"`

	// Headers that must be there: "Name: value", or "Name" for any value.
	// +optional
	// +listType=atomic
	Headers []string `json:"headers,omitzero"`

	// Headers that must have a value, and what happens if they don't.
	// +optional
	// +listType=atomic
	HeaderMatches []HeaderMatch `json:"headerMatches,omitzero"`
}

// HeaderMatch is a header that must have a value.
type HeaderMatch struct {
	// The header's name.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// The secret that holds the value. Its only field, or the one named like the header, counts.
	// +optional
	Secret *SecretName `json:"secret,omitempty"`
	// The value. If neither value nor secret is given, the header must be there.
	// +optional
	Value string `json:"value,omitempty"`
	// What happens to a request whose header differs: LOG, or ADD, DELETE or REPLACE the header. If
	// absent the rule doesn't allow the request.
	// +optional
	// +kubebuilder:validation:Enum=LOG;ADD;DELETE;REPLACE
	Mismatch string `json:"mismatch,omitempty"`
}

// KafkaRule allows Kafka requests. All that it names must hold.
type KafkaRule struct {
	// produce or consume: the requests that one needs for it. Not together with apiKey.
	// +optional
	// +kubebuilder:validation:Enum=produce;consume
	Role string `json:"role,omitempty"`
	// The kind of request by name, as in "fetch". Not together with role.
	// +optional
	APIKey string `json:"apiKey,omitempty"`
	// The version of the request, a number in quotes.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// The client's id.
	// +optional
	ClientID string `json:"clientID,omitempty"`
	// The topic.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9._-]*$`
	Topic string `json:"topic,omitempty"`
}
