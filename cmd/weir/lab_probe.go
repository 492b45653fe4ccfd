package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

func newLabProbeCommand(f *labFlags) *cobra.Command {
	var q ports.LabProbe
	var from, to []string
	var service string
	c := &cobra.Command{
		Use:   "probe",
		Short: "Measure with real packets who can reach whom",
		Long: `weir lab probe tries every ordered pair of pods and every containerPort of the destination, TCP and UDP,
IPv4 and IPv6, from inside the source pod, and prints what happened on the wire. Rules are those
that the agents recorded for the probes' flows. Through a Service, "allowed" means that one of three
tries reached a backend.

Exit status 1 if something was not as it should be: the families differ, another pod answered, a
server does not listen. The row has a note then.`,
		Example: `  weir lab probe
  weir lab probe --from production/frontend --protocol icmp
  weir lab probe --port 8080 --protocol tcp -o json
  weir lab probe --service production/backend`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().Uint16Var(&q.Port, "port", 0, "this port instead of the containerPorts")
	c.Flags().StringSliceVar(&q.Protocols, "protocol", nil, "tcp, udp, icmp; may repeat (default tcp,udp)")
	c.Flags().StringSliceVar(&from, "from", nil, "only from these pods (namespace/name)")
	c.Flags().StringSliceVar(&to, "to", nil, "only to these pods (namespace/name)")
	c.Flags().StringVar(&service, "service", "", "dial this service (namespace/name) instead of pods")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if q.From, err = parseNames("--from", from); err != nil {
			return err
		}
		if q.To, err = parseNames("--to", to); err != nil {
			return err
		}
		if service != "" {
			if len(to) > 0 {
				return usagef("--to and --service exclude each other")
			}
			names, err := parseNames("--service", []string{service})
			if err != nil {
				return err
			}
			q.Service = names[0]
		}
		for _, p := range q.Protocols {
			if p := strings.ToLower(p); p != "tcp" && p != "udp" && p != "icmp" {
				return usagef("--protocol %q: tcp, udp and icmp are allowed", p)
			}
		}
		l, err := f.lab()
		if err != nil {
			return err
		}
		q.Rules = true
		results, err := l.Probe(c.Context(), q)
		if err != nil {
			return err
		}
		if out.json() {
			err = printJSON(f.g.out, orEmpty(results))
		} else {
			err = printResults(f.g.out, results)
		}
		for _, r := range results {
			if r.Note != "" {
				err = errors.Join(err, errNo)
				break
			}
		}
		return err
	}
	return c
}

func parseNames(flag string, texts []string) ([]cluster.Name, error) {
	var out []cluster.Name
	for _, s := range texts {
		n, err := cluster.ParseName(s)
		if err != nil {
			return nil, usagef("%s: %v", flag, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func printResults(w io.Writer, results []ports.LabResult) error {
	t := newTable(w, "FROM", "TO", "PORT", "PROTOCOL", "VERDICT", "EGRESS RULE", "INGRESS RULE", "NOTE")
	for _, r := range results {
		port := "-"
		if r.Port != 0 {
			port = fmt.Sprint(r.Port)
		}
		t.row(r.From, r.To, port, r.Protocol, r.Verdict, orDash(r.EgressRule), orDash(r.IngressRule), r.Note)
	}
	return t.flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
