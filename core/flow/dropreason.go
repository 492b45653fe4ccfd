package flow

import (
	"fmt"
	"sort"

	"github.com/weirnet/weir/core/datapath"
)

// DropReason describes one reason for dropping a packet, as Hubble knows it.
type DropReason struct {
	Number datapath.Reason
	Name   string // of the enum value in Hubble's API: "POLICY_DENIED"
	Text   string // as people read it: "Policy denied"
}

// ReasonName gives the name of the reason in Hubble's API, or DROP_REASON_UNKNOWN.
func ReasonName(r datapath.Reason) string {
	if d, ok := dropReasons[r]; ok {
		return d.Name
	}
	return dropReasons[0].Name
}

// ReasonText gives the text that people read; a number that has none is named by the number.
func ReasonText(r datapath.Reason) string {
	if d, ok := dropReasons[r]; ok {
		return d.Text
	}
	return fmt.Sprintf("Reason %d", r)
}

// ParseReason is the reverse of ReasonName. The error lists what is allowed.
func ParseReason(name string) (datapath.Reason, error) {
	for _, d := range dropReasons {
		if d.Name == name {
			return d.Number, nil
		}
	}
	return 0, &ValueError{Field: "drop-reason-desc", Value: name, Allowed: reasonNames()}
}

// DropReasons lists all reasons in order of number.
func DropReasons() []DropReason {
	out := make([]DropReason, 0, len(dropReasons))
	for _, d := range dropReasons {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Number < out[j].Number })
	return out
}

func reasonNames() []string {
	var out []string
	for _, d := range DropReasons() {
		out = append(out, d.Name)
	}
	return out
}

