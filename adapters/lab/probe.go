package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// defaultPatience is how long a probe goes unanswered, in all, before it counts as denied: long enough that
// a busy machine does not look like a policy.
const defaultPatience = 1600 * time.Millisecond

// probeTries says how probes go: what is not answered is tried again, longer, unless patience is so short
// that a try would end before a busy machine answers.
func probeTries(patience time.Duration) []time.Duration {
	p := cmp.Or(patience, defaultPatience)
	if p < defaultPatience/2 {
		return []time.Duration{p}
	}
	return []time.Duration{p / 4, p / 4, p / 2}
}

// Probes wait more than they work, so that there can be many of them.
const (
	probesAtOnce  = 128 // in one pod
	probersAtOnce = 16  // pods at one time
)

// measurement is one row of the result: probes of one or two families.
type measurement struct {
	from     *podState
	to       string
	port     uint16
	protocol string
	addrs    []netip.Addr
	expect   string // the pod that has to answer; empty: whoever does
	served   bool   // somebody listens there, so that a refusal is strange
	outcomes []probeOutcome
}

// Probe implements ports.Lab: real packets, from inside the source pods, on both families.
func (l *Lab) Probe(ctx context.Context, q ports.LabProbe) ([]ports.LabResult, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	pods, err := l.pods()
	if err != nil {
		return nil, err
	}
	rows, err := l.planProbe(q, pods)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := l.measure(ctx, rows, probeTries(q.Patience)); err != nil {
		return nil, err
	}
	out := make([]ports.LabResult, len(rows))
	for i, r := range rows {
		out[i] = r.result()
	}
	if q.Rules {
		l.addRules(ctx, begin, rows, out)
	}
	return out, nil
}

// planProbe lists what to measure, in the order of source, destination, port and protocol.
func (l *Lab) planProbe(q ports.LabProbe, pods []*podState) ([]*measurement, error) {
	protocols, err := probeProtocols(q.Protocols)
	if err != nil {
		return nil, err
	}
	for _, n := range append(slices.Clone(q.From), q.To...) {
		if !slices.ContainsFunc(pods, func(p *podState) bool { return p.Name == n }) {
			return nil, fmt.Errorf("probe: pod %s: %w", n, ports.ErrNotFound)
		}
	}
	var rows []*measurement
	for _, from := range pods {
		if len(q.From) > 0 && !slices.Contains(q.From, from.Name) {
			continue
		}
		if q.Service != (cluster.Name{}) {
			more, err := l.planService(q, from, protocols)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
			continue
		}
		for _, to := range pods {
			if to.Name == from.Name || (len(q.To) > 0 && !slices.Contains(q.To, to.Name)) {
				continue
			}
			rows = append(rows, planPair(q, from, to, protocols)...)
		}
	}
	return rows, nil
}

func planPair(q ports.LabProbe, from, to *podState, protocols []string) []*measurement {
	var rows []*measurement
	add := func(port uint16, protocol string) {
		m := &measurement{from: from, to: to.Name.String(), port: port, protocol: protocol, addrs: common(from, to.IPs)}
		if protocol != protoICMP {
			m.expect, m.served = to.Name.String(), slices.Contains(to.Ports, port)
		}
		rows = append(rows, m)
	}
	numbers := to.Ports
	if q.Port != 0 {
		numbers = []uint16{q.Port}
	}
	for _, port := range numbers {
		for _, p := range protocols {
			if p != protoICMP {
				add(port, p)
			}
		}
	}
	if slices.Contains(protocols, protoICMP) {
		add(0, protoICMP)
	}
	return rows
}

func (l *Lab) planService(q ports.LabProbe, from *podState, protocols []string) ([]*measurement, error) {
	o, err := l.stored("Service", q.Service.Namespace, q.Service.Name)
	if err != nil {
		return nil, fmt.Errorf("probe: service %s: %w", q.Service, ports.ErrNotFound)
	}
	var m serviceManifest
	if err := o.decode(&m); err != nil {
		return nil, fmt.Errorf("probe: service %s: %w", q.Service, err)
	}
	var rows []*measurement
	for _, p := range m.Spec.Ports {
		protocol := cmp.Or(strings.ToUpper(p.Protocol), protoTCP)
		if (q.Port != 0 && int(q.Port) != p.Port) || !slices.Contains(protocols, protocol) {
			continue
		}
		rows = append(rows, &measurement{
			from: from, to: q.Service.String(), port: uint16(p.Port), protocol: protocol, addrs: common(from, m.addresses()), served: true,
		})
	}
	return rows, nil
}

