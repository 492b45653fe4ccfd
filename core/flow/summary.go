package flow

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

// tcpFlagNames is in the order in which people expect them: "SYN, ACK", "ACK, FIN".
var tcpFlagNames = []struct {
	bit  uint8
	name string
}{
	{datapath.TCPSyn, "SYN"}, {datapath.TCPAck, "ACK"}, {datapath.TCPRst, "RST"}, {datapath.TCPFin, "FIN"},
	{datapath.TCPPsh, "PSH"}, {datapath.TCPUrg, "URG"}, {datapath.TCPEce, "ECE"}, {datapath.TCPCwr, "CWR"},
}

// TCPFlagNames names the flags that are set, joined by ", ".
func TCPFlagNames(flags uint8) string {
	var set []string
	for _, f := range tcpFlagNames {
		if flags&f.bit != 0 {
			set = append(set, f.name)
		}
	}
	return strings.Join(set, ", ")
}

// closeFormat is what a closed flow adds to its summary: what the opener sent, then what the other
// side sent.
const closeFormat = "; closed, sent %d packets %d bytes, received %d packets %d bytes"

// Summary describes the packet in one line, as Hubble does: "TCP Flags: SYN", "UDP", "ICMPv4
// EchoRequest". The end of a TCP flow also says what was sent in either direction.
func Summary(e datapath.Event) string {
	s := l4Summary(e)
	if e.Type == datapath.EventClose {
		s += fmt.Sprintf(closeFormat, e.Packets[0], e.Bytes[0], e.Packets[1], e.Bytes[1])
	}
	return s
}

func l4Summary(e datapath.Event) string {
	switch e.Proto {
	case datapath.ProtoTCP:
		return "TCP Flags: " + TCPFlagNames(e.TCPFlags)
	case datapath.ProtoICMP:
		return "ICMPv4 " + icmpName(icmpv4Names, e.ICMPType, e.ICMPCode)
	case datapath.ProtoICMPv6:
		return "ICMPv6 " + icmpName(icmpv6Names, e.ICMPType, e.ICMPCode)
	case datapath.ProtoUDP, datapath.ProtoSCTP:
		return datapath.ProtoName(e.Proto)
	}
	return "IP protocol " + datapath.ProtoName(e.Proto)
}

// parseSummary reads the counters back that Summary adds for the end of a flow.
func parseSummary(s string, e *datapath.Event) {
	if _, tail, ok := strings.Cut(s, ";"); ok {
		var p, b [2]uint64
		if n, _ := fmt.Sscanf(";"+tail, closeFormat, &p[0], &b[0], &p[1], &b[1]); n == 4 {
			e.Type, e.Packets, e.Bytes = datapath.EventClose, p, b
		}
	}
}

var icmpv4Names = map[uint8]string{
	0: "EchoReply", 3: "DestinationUnreachable", 4: "SourceQuench", 5: "Redirect", 8: "EchoRequest",
	9: "RouterAdvertisement", 10: "RouterSolicitation", 11: "TimeExceeded", 12: "ParameterProblem",
	13: "TimestampRequest", 14: "TimestampReply",
}

var icmpv6Names = map[uint8]string{
	1: "DestinationUnreachable", 2: "PacketTooBig", 3: "TimeExceeded", 4: "ParameterProblem",
	128: "EchoRequest", 129: "EchoReply", 130: "MulticastListenerQuery", 131: "MulticastListenerReport",
	132: "MulticastListenerDone", 133: "RouterSolicitation", 134: "RouterAdvertisement",
	135: "NeighborSolicitation", 136: "NeighborAdvertisement", 137: "Redirect",
	143: "MulticastListenerReportV2",
}

func icmpName(names map[uint8]string, typ, code uint8) string {
	n, ok := names[typ]
	if !ok {
		n = fmt.Sprintf("type %d", typ)
	}
	if code != 0 {
		n += fmt.Sprintf(" code %d", code)
	}
	return n
}
