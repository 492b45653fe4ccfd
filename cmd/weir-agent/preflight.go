package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/ports"
)

func preflightCommand() *cobra.Command {
	var sockets bool
	c := &cobra.Command{
		Use:   "preflight",
		Short: "Say what the datapath needs of the kernel and what this one has",
		Long: `Ask the running kernel for everything that the datapath uses and print a table. The command fails if
something is missing without which the agent cannot run; nothing is changed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return preflight(c.OutOrStdout(), sockets) },
	}
	c.Flags().BoolVar(&sockets, "kube-proxy-replacement", false, "services are to be served to sockets, as kube-proxy-replacement asks for")
	return c
}

// preflight asks the kernel. sockets says that services are served to sockets, and what that needs is required.
func preflight(w io.Writer, sockets bool) error {
	return printPreflight(w, kernelRelease(), needs(ebpf.Probe(), sockets))
}

func needs(features []ports.Feature, sockets bool) []ports.Feature {
	for i := range features {
		if features[i].Name == "cgroup sock_addr" && sockets {
			features[i].Required = true
		}
	}
	return features
}

// printPreflight prints the table of features, and names in its error what is missing.
func printPreflight(w io.Writer, kernel string, features []ports.Feature) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Kernel %s\n", kernel)
	fmt.Fprintln(t, "FEATURE\tREQUIRED\tFOUND\tMEANING")
	var missing []string
	for _, f := range features {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Name, yesNo(f.Required), yesNo(f.Supported), f.Detail)
		if f.Required && !f.Supported {
			missing = append(missing, f.Name)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	hint := "use a kernel of 5.14 or later with BPF"
	if os.Geteuid() != 0 {
		hint = "this process is not root, or lacks CAP_BPF and CAP_NET_ADMIN"
	}
	return fmt.Errorf("preflight: kernel %s lacks what the datapath needs: %s (see the table); %s", kernel, strings.Join(missing, ", "), hint)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
