package main

import (
	"github.com/spf13/cobra"
)

// The names this program answers to. weir and cilium know everything: in an agent's pod they ask the
// agent, elsewhere the cluster. cilium-dbg is for the agent of a node alone, hubble for its flows.
const (
	weirProgram   = "weir"
	ciliumProgram = "cilium"
	agentProgram  = "cilium-dbg"
	hubbleProgram = "hubble"
)

// program is what one name offers.
type program struct {
	short, long, example string
	commands             []func(*globals) *cobra.Command // in the order in which help lists them
}

// programs is filled by init, because commands print themselves.
var programs map[string]program

func init() {
	agent := []func(*globals) *cobra.Command{
		newStatusCommand, newObserveCommand, newMonitorCommand, newPolicyCommand, newEndpointCommand, newIdentityCommand,
		newServiceCommand, newNodeCommand, newIPCommand, newMapCommand, newBPFCommand, newEncryptCommand,
	}
	clusterWide := []func(*globals) *cobra.Command{
		newInstallCommand, newUpgradeCommand, newUninstallCommand, newConfigCommand, newSysdumpCommand, newConnectivityCommand,
		newHubbleCommand, newContextCommand,
	}
	own := []func(*globals) *cobra.Command{newLabCommand, newDemoCommand}
	every := []func(*globals) *cobra.Command{newVersionCommand, newCompletionCommand}
	programs = map[string]program{
		weirProgram: {
			short: "Install weir on a cluster, look into its nodes, and judge policies without one",
			long: `weir shows what the agent of a node knows and what its kernel does: endpoints, identities,
services, policies, kernel tables, and every new or dropped flow with the rule that decided.
'weir policy matrix' and 'weir policy verdict' judge a directory of manifests, without agent or
cluster. 'weir install' and its like work on a cluster.

Where an agent's socket is there, --socket names one, or --node names a node of the lab, commands ask that
agent. Elsewhere they ask the cluster of the kubeconfig: 'weir status' then is the cluster's, and commands for
an agent run in the pods of all agents, or of the one that --node names.

Exit status: 0 success or yes; 1 failure or no; 2 wrong usage.`,
			example: `  weir install --set kubeProxyReplacement=true
  weir status --wait
  weir observe --verdict DROPPED --print-policy-names
  weir --node node1 endpoint list
  weir policy matrix -f ./manifests`,
			commands: join(agent, clusterWide, own, unavailableCommands(clusterFeatures), every),
		},
		ciliumProgram: {
			short: "Install, look into and change the network of a cluster",
			long: `cilium is weir under Cilium's name. In an agent's pod it asks the agent, elsewhere the cluster of the
kubeconfig.

Exit status: 0 success or yes; 1 failure or no; 2 wrong usage.`,
			example:  "  cilium install\n  cilium status --wait\n  cilium bpf lb list",
			commands: join(agent, clusterWide, unavailableCommands(clusterFeatures), every),
		},
		agentProgram: {
			short:    "Look into the agent of this node",
			long:     "cilium-dbg is the part of weir that asks the agent of this node, under Cilium's name.",
			example:  "  cilium-dbg status --verbose\n  cilium-dbg endpoint list",
			commands: join(agent, unavailableCommands(agentFeatures), every),
		},
		hubbleProgram: {
			short: "Look at the flows of a node or a cluster",
			long: `hubble is the part of weir that shows flows, under Hubble's name. In an agent's pod it asks the agent, elsewhere all
agents of the cluster of the kubeconfig, one by one: there is no relay.`,
			example: "  hubble status\n  hubble observe --verdict DROPPED --follow",
			commands: join([]func(*globals) *cobra.Command{newObserveCommand, newHubbleStatusCommand, newHubbleListCommand},
				unavailableCommands(hubbleFeatures), every),
		},
	}
}

func join(lists ...[]func(*globals) *cobra.Command) (out []func(*globals) *cobra.Command) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// programName is the name to answer to when called by this one.
func programName(called string) string {
	if _, ok := programs[called]; ok {
		return called
	}
	return weirProgram
}
