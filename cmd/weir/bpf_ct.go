package main

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
)

func newBPFCTListCommand(g *globals) *cobra.Command {
	var remaining bool
	c := &cobra.Command{
		Use:   "global",
		Short: "List every flow of the node",
		Long: `List every flow of the node, one line each, as the side that opened it sees it: OUT if that is a
local pod, IN if only the other side is. One entry serves both directions: Packets and Bytes are the
sum, TxFlagsSeen is what the opener sent, RxFlagsSeen what it got. expires is in seconds from now.
Services are translated before there is a packet, and events are not tied to times of a report:
RevNAT, BackendID, LastRxReport and LastTxReport are always 0.`,
		Example: `  weir bpf ct list global
  weir bpf ct list global -o json | jq '.[] | select(.denied)'`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().BoolVarP(&remaining, "time-diff", "d", false, "print the time that is left")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		flows, err := g.agent().Flows(c.Context())
		if err != nil {
			return err
		}
		sort.SliceStable(flows, func(i, j int) bool {
			if x := flows[i].Src.Compare(flows[j].Src); x != 0 {
				return x < 0
			}
			return flows[i].Dst.Compare(flows[j].Dst) < 0
		})
		if out.json() {
			views := make([]ctEntry, 0, len(flows))
			for _, f := range flows {
				views = append(views, newCTEntry(f))
			}
			return printJSON(g.out, views)
		}
		for _, f := range flows {
			if _, err := fmt.Fprintln(g.out, ctLine(f, remaining)); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func newBPFCTFlushCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "global",
		Short: "Remove every flow of the node; connections go on and are judged anew",
		Long: `Remove every flow of the node. Connections are not cut: their next packet is judged by the policy
in force, like the first of a new flow.`,
		Example: "  weir bpf ct flush global",
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := g.agent().FlushFlows(c.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "Flushed %d entries from the flow table\n", n)
			return err
		},
	}
}

// Flags of a flow, with the numbers of Cilium's where it has them.
const (
	ctRxClosing  = 1 << 0
	ctTxClosing  = 1 << 1
	ctSeenNonSyn = 1 << 4
	ctDenied     = 1 << 15 // weir's own
)

func ctFlags(f datapath.Flow) (uint16, []string) {
	var bits uint16
	var names []string
	add := func(on bool, bit uint16, name string) {
		if on {
			bits |= bit
			names = append(names, name)
		}
	}
	const ends = datapath.TCPFin | datapath.TCPRst
	tcp := f.Proto == datapath.ProtoTCP
	add(tcp && f.TCPFlags[1]&ends != 0, ctRxClosing, "RxClosing")
	add(tcp && f.TCPFlags[0]&ends != 0, ctTxClosing, "TxClosing")
	add(f.SeenNonSYN, ctSeenNonSyn, "SeenNonSyn")
	add(f.Denied, ctDenied, "Denied")
	return bits, names
}

func ctDirection(f datapath.Flow) string {
	if f.SrcEndpoint == 0 && f.DstEndpoint != 0 {
		return "IN"
	}
	return "OUT"
}

func ctLine(f datapath.Flow, remaining bool) string {
	left := ""
	if remaining {
		left = fmt.Sprintf(" (remaining: %d sec(s))", int(f.Expires/time.Second))
	}
	bits, names := ctFlags(f)
	flags := fmt.Sprintf("0x%04x [ ", bits)
	if len(names) > 0 {
		flags += strings.Join(names, " ") + " "
	}
	flags += "]"
	return fmt.Sprintf("%s %s %s -> %s expires=%d%s Packets=%d Bytes=%d RxFlagsSeen=0x%02x LastRxReport=0 TxFlagsSeen=0x%02x LastTxReport=0 Flags=%s RevNAT=0 SourceSecurityID=%d BackendID=0 DestinationSecurityID=%d",
		ctProto(f.Proto), ctDirection(f), f.Src, f.Dst, int(f.Expires/time.Second), left,
		f.Packets[0]+f.Packets[1], f.Bytes[0]+f.Bytes[1], f.TCPFlags[1], f.TCPFlags[0], flags, f.SrcIdentity, f.DstIdentity)
}

// ctProto is Cilium's name of the protocol: ICMP without its version.
func ctProto(p uint8) string {
	if p == datapath.ProtoICMP {
		return "ICMP"
	}
	return datapath.ProtoName(p)
}

// ctEntry is the JSON form of a flow.
type ctEntry struct {
	Protocol            string         `json:"protocol"`
	Direction           string         `json:"direction"`
	Source              netip.AddrPort `json:"source"`
	Destination         netip.AddrPort `json:"destination"`
	SourceIdentity      uint32         `json:"sourceIdentity"`
	DestinationIdentity uint32         `json:"destinationIdentity"`
	SourceEndpoint      uint16         `json:"sourceEndpoint,omitempty"`
	DestinationEndpoint uint16         `json:"destinationEndpoint,omitempty"`
	ExpiresSeconds      int            `json:"expiresSeconds"`
	TxPackets           uint64         `json:"txPackets"`
	TxBytes             uint64         `json:"txBytes"`
	RxPackets           uint64         `json:"rxPackets"`
	RxBytes             uint64         `json:"rxBytes"`
	Flags               []string       `json:"flags"`
	Denied              bool           `json:"denied"`
}

func newCTEntry(f datapath.Flow) ctEntry {
	_, flags := ctFlags(f)
	return ctEntry{
		Protocol: ctProto(f.Proto), Direction: ctDirection(f), Source: f.Src, Destination: f.Dst,
		SourceIdentity: uint32(f.SrcIdentity), DestinationIdentity: uint32(f.DstIdentity),
		SourceEndpoint: uint16(f.SrcEndpoint), DestinationEndpoint: uint16(f.DstEndpoint),
		ExpiresSeconds: int(f.Expires / time.Second), TxPackets: f.Packets[0], TxBytes: f.Bytes[0],
		RxPackets: f.Packets[1], RxBytes: f.Bytes[1], Flags: orEmpty(flags), Denied: f.Denied,
	}
}
