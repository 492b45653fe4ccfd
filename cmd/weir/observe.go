package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/flow"
)

func newObserveCommand(g *globals) *cobra.Command {
	o := &observeFlags{}
	c := &cobra.Command{
		Use:     "observe",
		Aliases: []string{"flows"},
		Short:   "Show what the datapath did: new flows, closed flows and drops, with the rule that decided",
		Long: `Show what the datapath did: new flows, closed flows and drops, with the rule that decided.
Without a selection: the last 20.

Filters are joined by "and", values of the same filter by "or". A filter without from- or to- looks at
either end of a flow. --not turns the next filter round: flows that match it are left out.`,
		Example: `  weir observe -f
  weir observe --verdict DROPPED --print-policy-names
  weir observe --namespace shop --to-pod backend --port 8080 --last 100
  weir observe --since 5m --not --namespace kube-system -o json
  weir observe --input-file flows.json --protocol udp -o table`,
		Args: args(cobra.NoArgs),
	}
	o.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := o.query(c, g.now())
		if err != nil {
			return err
		}
		p, err := o.printer(g)
		if err != nil {
			return err
		}
		if o.inputFile != "" {
			err = g.observeFile(o.inputFile, q, p)
		} else {
			err = g.observe(c, q, append(passedOn(g.args, c), "-o", "json"), p.print)
		}
		return errors.Join(err, p.flush())
	}
	return c
}

// observeFlags are the flags of observe.
type observeFlags struct {
	filterFlags
	all, follow  bool
	last, first  uint64
	since, until string

	out         *output
	numeric     bool
	nodeName    bool
	policyNames bool
	color       string
	timeFormat  string
	inputFile   string
}

func (o *observeFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false // what belongs together stays together
	f.BoolVar(&o.all, "all", false, "every recorded flow")
	f.Uint64Var(&o.last, "last", 0, "the latest N flows (default 20 without another selection)")
	f.Uint64Var(&o.first, "first", 0, "the earliest N flows")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with flows as they happen")
	f.StringVar(&o.since, "since", "", "flows since a time: 2024-05-01T12:00:00Z, 5m (ago), or seconds since 1970")
	f.StringVar(&o.until, "until", "", "flows until a time, like --since")
	o.filterFlags.register(c)
	o.out = outputFlag(c, "compact", "dict", "json", "jsonpb", "table")
	f.BoolVar(&o.numeric, "numeric", false, "print addresses and identities as numbers")
	f.BoolVar(&o.nodeName, "print-node-name", false, "print the node's name")
	f.BoolVar(&o.policyNames, "print-policy-names", false, "print the policy and rule that decided")
	f.StringVar(&o.color, "color", "auto", "auto|always|never")
	f.StringVar(&o.timeFormat, "time-format", "StampMilli", "name of a Go time format (RFC3339Nano, …) or a layout")
	f.StringVar(&o.inputFile, "input-file", "", "read flows as -o json printed them from a file; - is the standard input")
}

// query puts the selection together and refuses what contradicts itself.
func (o *observeFlags) query(c *cobra.Command, now time.Time) (flow.Query, error) {
	q := flow.Query{All: o.all, Last: o.last, First: o.first, Follow: o.follow}
	for _, n := range []string{"last", "first"} {
		if f := c.Flags().Lookup(n); f.Changed && f.Value.String() == "0" {
			return q, usagef("--%s: 0 is not allowed; allowed: 1 or more", n)
		}
	}
	var err error
	if q.Since, err = parseWhen("since", o.since, now); err != nil {
		return q, err
	}
	if q.Until, err = parseWhen("until", o.until, now); err != nil {
		return q, err
	}
	switch {
	case o.follow && o.out.format == "table":
		return q, usagef("--follow and -o table exclude each other: a table's columns are known at its end")
	case o.follow && o.inputFile != "":
		return q, usagef("--follow and --input-file exclude each other")
	}
	if q.Allow, q.Deny, err = o.filters(); err != nil {
		return q, err
	}
	if _, err := flow.CompileQuery(q); err != nil {
		return q, usageError{err}
	}
	return q, nil
}

// parseWhen reads a point in time: RFC 3339, how long ago, or seconds since 1970.
func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Time{}, usagef("--%s: %q is not allowed; allowed: a time such as 2024-05-01T12:00:00Z, a duration such as 5m, seconds since 1970", flag, s)
}

// observeFile selects from recorded flows. Lines that hold something else are counted and told.
func (g *globals) observeFile(path string, q flow.Query, p flowPrinter) error {
	in := g.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("--input-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	entries, skipped, err := readFlows(in)
	if err != nil {
		return fmt.Errorf("--input-file %s: %w", path, err)
	}
	if skipped > 0 {
		fmt.Fprintf(g.err, "%d line(s) left out: %v\n", skipped, flow.ErrNotRecorded)
	}
	return selectFlows(entries, q, p.print)
}

// selectFlows delivers what a query selects from recorded flows.
func selectFlows(entries []flow.Entry, q flow.Query, deliver func(flow.Entry) error) error {
	match, err := flow.CompileQuery(q)
	if err != nil {
		return err
	}
	ring := flow.NewRing(len(entries))
	for _, e := range entries {
		ring.Push(e)
	}
	selected, _ := ring.Select(q, match)
	for _, e := range selected {
		if err := deliver(e); err != nil {
			return err
		}
	}
	return nil
}

func readFlows(r io.Reader) (entries []flow.Entry, skipped int, err error) {
	err = eachLine(r, func(line int, text []byte) error {
		var e flow.Entry
		err := json.Unmarshal(text, &e)
		switch {
		case errors.Is(err, flow.ErrNotRecorded):
			skipped++
		case err != nil:
			return fmt.Errorf("line %d: %w", line, err)
		default:
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, skipped, nil
}

// eachFlow hands flows on as they come.
func eachFlow(r *io.PipeReader, take func(flow.Entry)) error {
	err := eachLine(r, func(line int, text []byte) error {
		var e flow.Entry
		if err := json.Unmarshal(text, &e); err != nil {
			if errors.Is(err, flow.ErrNotRecorded) {
				return nil
			}
			return fmt.Errorf("line %d: %w", line, err)
		}
		take(e)
		return nil
	})
	r.CloseWithError(err) // whoever writes must not wait for a reader that is gone
	return err
}

func eachLine(r io.Reader, do func(line int, text []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	line := 1
	for ; s.Scan(); line++ {
		if len(s.Bytes()) == 0 {
			continue
		}
		if err := do(line, s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return nil
}
