package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
)

// flowPrinter writes flows in one of Hubble's formats.
type flowPrinter interface {
	print(flow.Entry) error
	flush() error
}

// flowText is how flows become words; all formats but JSON share it.
type flowText struct {
	layout      string
	location    *time.Location
	numeric     bool
	nodeName    bool
	policyNames bool
	color       bool
}

func (o *observeFlags) printer(g *globals) (flowPrinter, error) {
	text := flowText{layout: timeLayout(o.timeFormat), location: time.Local, numeric: o.numeric, nodeName: o.nodeName, policyNames: o.policyNames}
	switch o.color {
	case "always":
		text.color = true
	case "never":
	case "auto":
		text.color = g.getenv("NO_COLOR") == "" && isTerminal(g.out)
	default:
		return nil, usagef("--color: %q is not allowed; allowed: auto, always, never", o.color)
	}
	switch o.out.format {
	case "json", "jsonpb":
		enc := json.NewEncoder(g.out)
		enc.SetEscapeHTML(false)
		return &jsonPrinter{enc}, nil
	case "dict":
		return &dictPrinter{w: g.out, text: text}, nil
	case "table":
		return newTablePrinter(g.out, text), nil
	}
	return &compactPrinter{w: g.out, text: text}, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// timeLayout accepts the names of Go's layouts beside a layout itself.
func timeLayout(s string) string {
	named := map[string]string{
		"ANSIC": time.ANSIC, "UnixDate": time.UnixDate, "RubyDate": time.RubyDate, "RFC822": time.RFC822,
		"RFC822Z": time.RFC822Z, "RFC850": time.RFC850, "RFC1123": time.RFC1123, "RFC1123Z": time.RFC1123Z,
		"RFC3339": time.RFC3339, "RFC3339Nano": time.RFC3339Nano, "RFC3339Milli": "2006-01-02T15:04:05.000Z07:00",
		"RFC3339Micro": "2006-01-02T15:04:05.000000Z07:00", "Kitchen": time.Kitchen, "Stamp": time.Stamp,
		"StampMilli": time.StampMilli, "StampMicro": time.StampMicro, "StampNano": time.StampNano,
	}
	if l, ok := named[s]; ok {
		return l
	}
	return s
}

type jsonPrinter struct{ enc *json.Encoder }

func (p *jsonPrinter) print(e flow.Entry) error { return p.enc.Encode(e) }
func (p *jsonPrinter) flush() error             { return nil }

type compactPrinter struct {
	w    io.Writer
	text flowText
}

func (p *compactPrinter) flush() error { return nil }

func (p *compactPrinter) print(e flow.Entry) error {
	if e.Lost != nil {
		_, err := fmt.Fprintln(p.w, p.text.lost(e.Lost))
		return err
	}
	f := e.Flow
	src := p.text.host(f, flow.Source) + " " + p.text.identity(f.Source)
	dst := p.text.host(f, flow.Dest) + " " + p.text.identity(f.Dest)
	arrow := "<>"
	if f.ReplyKnown() {
		arrow = "->"
		if f.Event.Reply {
			// The side that opened the flow stays on the left.
			src, arrow, dst = dst, "<-", src
		}
	}
	node := ""
	if p.text.nodeName {
		node = " [" + f.Node + "]"
	}
	_, err := fmt.Fprintf(p.w, "%s%s: %s %s %s %s %s (%s)\n", p.text.time(f.Time), node, src, arrow, dst,
		p.text.kind(f), p.text.verdict(f), flow.Summary(f.Event))
	return err
}

type dictPrinter struct {
	w       io.Writer
	text    flowText
	printed bool
}

func (p *dictPrinter) flush() error { return nil }

func (p *dictPrinter) print(e flow.Entry) error {
	var b strings.Builder
	if p.printed {
		b.WriteString("------------\n")
	}
	p.printed = true
	if e.Lost != nil {
		fmt.Fprintln(&b, p.text.lost(e.Lost))
	} else {
		for _, kv := range p.text.columns(e.Flow) {
			fmt.Fprintf(&b, "%11s: %s\n", kv[0], kv[1])
		}
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

// columns are the parts of a flow that dict and table show, in order.
func (t flowText) columns(f *flow.Flow) [][2]string {
	out := [][2]string{{"TIMESTAMP", t.time(f.Time)}}
	if t.nodeName {
		out = append(out, [2]string{"NODE", f.Node})
	}
	return append(out,
		[2]string{"SOURCE", t.host(f, flow.Source)}, [2]string{"DESTINATION", t.host(f, flow.Dest)},
		[2]string{"TYPE", t.kind(f)}, [2]string{"VERDICT", t.verdict(f)}, [2]string{"SUMMARY", flow.Summary(f.Event)})
}

type tablePrinter struct {
	t    *table
	text flowText
}

func newTablePrinter(w io.Writer, text flowText) *tablePrinter {
	text.color = false // escape codes would count as width
	p := &tablePrinter{t: newTable(w), text: text}
	header := []string{}
	for _, kv := range text.columns(&flow.Flow{}) {
		header = append(header, kv[0])
	}
	p.t.row(header...)
	return p
}

func (p *tablePrinter) flush() error { return p.t.flush() }

func (p *tablePrinter) print(e flow.Entry) error {
	if e.Lost != nil {
		p.t.row(p.text.lost(e.Lost))
		return nil
	}
	var cells []string
	for _, kv := range p.text.columns(e.Flow) {
		cells = append(cells, kv[1])
	}
	p.t.row(cells...)
	return nil
}

func (t flowText) time(at time.Time) string { return at.In(t.location).Format(t.layout) }

// host names one end: its pod, else its service, else its address; with the port if there is one.
func (t flowText) host(f *flow.Flow, side flow.Side) string {
	e, a, svc := f.Source, f.Event.Src, f.SourceSvc
	if side == flow.Dest {
		e, a, svc = f.Dest, f.Event.Dst, f.DestSvc
	}
	name := ""
	switch {
	case t.numeric:
	case e.Pod != "":
		name = e.Namespace + "/" + e.Pod
	case svc != nil:
		name = svc.Namespace + "/" + svc.Name
	}
	if name == "" && a.Addr().IsValid() {
		name = a.Addr().Unmap().String()
	}
	if !datapath.HasPorts(f.Event.Proto) || a == (netip.AddrPort{}) {
		return name
	}
	return net.JoinHostPort(name, fmt.Sprint(a.Port()))
}

func (t flowText) identity(e flow.Endpoint) string {
	if e.Identity.IsReserved() && !t.numeric {
		return "(" + e.Identity.String() + ")"
	}
	return fmt.Sprintf("(ID:%d)", uint32(e.Identity))
}

// kind is the reason of a drop, or where the packet went.
func (t flowText) kind(f *flow.Flow) string {
	if f.Event.Type == datapath.EventDrop {
		return flow.ReasonText(f.Event.Reason)
	}
	return flow.PointText(f.Event.Point)
}

// Colours of verdicts.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func (t flowText) verdict(f *flow.Flow) string {
	s := f.Verdict.String()
	if t.color {
		switch f.Verdict {
		case flow.VerdictForwarded, flow.VerdictRedirected:
			s = green + s + plain
		case flow.VerdictDropped, flow.VerdictError:
			s = red + s + plain
		default:
			s = yellow + s + plain
		}
	}
	if by := deciders(f); t.policyNames && by != "" {
		s += " BY " + by
	}
	return s
}

// deciders names who decided: the one that refused, or all that let the packet pass. No policy is
// nobody.
func deciders(f *flow.Flow) string {
	var names []string
	for _, v := range []*policy.Verdict{f.Egress, f.Ingress} {
		if v == nil || v.Allowed == (f.Verdict == flow.VerdictDropped) {
			continue
		}
		if s := decider(*v); s != "" {
			names = append(names, s)
		}
	}
	return strings.Join(names, ", ")
}

func decider(v policy.Verdict) string {
	switch {
	case v.Rule.Path != "":
		return v.Rule.String()
	case !v.Allowed && len(v.Isolating) > 0:
		var refs []string
		for _, r := range v.Isolating {
			refs = append(refs, r.String())
		}
		return strings.Join(refs, ", ") + " (default deny)"
	}
	return v.Note
}

// lost is Hubble's line about events that nobody will see.
func (t flowText) lost(l *flow.Lost) string {
	s := fmt.Sprintf("%s: EVENTS LOST: %s %d", t.time(l.Last), l.Source, l.Count)
	if !l.First.IsZero() && !l.First.Equal(l.Last) {
		s += fmt.Sprintf(" (first: %s, last: %s)", t.time(l.First), t.time(l.Last))
	}
	return s
}
