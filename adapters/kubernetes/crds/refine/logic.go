package main

import (
	"fmt"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

type schema = apiextensions.JSONSchemaProps

// addition is schema logic for every object that has all the fields named.
type addition struct {
	fields []string
	logic  string // YAML; what stands in it must hold
}

// l7 holds, in a port rule, for one that judges what is said in the protocols named.
func l7(members ...string) string {
	var any []string
	for _, m := range members {
		limit := "minItems"
		if m == "l7proto" {
			limit = "minLength"
		}
		any = append(any, fmt.Sprintf("{required: [%s], properties: {%s: {%s: 1}}}", m, m, limit))
	}
	return fmt.Sprintf("{required: [rules], properties: {rules: {anyOf: [%s]}}}", strings.Join(any, ", "))
}

// atMostOne holds if no more than one of the lists has entries.
func atMostOne(lists ...string) string {
	var any []string
	for _, own := range lists {
		var others []string
		for _, l := range lists {
			if l != own {
				others = append(others, l+": {maxItems: 0}")
			}
		}
		any = append(any, fmt.Sprintf("{properties: {%s}}", strings.Join(others, ", ")))
	}
	return fmt.Sprintf("anyOf: [%s]", strings.Join(any, ", "))
}

var additions = []addition{
	// A port, by whether its protocol has ports.
	{[]string{"port", "endPort", "protocol"}, `
anyOf:
- required: [port]
  properties:
    protocol: {enum: ["", ANY, TCP, UDP, SCTP]}
    port: {minLength: 1}
- required: [protocol]
  properties:
    protocol: {enum: [ICMP, ICMPV6, ICMPv6, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH]}
    port: {enum: ["", "0"]}
  not: {required: [endPort]}
`},
	// A range begins with a number.
	{[]string{"port", "endPort", "protocol"}, `
anyOf:
- not: {required: [endPort]}
- properties: {endPort: {maximum: 0}}
- properties: {port: {pattern: '^0*[1-9][0-9]*$'}}
`},
	{[]string{"key", "operator", "values"}, `
anyOf:
- required: [values]
  properties:
    operator: {enum: [In, NotIn]}
    values: {minItems: 1}
- properties:
    operator: {enum: [Exists, DoesNotExist]}
    values: {maxItems: 0}
`},
	{[]string{"cidr", "cidrGroupRef", "cidrGroupSelector"}, `
oneOf:
- required: [cidr]
- required: [cidrGroupRef]
- required: [cidrGroupSelector]
`},
	{[]string{"matchName", "matchPattern"}, `
oneOf:
- required: [matchName]
- required: [matchPattern]
`},
	{[]string{"family", "type"}, `
anyOf:
- properties:
    family: {enum: [IPv4]}
    type: {pattern: '` + icmpTypes("EchoReply", "DestinationUnreachable", "Redirect", "Echo", "EchoRequest",
		"RouterAdvertisement", "RouterSelection", "TimeExceeded", "ParameterProblem", "Timestamp", "TimestampReply",
		"Photuris", "ExtendedEchoRequest", "ExtendedEchoReply") + `'}
- required: [family]
  properties:
    family: {enum: [IPv6]}
    type: {pattern: '` + icmpTypes("DestinationUnreachable", "PacketTooBig", "TimeExceeded", "ParameterProblem",
		"EchoRequest", "EchoReply", "MulticastListenerQuery", "MulticastListenerReport", "MulticastListenerDone",
		"RouterSolicitation", "RouterAdvertisement", "NeighborSolicitation", "NeighborAdvertisement", "RedirectMessage",
		"RouterRenumbering", "ICMPNodeInformationQuery", "ICMPNodeInformationResponse",
		"InverseNeighborDiscoverySolicitation", "InverseNeighborDiscoveryAdvertisement", "HomeAgentAddressDiscoveryRequest",
		"HomeAgentAddressDiscoveryReply", "MobilePrefixSolicitation", "MobilePrefixAdvertisement",
		"DuplicateAddressRequestCodeSuffix", "DuplicateAddressConfirmationCodeSuffix", "ExtendedEchoRequest",
		"ExtendedEchoReply") + `'}
`},
	// Rules for what is said on a connection: TCP, but DNS; on known ports.
	{[]string{"ports", "rules", "listener"}, `
anyOf:
- not: ` + l7("http", "kafka", "l7proto") + `
- properties:
    ports:
      items:
        required: [port, protocol]
        properties:
          protocol: {enum: [TCP]}
          port: {not: {pattern: '^0+$'}}
`},
	{[]string{"ports", "rules", "listener"}, `
anyOf:
- not: ` + l7("dns") + `
- properties:
    ports:
      items:
        required: [port]
        properties:
          protocol: {enum: ["", ANY, TCP, UDP]}
          port: {not: {pattern: '^0+$'}}
`},
	{[]string{"ports", "rules", "listener"}, `
anyOf:
- not: {required: [listener]}
- not: ` + l7("http", "kafka", "dns", "l7proto") + `
`},
	// DNS is judged where it is asked.
	{[]string{"fromEndpoints", "toPorts", "authentication"}, `
properties:
  toPorts:
    items:
      not: ` + l7("dns") + `
`},
	{[]string{"http", "kafka", "dns", "l7proto"}, atMostOne("http", "kafka", "dns", "l7")},
	{[]string{"http", "kafka", "dns", "l7proto"}, `
anyOf:
- properties: {l7proto: {maxLength: 0}}
- properties: {http: {maxItems: 0}, kafka: {maxItems: 0}, dns: {maxItems: 0}}
`},
	{[]string{"http", "kafka", "dns", "l7proto"}, `
anyOf:
- properties: {l7: {maxItems: 0}}
- required: [l7proto]
  properties: {l7proto: {minLength: 1}}
`},
	{[]string{"cidr", "start", "stop"}, `
oneOf:
- required: [cidr]
  not: {required: [stop]}
- required: [start]
`},
	{[]string{"role", "apiKey"}, `
anyOf:
- not: {required: [role]}
- not: {required: [apiKey]}
`},
}

// manyAdditions stand below specs in place of the CEL expressions of single rules, whose cost has no
// bound there.
var manyAdditions = []addition{
	{[]string{"fromEndpoints"}, atMostOne("fromEndpoints", "fromEntities", "fromCIDR", "fromCIDRSet", "fromNodes", "fromGroups")},
	{[]string{"toEndpoints", "authentication"}, atMostOne("toEndpoints", "toEntities", "toCIDR", "toCIDRSet", "toNodes", "toGroups", "toServices", "toFQDNs")},
	{[]string{"toEndpoints"}, atMostOne("toEndpoints", "toEntities", "toCIDR", "toCIDRSet", "toNodes", "toGroups", "toServices")},
	{[]string{"toPorts", "icmps"}, atMostOne("toPorts", "icmps")},
}

func icmpTypes(names ...string) string {
	return "^(0*([0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])|" + strings.Join(names, "|") + ")$"
}

// linkLocal are link-local addresses with their interface.
const linkLocal = `^[fF][eE]80:[0-9a-fA-F:]*:[0-9a-fA-F]{0,4}%[^%]+$`

// mapped are IPv4 prefixes in IPv6's notation.
const mapped = `^((0{0,4}:)+[fF]{4}:([0-9.]+|[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4})|(0{1,4}:){5}[fF]{4}:([0-9a-fA-F]{1,4})?::?)/`

// refine adds to a schema and to all below it. path tells where it stands: its fields, joined by dots.
func refine(s *schema, path string) error {
	if s.Format == "cidr" {
		s.Not = &schema{Pattern: mapped}
	}
	switch s.Format { // two that the API server doesn't know
	case "ip":
		s.Format, s.AnyOf = "", []schema{{Format: "ipv4"}, {Format: "ipv6"}}
	case "peer-ip":
		s.Format, s.AnyOf = "", []schema{{Format: "ipv4"}, {Format: "ipv6"}, {Pattern: linkLocal}}
	}
	if r, ok := s.Properties["resources"]; ok && has(s, []string{"backendServices"}) { // Envoy's own
		preserve := true
		r.Items.Schema.XPreserveUnknownFields = &preserve
		s.Properties["resources"] = r
	}
	if has(s, []string{"family", "type"}) && s.Properties["type"].XIntOrString {
		t, low, high := s.Properties["type"], 0.0, 255.0
		t.Minimum, t.Maximum = &low, &high
		s.Properties["type"] = t
	}
	for _, a := range additions {
		if err := a.add(s); err != nil {
			return err
		}
	}
	if strings.HasPrefix(path, ".specs.") {
		for _, a := range manyAdditions {
			if err := a.add(s); err != nil {
				return err
			}
		}
		if has(s, []string{"toFQDNs"}) && !has(s, []string{"authentication"}) {
			s.AllOf = append(s.AllOf, schema{Not: &schema{Required: []string{"toFQDNs"}}})
		}
		s.XValidations = nil
	}
	for _, w := range words {
		if has(s, w.fields) {
			p := s.Properties[w.field]
			p.Description = w.words
			s.Properties[w.field] = p
		}
	}
	for _, name := range sorted(s.Properties) {
		p := s.Properties[name]
		if err := refine(&p, path+"."+name); err != nil {
			return err
		}
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		if err := refine(s.Items.Schema, path); err != nil {
			return err
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		return refine(s.AdditionalProperties.Schema, path)
	}
	return nil
}

func (a addition) add(s *schema) error {
	if !has(s, a.fields) {
		return nil
	}
	var logic schema
	if err := yaml.UnmarshalStrict([]byte(a.logic), &logic); err != nil {
		return fmt.Errorf("logic for objects with %s: %w", strings.Join(a.fields, ", "), err)
	}
	s.AllOf = append(s.AllOf, logic)
	return nil
}

func has(s *schema, fields []string) bool {
	for _, f := range fields {
		if _, ok := s.Properties[f]; !ok {
			return false
		}
	}
	return true
}

func sorted(m map[string]schema) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