// Names and texts differ for a few numbers: the names are those of the published API and never
// change, the texts say what the reason has come to mean.
var dropReasons = map[datapath.Reason]DropReason{
	0:   {0, "DROP_REASON_UNKNOWN", "Unknown reason"},
	130: {130, "INVALID_SOURCE_MAC", "Invalid source MAC"},
	131: {131, "INVALID_DESTINATION_MAC", "Invalid destination MAC"},
	132: {132, "INVALID_SOURCE_IP", "Invalid source ip"},
	133: {133, "POLICY_DENIED", "Policy denied"},
	134: {134, "INVALID_PACKET_DROPPED", "Invalid packet"},
	135: {135, "CT_TRUNCATED_OR_INVALID_HEADER", "CT: Truncated or invalid header"},
	136: {136, "CT_MISSING_TCP_ACK_FLAG", "Fragmentation needed"},
	137: {137, "CT_UNKNOWN_L4_PROTOCOL", "CT: Unknown L4 protocol"},
	138: {138, "CT_CANNOT_CREATE_ENTRY_FROM_PACKET", "CT: Cannot create entry from packet"},
	139: {139, "UNSUPPORTED_L3_PROTOCOL", "Unsupported L3 protocol"},
	140: {140, "MISSED_TAIL_CALL", "Missed tail call"},
	141: {141, "ERROR_WRITING_TO_PACKET", "Error writing to packet"},
	142: {142, "UNKNOWN_L4_PROTOCOL", "Unknown L4 protocol"},
	143: {143, "UNKNOWN_ICMPV4_CODE", "Unknown ICMPv4 code"},
	144: {144, "UNKNOWN_ICMPV4_TYPE", "Unknown ICMPv4 type"},
	145: {145, "UNKNOWN_ICMPV6_CODE", "Unknown ICMPv6 code"},
	146: {146, "UNKNOWN_ICMPV6_TYPE", "Unknown ICMPv6 type"},
	147: {147, "ERROR_RETRIEVING_TUNNEL_KEY", "Error retrieving tunnel key"},
	148: {148, "ERROR_RETRIEVING_TUNNEL_OPTIONS", "Error retrieving tunnel options"},
	149: {149, "INVALID_GENEVE_OPTION", "Invalid Geneve option"},
	150: {150, "UNKNOWN_L3_TARGET_ADDRESS", "Unknown L3 target address"},
	151: {151, "STALE_OR_UNROUTABLE_IP", "Stale or unroutable IP"},
	152: {152, "NO_MATCHING_LOCAL_CONTAINER_FOUND", "No matching local container found"},
	153: {153, "ERROR_WHILE_CORRECTING_L3_CHECKSUM", "Error while correcting L3 checksum"},
	154: {154, "ERROR_WHILE_CORRECTING_L4_CHECKSUM", "Error while correcting L4 checksum"},
	155: {155, "CT_MAP_INSERTION_FAILED", "CT: Map insertion failed"},
	156: {156, "INVALID_IPV6_EXTENSION_HEADER", "Invalid IPv6 extension header"},
	157: {157, "IP_FRAGMENTATION_NOT_SUPPORTED", "IP fragmentation not supported"},
	158: {158, "SERVICE_BACKEND_NOT_FOUND", "Service backend not found"},
	160: {160, "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT", "No tunnel/encapsulation endpoint (datapath BUG!)"},
	161: {161, "FAILED_TO_INSERT_INTO_PROXYMAP", "NAT 46/64 not enabled"},
	162: {162, "REACHED_EDT_RATE_LIMITING_DROP_HORIZON", "Reached EDT rate-limiting drop horizon"},
	163: {163, "UNKNOWN_CONNECTION_TRACKING_STATE", "Unknown connection tracking state"},
	164: {164, "LOCAL_HOST_IS_UNREACHABLE", "Local host is unreachable"},
	165: {165, "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION", "No configuration available to perform policy decision"},
	166: {166, "UNSUPPORTED_L2_PROTOCOL", "Unsupported L2 protocol"},
	167: {167, "NO_MAPPING_FOR_NAT_MASQUERADE", "No mapping for NAT masquerade"},
	168: {168, "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE", "Unsupported protocol for NAT masquerade"},
	169: {169, "FIB_LOOKUP_FAILED", "FIB lookup failed"},
	170: {170, "ENCAPSULATION_TRAFFIC_IS_PROHIBITED", "Encapsulation traffic is prohibited"},
	171: {171, "INVALID_IDENTITY", "Invalid identity"},
	172: {172, "UNKNOWN_SENDER", "Unknown sender"},
	173: {173, "NAT_NOT_NEEDED", "NAT not needed"},
	174: {174, "IS_A_CLUSTERIP", "Is a ClusterIP"},
	175: {175, "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", "First logical datagram fragment not found"},
	176: {176, "FORBIDDEN_ICMPV6_MESSAGE", "Forbidden ICMPv6 message"},
	177: {177, "DENIED_BY_LB_SRC_RANGE_CHECK", "Denied by LB src range check"},
	178: {178, "SOCKET_LOOKUP_FAILED", "Socket lookup failed"},
	179: {179, "SOCKET_ASSIGN_FAILED", "Socket assign failed"},
	180: {180, "PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL", "Proxy redirection not supported for protocol"},
	181: {181, "POLICY_DENY", "Policy denied by denylist"},
	182: {182, "VLAN_FILTERED", "VLAN traffic disallowed by VLAN filter"},
	183: {183, "INVALID_VNI", "Invalid VNI"},
	184: {184, "INVALID_TC_BUFFER", "Invalid TC buffer"},
	185: {185, "NO_SID", "No SID"},
	186: {186, "MISSING_SRV6_STATE", "Missing SRv6 state"},
	187: {187, "NAT46", "NAT46"},
	188: {188, "NAT64", "NAT64"},
	189: {189, "AUTH_REQUIRED", "Authentication required"},
	190: {190, "CT_NO_MAP_FOUND", "No conntrack map found"},
	191: {191, "SNAT_NO_MAP_FOUND", "No nat map found"},
	192: {192, "INVALID_CLUSTER_ID", "Invalid ClusterID"},
	193: {193, "UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP", "Unsupported protocol for DSR encapsulation"},
	194: {194, "NO_EGRESS_GATEWAY", "No egress gateway found"},
	195: {195, "UNENCRYPTED_TRAFFIC", "Traffic is unencrypted"},
	196: {196, "TTL_EXCEEDED", "TTL exceeded"},
	197: {197, "NO_NODE_ID", "No node ID found"},
	198: {198, "DROP_RATE_LIMITED", "Rate limited"},
	199: {199, "IGMP_HANDLED", "IGMP handled"},
	200: {200, "IGMP_SUBSCRIBED", "IGMP subscribed"},
	201: {201, "MULTICAST_HANDLED", "Multicast handled"},
	202: {202, "DROP_HOST_NOT_READY", "Host datapath not ready"},
	203: {203, "DROP_EP_NOT_READY", "Endpoint policy program not available"},
	204: {204, "DROP_NO_EGRESS_IP", "No Egress IP configured"},
	205: {205, "DROP_PUNT_PROXY", "Punt to proxy"},
	207: {207, "DROP_FRAG_NOT_FOUND_WORLD", "Fragment not found, from outside"},
}
