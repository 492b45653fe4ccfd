package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/configdir"
	"github.com/weirnet/weir/core/config"
)

func configCommand() *cobra.Command {
	var dir, output string
	var all bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Say what the agent makes of each key of its configuration",
		Long: `Print the keys of cilium-config that the agent knows: the value, whether it obeys the key, accepts it
without effect or can only have some values, and whether a change needs a restart. With --config-dir the values
are those of that directory, and the command fails if one of them is refused.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			values := map[string]string{}
			if dir != "" {
				var err error
				if values, err = configdir.Read(dir); err != nil {
					return err
				}
			}
			return printConfig(c.OutOrStdout(), values, output, all || dir == "")
		},
	}
	c.Flags().StringVar(&dir, "config-dir", "", "directory with one file for each key")
	c.Flags().BoolVar(&all, "all", false, "with --config-dir: keys that are not in it, too")
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return c
}

type configRow struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Allowed string `json:"allowed"`
	Effect  string `json:"effect"`
	Restart bool   `json:"restart"`
	Means   string `json:"means"`
}

func printConfig(w io.Writer, values map[string]string, output string, all bool) error {
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
		rows = append(rows, configRow{k.Name, v, k.Default, k.Values(), effect, k.Restart, k.Means})
	}
	findings := config.Check(values)
	switch output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"keys": rows, "findings": findings}); err != nil {
			return err
		}
	case "table":
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "KEY\tVALUE\tEFFECT\tRESTART\tMEANING")
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Key, r.Value, r.Effect, yesNo(r.Restart), r.Means)
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
