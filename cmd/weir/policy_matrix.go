package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/core/policy"
)

func newPolicyMatrixCommand(g *globals) *cobra.Command {
	var dir, proto string
	var port uint16
	c := &cobra.Command{
		Use:   "matrix -f DIR",
		Short: "Judge every pair of pods in a directory of manifests",
		Long: `Judge every ordered pair of pods in a directory of manifests by the policies there, for every
containerPort of the destination with TCP and UDP, and with SCTP where the port is declared so. No
agent, cluster or kernel is asked.

Complaints about the manifests go to the standard error; if an object is not valid the matrix is
printed without it, and the exit status is 1.

-o json prints a list of objects with the keys from, to, port, protocol, verdict (allowed or denied),
egress_rule and ingress_rule.`,
		Example: `  weir policy matrix -f ./manifests
  weir policy matrix -f ./manifests --port 8080 --protocol tcp
  weir policy matrix -f ./manifests --protocol icmp
  weir policy matrix -f ./manifests -o json | jq '.[] | select(.verdict == "denied")'`,
		Args: args(cobra.NoArgs),
	}
	c.Flags().StringVarP(&dir, "filename", "f", "", "directory of manifests")
	c.Flags().Uint16Var(&port, "port", 0, "judge this port, declared or not, instead of the containerPorts")
	c.Flags().StringVar(&proto, "protocol", "", "judge this protocol only: TCP|UDP|SCTP|ICMP (echo requests)")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := matrixQuery(c, port, proto)
		if err != nil {
			return err
		}
		w, broken, err := g.loadWorld(dir)
		if err != nil {
			return err
		}
		rows := w.Rows(q)
		if out.json() {
			err = printJSON(g.out, orEmpty(rows))
		} else {
			err = writeMatrix(g.out, rows)
		}
		if err == nil && len(rows) == 0 {
			fmt.Fprintf(g.err, "nothing to judge: %d pod(s) in %s, and a matrix needs two and a port\n", len(w.Pods()), dir)
		}
		if err == nil && broken {
			return errNo
		}
		return err
	}
	return c
}

func matrixQuery(c *cobra.Command, port uint16, proto string) (matrix.Query, error) {
	q := matrix.Query{Port: port}
	if c.Flags().Changed("port") && port == 0 {
		return q, usagef("--port: 0 is not allowed; allowed: 1 to 65535")
	}
	if proto == "" {
		return q, nil
	}
	var err error
	if q.Proto, err = matrix.ParseProto(proto); err != nil {
		return q, usagef("--protocol: %w", err)
	}
	if q.Proto == datapath.ProtoICMP && port != 0 {
		return q, usagef("--protocol ICMP has no --port")
	}
	return q, nil
}

// writeMatrix prints a block for each destination: a line for each source, a column for each port,
// and below all of them what decided.
func writeMatrix(w io.Writer, rows []matrix.Row) error {
	notes := footnotes{}
	var destinations []string
	blocks := map[string][]matrix.Row{}
	for _, r := range rows {
		if blocks[r.To] == nil {
			destinations = append(destinations, r.To)
		}
		blocks[r.To] = append(blocks[r.To], r)
	}
	slices.Sort(destinations)
	for i, to := range destinations {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := writeBlock(w, to, blocks[to], &notes); err != nil {
			return err
		}
	}
	if len(notes.texts) > 0 {
		fmt.Fprintln(w)
	}
	for i, text := range notes.texts {
		if _, err := fmt.Fprintf(w, "[%d] %s\n", i+1, text); err != nil {
			return err
		}
	}
	return nil
}

func writeBlock(w io.Writer, to string, rows []matrix.Row, notes *footnotes) error {
	t := newTable(w)
	header := []string{"TO " + to}
	cells := []string(nil)
	lines := [][]string{}
	for _, r := range rows {
		if cells == nil || cells[0] != "  "+r.From {
			if cells != nil {
				lines = append(lines, cells)
			}
			cells = []string{"  " + r.From}
		}
		if len(lines) == 0 { // the first source names the columns; all have the same
			header = append(header, portName(r))
		}
		cells = append(cells, r.Verdict()+notes.mark(r))
	}
	t.row(header...)
	for _, l := range append(lines, cells) {
		t.row(l...)
	}
	return t.flush()
}

func portName(r matrix.Row) string {
	if r.Port == 0 {
		return r.Protocol()
	}
	return fmt.Sprintf("%d/%s", r.Port, r.Protocol())
}

// footnotes number the reasons in the order in which they appear.
type footnotes struct{ texts []string }

// mark gives the number of the row's reason; nothing if no policy had a say.
func (n *footnotes) mark(r matrix.Row) string {
	var parts []string
	for _, s := range []struct {
		name string
		v    policy.Verdict
	}{{"egress", r.Egress}, {"ingress", r.Ingress}} {
		if s.v.Allowed == r.Allowed() && decider(s.v) != "" {
			parts = append(parts, s.name+": "+s.v.String())
		}
	}
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, "; ")
	for i, t := range n.texts {
		if t == text {
			return fmt.Sprintf(" [%d]", i+1)
		}
	}
	n.texts = append(n.texts, text)
	return fmt.Sprintf(" [%d]", len(n.texts))
}
