package flow

import (
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

var protocolNames = []string{"tcp", "udp", "icmp", "icmpv4", "icmpv6", "sctp"}

var protocolField = Field{
	Name: "protocol", Arg: "NAME", Values: protocolNames,
	Help: "Show flows of the L4 protocol; icmp means both families",
	Add: func(f *Filter, _ Side, v string) error {
		f.Protocol = append(f.Protocol, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.Protocol, func(v string) (predicate, error) {
			var protos []uint8
			switch strings.ToLower(v) {
			case "tcp":
				protos = []uint8{datapath.ProtoTCP}
			case "udp":
				protos = []uint8{datapath.ProtoUDP}
			case "sctp":
				protos = []uint8{datapath.ProtoSCTP}
			case "icmpv4":
				protos = []uint8{datapath.ProtoICMP}
			case "icmpv6":
				protos = []uint8{datapath.ProtoICMPv6}
			case "icmp":
				protos = []uint8{datapath.ProtoICMP, datapath.ProtoICMPv6}
			default:
				return nil, &ValueError{Field: "protocol", Value: v, Allowed: protocolNames}
			}
			return func(fl *Flow) bool {
				for _, p := range protos {
					if fl.Event.Proto == p {
						return true
					}
				}
				return false
			}, nil
		})
	},
}
