package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/flow"
)

// Types of events that Cilium's monitor has: those that weir records too, and those it does not.
var (
	recordedTypes = []string{"drop", "trace", "policy-verdict"}
	missingTypes  = []string{"debug", "capture", "l7", "agent", "trace-sock", "recorder"}
)

// monitorFlags are the flags of monitor.
type monitorFlags struct {
	types             []string
	from, to, related []uint
	verbose           bool
	json              bool
	numeric           bool
}

func newMonitorCommand(g *globals) *cobra.Command {
	m := &monitorFlags{}
	c := &cobra.Command{
		Use:   "monitor",
		Short: "Show drops and new and closed flows as they happen",
		Long: `Show drops and new and closed flows as they happen, from now on. 'observe --follow' shows the same and
has more filters.`,
		Example: "  weir monitor\n  weir monitor -t drop --related-to 12",
		Args:    args(cobra.NoArgs),
	}
	f := c.Flags()
	f.StringSliceVarP(&m.types, "type", "t", nil, "only "+strings.Join(recordedTypes, "|"))
	f.UintSliceVar(&m.from, "from", nil, "only from this endpoint (its number)")
	f.UintSliceVar(&m.to, "to", nil, "only to this endpoint (its number)")
	f.UintSliceVar(&m.related, "related-to", nil, "only from or to this endpoint (its number)")
	f.BoolVarP(&m.verbose, "verbose", "v", false, "name the policy and rule that decided")
	f.BoolVarP(&m.json, "json", "j", false, "print JSON")
	f.BoolVarP(&m.numeric, "numeric", "n", false, "print addresses and identities as numbers")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o := &observeFlags{color: "auto", timeFormat: "StampMilli", out: &output{format: "compact"}, policyNames: m.verbose, numeric: m.numeric}
		if m.json {
			o.out.format = "json"
		}
		p, err := o.printer(g)
		if err != nil {
			return err
		}
		q, remote, err := m.query(g.now())
		if err != nil {
			return err
		}
		fmt.Fprintln(g.err, "Press Ctrl-C to quit")
		return g.observe(c, q, remote, func(e flow.Entry) error {
			if !m.wants(e) {
				return nil
			}
			return p.print(e)
		})
	}
	return c
}

// query is what to follow, and the command line for agents in pods.
func (m *monitorFlags) query(now time.Time) (flow.Query, []string, error) {
	q := flow.Query{Follow: true, Since: now}
	remote := []string{"observe", "--follow", "--since", "0s", "-o", "json"}
	for _, t := range m.types {
		t, _, _ = strings.Cut(t, ":")
		switch {
		case slices.Contains(missingTypes, t):
			return q, nil, unavailablef("events of type %s: they are not recorded; there are %s", t, strings.Join(recordedTypes, ", "))
		case !slices.Contains(recordedTypes, t):
			return q, nil, usagef("--type: %q is not allowed; allowed: %s", t, strings.Join(recordedTypes, ", "))
		}
	}
	if len(m.types) > 0 && !slices.ContainsFunc(m.types, func(t string) bool { return t != "drop" }) {
		q.Allow = []flow.Filter{{Verdict: []string{"DROPPED"}}}
		remote = append(remote, "--verdict", "DROPPED")
	}
	return q, remote, nil
}

// wants says whether an event concerns the endpoints that were asked for.
func (m *monitorFlags) wants(e flow.Entry) bool {
	if e.Flow == nil {
		return true
	}
	from, to := uint(e.Flow.Source.ID), uint(e.Flow.Dest.ID)
	return (len(m.from) == 0 || slices.Contains(m.from, from)) &&
		(len(m.to) == 0 || slices.Contains(m.to, to)) &&
		(len(m.related) == 0 || slices.Contains(m.related, from) || slices.Contains(m.related, to))
}
