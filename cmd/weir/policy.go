package main

import (
	"github.com/spf13/cobra"
)

func newPolicyCommand(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "Show the policies in force, or judge a directory of manifests",
		Example: `  weir policy get
  weir policy matrix -f ./manifests
  weir policy verdict -f ./manifests --from shop/frontend --to shop/backend --port 8080
  weir policy test -f ./manifests --expect expectations.yaml`,
	}, forAgents(newPolicyGetCommand(g)), newPolicyMatrixCommand(g), newPolicyVerdictCommand(g), newPolicyTestCommand(g))
}