// probeProtocols checks protocol names; without any they are TCP and UDP.
func probeProtocols(names []string) ([]string, error) {
	if len(names) == 0 {
		return []string{protoTCP, protoUDP}, nil
	}
	var out []string
	for _, n := range names {
		p := strings.ToUpper(n)
		if p != protoTCP && p != protoUDP && p != protoICMP {
			return nil, fmt.Errorf("probe: protocol %q: TCP, UDP or ICMP is allowed", n)
		}
		out = append(out, p)
	}
	return out, nil
}

// common are the addresses of families that the source has, too.
func common(from *podState, to []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range to {
		if hasFamily(from.IPs, a) {
			out = append(out, a)
		}
	}
	return out
}

// measure runs one prober in each source pod.
func (l *Lab) measure(ctx context.Context, rows []*measurement, tries []time.Duration) error {
	bySource := map[cluster.Name][]*measurement{}
	var order []cluster.Name
	for _, r := range rows {
		if bySource[r.from.Name] == nil {
			order = append(order, r.from.Name)
		}
		bySource[r.from.Name] = append(bySource[r.from.Name], r)
	}
	slots := make(chan struct{}, probersAtOnce)
	errs := make([]error, len(order))
	var wg sync.WaitGroup
	for i, name := range order {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = l.measureFrom(ctx, bySource[name], tries)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measureFrom runs the prober of one pod.
func (l *Lab) measureFrom(ctx context.Context, rows []*measurement, tries []time.Duration) error {
	from := rows[0].from
	job := probeJob{Tries: tries, Parallel: probesAtOnce}
	var owners []*measurement
	for _, r := range rows {
		for _, a := range r.addrs {
			job.Targets = append(job.Targets, probeTarget{ID: len(owners), Addr: netip.AddrPortFrom(a, r.port), Protocol: r.protocol})
			owners = append(owners, r)
		}
	}
	in, err := json.Marshal(job)
	if err != nil {
		return err
	}
	cmd, dir, err := l.command(l.netnsOf(from), l.podCgroup(from.Node, from.Name), l.o.Self, helperProbe)
	if err != nil {
		return fmt.Errorf("probe from %s: %w", from.Name, err)
	}
	defer dir.Close()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	longest := time.Duration(0)
	for _, t := range tries {
		longest += t + t/4
	}
	limit := 10*time.Second + longest*time.Duration(1+len(job.Targets)/probesAtOnce)
	if err := runWithin(ctx, cmd, limit); err != nil {
		return fmt.Errorf("probe from %s: %w: %s", from.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	n := 0
	s := bufio.NewScanner(&stdout)
	for ; s.Scan(); n++ {
		var o probeOutcome
		if err := json.Unmarshal(s.Bytes(), &o); err != nil || o.ID < 0 || o.ID >= len(owners) {
			return fmt.Errorf("probe from %s: read %q: %w", from.Name, s.Text(), err)
		}
		// The answer of a family belongs beside its address.
		r := owners[o.ID]
		if r.outcomes == nil {
			r.outcomes = make([]probeOutcome, len(r.addrs))
		}
		r.outcomes[slices.Index(r.addrs, job.Targets[o.ID].Addr.Addr())] = o
	}
	if n != len(job.Targets) {
		return fmt.Errorf("probe from %s: %d of %d probes have an outcome", from.Name, n, len(job.Targets))
	}
	return nil
}

// result sums up what happened to one row: allowed if packets passed on any family, with a note if
// anything was not as it should be.
func (m *measurement) result() ports.LabResult {
	r := ports.LabResult{
		From: m.from.Name.String(), To: m.to, Port: m.port, Protocol: m.protocol, Verdict: ports.LabDenied,
	}
	if len(m.addrs) == 0 {
		r.Note = "no common address family"
		return r
	}
	var notes, verdicts []string
	passed := 0
	for i, o := range m.outcomes {
		v := ports.LabDenied
		if o.Passed {
			v = ports.LabAllowed
			passed++
		}
		verdicts = append(verdicts, m.addrs[i].String()+" "+v)
		if o.Passed && o.Answer != "" && m.expect != "" && o.Answer != m.expect {
			notes = append(notes, fmt.Sprintf("%s: %s answered", m.addrs[i], o.Answer))
		}
		if o.Detail != "" && !(o.Passed && !m.served) {
			notes = append(notes, fmt.Sprintf("%s: %s", m.addrs[i], o.Detail))
		}
	}
	if passed > 0 {
		r.Verdict = ports.LabAllowed
	}
	if passed > 0 && passed < len(m.outcomes) {
		notes = append([]string{"the families differ: " + strings.Join(verdicts, ", ")}, notes...)
	}
	r.Note = strings.Join(notes, "; ")
	return r
}
