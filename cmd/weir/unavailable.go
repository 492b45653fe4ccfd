package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// feature is a command of Cilium's that weir has no answer to yet. It takes any flags and arguments and
// says so, so that nobody takes it for a slip of the pen.
type feature struct {
	name, short, why string
}

var clusterFeatures = []feature{
	{"bgp", "BGP sessions and routes", "there is no BGP speaker, so there are no sessions and no routes"},
	{"clustermesh", "Connections between clusters", "clusters are not connected"},
	{"features", "Which features are in use", "no metrics tell which features are in use; 'weir status' shows the configuration"},
	{"multicast", "Multicast groups", "multicast is not forwarded"},
}

var agentFeatures = []feature{
	{"bgp", "BGP sessions and routes", "there is no BGP speaker, so there are no sessions and no routes"},
	{"fqdn", "Names that policies allow", "rules with toFQDNs are not enforced, so no names are kept"},
	{"lrp", "Local redirect policies", "there are no local redirect policies"},
	{"statedb", "Internal tables of the agent", "the agent has no such tables; see 'cilium-dbg bpf'"},
	{"metrics", "Metrics of the agent", "the agent serves no metrics; see 'cilium-dbg status --verbose'"},
	{"envoy", "The proxy", "there is no proxy"},
}

var hubbleFeatures = []feature{
	{"watch", "Peers as they come and go", "there is no relay that peers would be told to; see 'hubble list nodes'"},
	{"config", "Configuration of this program", "there is nothing to configure: agents are found through the kubeconfig"},
	{"record", "Record packets", "packets are not recorded"},
}

func unavailableCommands(list []feature) (out []func(*globals) *cobra.Command) {
	for _, f := range list {
		out = append(out, func(*globals) *cobra.Command { return newUnavailableCommand(f) })
	}
	return out
}

// newUnavailableCommand makes the command; f.name may be a path such as "hubble enable", of which the
// last word is the command's.
func newUnavailableCommand(f feature) *cobra.Command {
	return &cobra.Command{
		Use:                f.name[strings.LastIndexByte(f.name, ' ')+1:],
		Short:              f.short + " (not available)",
		Long:               "Not available: " + f.why + ".",
		Example:            "  weir " + f.name,
		DisableFlagParsing: true,
		Annotations:        map[string]string{missingAnnotation: "yes"},
		RunE: func(c *cobra.Command, a []string) error {
			if slices.Contains(a, "--help") || slices.Contains(a, "-h") {
				return c.Help()
			}
			return unavailablef("%s", f.why)
		},
	}
}
