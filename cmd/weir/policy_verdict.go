package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

func newPolicyVerdictCommand(g *globals) *cobra.Command {
	var dir, from, to, proto string
	var port uint16
	c := &cobra.Command{
		Use:   "verdict -f DIR --from NAMESPACE/POD --to NAMESPACE/POD --port N",
		Short: "Explain whether one pod can reach another, by a directory of manifests",
		Long: `Explain whether one pod can reach another, by a directory of manifests: the verdict and, for each
side, the rule that decided. An end may also be an address; one that belongs to no pod or node is
outside the cluster.

The exit status is 0 if the connection is allowed, 1 if it is denied or a manifest is not valid.`,
		Example: `  weir policy verdict -f ./manifests --from shop/frontend --to shop/backend --port 8080
  weir policy verdict -f ./manifests --from shop/backend --to 203.0.113.7 --port 53 --protocol udp
  weir policy verdict -f ./manifests --from shop/frontend --to shop/backend --protocol icmp`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().StringVarP(&dir, "filename", "f", "", "directory of manifests")
	c.Flags().StringVar(&from, "from", "", "who opens the connection: namespace/pod or an address")
	c.Flags().StringVar(&to, "to", "", "who is to answer: namespace/pod or an address")
	c.Flags().Uint16Var(&port, "port", 0, "destination port")
	c.Flags().StringVar(&proto, "protocol", "TCP", "TCP|UDP|SCTP|ICMP (echo requests, without a port)")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := matrixQuery(c, port, proto)
		switch {
		case err != nil:
			return err
		case from == "" || to == "":
			return usagef("--from and --to are needed")
		case port == 0 && q.Proto != datapath.ProtoICMP:
			return usagef("--port is needed")
		}
		w, broken, err := g.loadWorld(dir)
		if err != nil {
			return err
		}
		row, err := w.Judge(from, to, q.Proto, port)
		if err != nil {
			return err
		}
		if out.json() {
			err = printJSON(g.out, row)
		} else {
			t := newTable(g.out, fmt.Sprintf("%s -> %s %s: %s", row.From, row.To, portName(row), row.Verdict()))
			t.row("  egress", sideVerdict(row.Egress), row.Egress.String())
			t.row("  ingress", sideVerdict(row.Ingress), row.Ingress.String())
			err = t.flush()
		}
		if err == nil && (broken || !row.Allowed()) {
			return errNo
		}
		return err
	}
	return c
}

func sideVerdict(v policy.Verdict) string {
	if v.Allowed {
		return "allowed"
	}
	return "denied"
}
