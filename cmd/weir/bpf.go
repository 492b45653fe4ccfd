package main

import (
	"github.com/spf13/cobra"
)

func newBPFCommand(g *globals) *cobra.Command {
	sub := func(use, short, example string, children ...*cobra.Command) *cobra.Command {
		return group(&cobra.Command{Use: use, Short: short, Example: example}, children...)
	}
	return forAgents(group(&cobra.Command{
		Use:     "bpf",
		Short:   "Show what the kernel holds",
		Example: "  weir bpf lb list\n  weir bpf policy get --all",
	},
		sub("lb", "Services in the kernel", "  weir bpf lb list", newBPFLBListCommand(g)),
		sub("ct", "The flow table", "  weir bpf ct list global\n  weir bpf ct flush global",
			sub("list", "List the flow table", "  weir bpf ct list global", newBPFCTListCommand(g)),
			sub("flush", "Empty the flow table", "  weir bpf ct flush global", newBPFCTFlushCommand(g))),
		sub("identity", "Identities in the kernel", "  weir bpf identity list", newBPFIdentityListCommand(g)),
		sub("nat", "Address translations", "  weir bpf nat list", newBPFNATListCommand(g)),
		sub("policy", "Policy rows in the kernel", "  weir bpf policy get --all", newBPFPolicyGetCommand(g)),
		sub("ipcache", "Which address has which identity", "  weir bpf ipcache list",
			newBPFIPCacheListCommand(g), newBPFIPCacheGetCommand(g)),
		sub("endpoint", "Local addresses in the kernel", "  weir bpf endpoint list", newBPFEndpointListCommand(g)),
	))
}
