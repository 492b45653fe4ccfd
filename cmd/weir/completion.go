package main

import (
	"github.com/spf13/cobra"
)

func newCompletionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that teaches a shell to complete weir's commands and flags",
		Example: `  source <(weir completion bash)
  weir completion zsh > "${fpath[1]}/_weir"
  weir completion fish | source`,
		Args:      args(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, a []string) error {
			root := c.Root()
			switch a[0] {
			case "bash":
				return root.GenBashCompletionV2(g.out, true)
			case "zsh":
				return root.GenZshCompletion(g.out)
			case "fish":
				return root.GenFishCompletion(g.out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(g.out)
			}
		},
	}
}
