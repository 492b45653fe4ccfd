package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/config"
)

func configCommand() *cobra.Command {
	var dir, nodeConfig, node, output string
	var all bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Say what the agent makes of each key of its configuration",
		Long: `Print the keys of cilium-config that the agent knows: the value, whether it obeys the key, accepts it
without effect or can only have some values, and whether a change needs a restart. With --config-dir the values
are those of that directory, and the command fails if one of them is refused. With --node-config the
CiliumNodeConfigs that select this node count before it, and each value is printed with where it comes from.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := readLayers(dir, nodeConfig, node)
			if err != nil {
				return err
			}
			return printConfig(c.OutOrStdout(), l.resolve(nil), output, all || dir == "")
		},
	}
	c.Flags().StringVar(&dir, "config-dir", "", "directory with one file for each key")
	c.Flags().StringVar(&nodeConfig, "node-config", "", "file that build-config writes")
	c.Flags().StringVar(&node, "node-name", os.Getenv("K8S_NODE_NAME"), "name of this node's object (default $K8S_NODE_NAME)")
	c.Flags().BoolVar(&all, "all", false, "with --config-dir: keys that are not in it, too")
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return c
}

type configRow struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Source  string `json:"source"`
	Default string `json:"default"`
	Allowed string `json:"allowed"`
	Effect  string `json:"effect"`
	Restart bool   `json:"restart"`
	Means   string `json:"means"`
}

func printConfig(w io.Writer, r config.Resolved, output string, all bool) error {
	values := r.Values
	var rows []configRow
	for _, k := range config.Keys() {
		v, given := values[k.Name]
		if !given && !all {
			continue
		}
		if strings.TrimSpace(v) == "" {
			v = k.Default
		}
		effect := k.Effect.String()
		if k.Operator {
			effect = "operator"
		}
		rows = append(rows, configRow{k.Name, v, r.Source(k.Name), k.Default, k.Values(), effect, k.Restart, k.Means})
	}
	findings := findings(r, values)
	switch output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"keys": rows, "findings": findings}); err != nil {
			return err
		}
	case "table":
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "KEY\tVALUE\tSOURCE\tEFFECT\tRESTART\tMEANING")
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Key, r.Value, r.Source, r.Effect, yesNo(r.Restart), r.Means)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, f := range findings {
			fmt.Fprintln(w, f.Message)
		}
	default:
		return fmt.Errorf("--output %q: allowed are table and json", output)
	}
	_, err := config.Parse(values)
	return err
}
