package manifest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// maxPorts is how many entries Cilium allows in one list of ports or of ICMP fields.
const maxPorts = 40

// readCiliumPorts reads toPorts and icmps into the rule. The result says whether the rule restricts
// ports at all: an empty list does not.
func readCiliumPorts(o object, sec section, rule *policy.Rule) bool {
	toPorts, _ := o.get("toPorts").list()
	icmps, _ := o.get("icmps").list()
	if len(toPorts) > 0 && len(icmps) > 0 {
		o.bad("toPorts and icmps can't stand in one rule; make them two rules")
	}
	for i, item := range toPorts {
		readPortRule(item, fmt.Sprintf("toPorts[%d]", i), sec, rule)
	}
	for _, item := range icmps {
		rule.ICMP = append(rule.ICMP, readICMPRule(item)...)
	}
	return len(toPorts) > 0 || len(icmps) > 0
}

// readPortRule reads an entry of toPorts, which stands at the path, into a rule.
func readPortRule(v value, path string, sec section, rule *policy.Rule) {
	o, ok := v.strictObject(append([]string{"ports"}, layer7...)...)
	if !ok {
		return
	}
	ports, isList := o.get("ports").list()
	if len(ports) > maxPorts {
		o.get("ports").bad("%d entries; allowed: %d", len(ports), maxPorts)
	}
	if len(ports) == 0 && (isList || o.get("ports").absent()) {
		v.warn("names no ports, so it matches nothing; port \"0\" is every port")
	}
	var out []policy.Port
	for _, item := range ports {
		if p, ok := readCiliumPort(item); ok {
			out = append(out, p)
		}
	}
	if readLayer7(o, ports, path, sec, rule) {
		rule.Ports = append(rule.Ports, out...)
	}
}

const ciliumProtocols = "TCP, UDP, SCTP, ICMP, ICMPV6, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH, ANY"

// ciliumProtocol gives the number of a protocol by Cilium's name for it.
func ciliumProtocol(s string) (proto uint8, any, ok bool) {
	switch s {
	case "", "ANY":
		return 0, true, true
	case "ICMP":
		return datapath.ProtoICMP, false, true
	case "ICMPV6", "ICMPv6":
		return datapath.ProtoICMPv6, false, true
	case "IGMP":
		return 2, false, true
	case "IPIP":
		return 4, false, true
	case "IPV6":
		return 41, false, true
	case "GRE":
		return 47, false, true
	case "ESP":
		return 50, false, true
	case "AH":
		return 51, false, true
	case "VRRP":
		return 112, false, true
	}
	proto, ok = transport(s)
	return proto, false, ok
}

func readCiliumPort(v value) (policy.Port, bool) {
	o, ok := v.strictObject("port", "endPort", "protocol")
	if !ok {
		return policy.Port{}, false
	}
	p := policy.Port{Last: 65535}
	good := true
	name, isText := o.get("protocol").text()
	if p.Proto, p.AnyProto, ok = ciliumProtocol(name); !ok {
		o.get("protocol").bad("unknown protocol %q; allowed: %s", clip(name), ciliumProtocols)
		good = false
	}
	good = good && (isText || o.get("protocol").absent())
	portless := good && !p.AnyProto && !datapath.HasPorts(p.Proto)

	port := o.get("port")
	s, isText := port.text()
	switch {
	case !isText && !port.absent():
		return p, false
	case portless:
		if s != "" && s != "0" {
			port.bad(`protocol %s has no ports; leave port out or write "0"`, name)
			good = false
		}
		if !o.get("endPort").absent() {
			o.get("endPort").bad("protocol %s has no ports; leave it out", name)
			good = false
		}
		return p, good
	case s == "":
		port.bad(`missing; want a number in quotes from "0", which is every port, to "65535", or a name`)
		return p, false
	case validPortName(s, 63):
		p.Name, p.First, p.Last = strings.ToLower(s), 0, 0
	default:
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			port.bad(`%q is not a port; want a number in quotes from "0", which is every port, to "65535", or a name of letters, digits and '-' with a letter in it`, clip(s))
			good = false
		}
		if n != 0 {
			p.First, p.Last = uint16(n), uint16(n)
		}
	}
	if end := o.get("endPort"); end.raw == json.Number("0") {
		return p, good // Cilium's "no range"
	} else if p.Name == "" && p.First == 0 && !end.absent() {
		end.bad(`port "0" is every port already; want a first port from 1`)
		return p, false
	}
	return p, o.endPort(&p, good)
}

func readICMPRule(v value) []policy.ICMP {
	o, ok := v.strictObject("fields")
	if !ok {
		return nil
	}
	fields, isList := o.get("fields").list()
	if len(fields) > maxPorts {
		o.get("fields").bad("%d entries; allowed: %d", len(fields), maxPorts)
	}
	if len(fields) == 0 && (isList || o.get("fields").absent()) {
		v.warn("names no fields, so it matches nothing")
	}
	var out []policy.ICMP
	for _, item := range fields {
		if m, ok := readICMPField(item); ok {
			out = append(out, m)
		}
	}
	return out
}

func readICMPField(v value) (policy.ICMP, bool) {
	o, ok := v.strictObject("family", "type")
	if !ok {
		return policy.ICMP{}, false
	}
	var m policy.ICMP
	good := true
	if f, ok := o.get("family").text(); ok {
		switch f {
		case "IPv4":
		case "IPv6":
			m.IPv6 = true
		default:
			o.get("family").bad("unknown family %q; allowed: IPv4, IPv6", clip(f))
			good = false
		}
	} else {
		good = o.get("family").absent()
	}
	t := o.get("type")
	switch raw := t.raw.(type) {
	case nil:
		t.bad("missing; want a number from 0 to 255 or a name like EchoRequest")
		return m, false
	case string:
		if n, err := strconv.ParseUint(raw, 10, 8); err == nil {
			m.Type = uint8(n)
			return m, good
		}
		types := icmpTypes(m.IPv6)
		n, known := types[raw]
		if !known {
			t.bad("unknown ICMP type %q of this family; want a number from 0 to 255 or one of %s", clip(raw), strings.Join(sortedKeys(types), ", "))
			return m, false
		}
		m.Type = n
		return m, good
	}
	n, ok := t.integer(0, 255)
	m.Type = uint8(n)
	return m, good && ok
}

// icmpTypes are the message types that have names (IANA's registries).
func icmpTypes(ipv6 bool) map[string]uint8 {
	if ipv6 {
		return map[string]uint8{
			"DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
			"EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130, "MulticastListenerReport": 131,
			"MulticastListenerDone": 132, "RouterSolicitation": 133, "RouterAdvertisement": 134,
			"NeighborSolicitation": 135, "NeighborAdvertisement": 136, "RedirectMessage": 137,
			"RouterRenumbering": 138, "ICMPNodeInformationQuery": 139, "ICMPNodeInformationResponse": 140,
			"InverseNeighborDiscoverySolicitation": 141, "InverseNeighborDiscoveryAdvertisement": 142,
			"HomeAgentAddressDiscoveryRequest": 144, "HomeAgentAddressDiscoveryReply": 145,
			"MobilePrefixSolicitation": 146, "MobilePrefixAdvertisement": 147,
			"DuplicateAddressRequestCodeSuffix": 157, "DuplicateAddressConfirmationCodeSuffix": 158,
			"ExtendedEchoRequest": 160, "ExtendedEchoReply": 161,
		}
	}
	return map[string]uint8{
		"EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
		"RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12,
		"Timestamp": 13, "TimestampReply": 14, "Photuris": 40, "ExtendedEchoRequest": 42, "ExtendedEchoReply": 43,
	}
}
