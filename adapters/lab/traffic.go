package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// trafficStart and trafficEnd bound the waits for traffic processes to begin and to report.
const (
	trafficStart = 10 * time.Second
	trafficEnd   = 15 * time.Second
)

// trafficRun is traffic that this process started.
type trafficRun struct {
	mu      sync.Mutex
	sources []*trafficSource
}

// trafficSource is the traffic process of one stream.
type trafficSource struct {
	stream ports.LabStream
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// StartTraffic implements ports.Lab. The traffic ends with this process.
func (l *Lab) StartTraffic(ctx context.Context, streams []ports.LabStream) error {
	l.traffic.mu.Lock()
	defer l.traffic.mu.Unlock()
	if len(l.traffic.sources) > 0 {
		return fmt.Errorf("traffic: %w: it runs already", ports.ErrConflict)
	}
	if err := l.open(); err != nil {
		return err
	}
	pods, err := l.pods()
	if err != nil {
		return err
	}
	for _, s := range streams {
		src, err := l.startStream(ctx, s, pods)
		if err != nil {
			for _, x := range l.traffic.sources {
				_, _ = x.finish(context.WithoutCancel(ctx))
			}
			l.traffic.sources = nil
			return fmt.Errorf("traffic %s to %s: %w", s.From, s.To, err)
		}
		l.traffic.sources = append(l.traffic.sources, src)
	}
	return nil
}

func (l *Lab) startStream(ctx context.Context, s ports.LabStream, pods []*podState) (*trafficSource, error) {
	find := func(n cluster.Name) *podState {
		i := slices.IndexFunc(pods, func(p *podState) bool { return p.Name == n })
		if i < 0 {
			return nil
		}
		return pods[i]
	}
	from, to := find(s.From), find(s.To)
	if from == nil || to == nil {
		return nil, ports.ErrNotFound
	}
	if s.Interval == 0 {
		s.Interval = 5 * time.Millisecond
	}
	protocols, err := probeProtocols(s.Protocols)
	if err != nil {
		return nil, err
	}
	job := trafficJob{Interval: s.Interval, Protocols: protocols}
	for _, a := range common(from, to.IPs) {
		job.Targets = append(job.Targets, netip.AddrPortFrom(a, s.Port))
	}
	line, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	cmd, dir, err := l.command(l.netnsOf(from), l.podCgroup(from.Node, from.Name), l.o.Self, helperTraffic)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	src := &trafficSource{stream: s, cmd: cmd}
	cmd.Stderr = &src.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	src.stdout = bufio.NewReader(out)
	if src.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	watchdog := time.AfterFunc(trafficStart, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	_, err = src.stdin.Write(append(line, '\n'))
	var word string
	if err == nil {
		word, err = src.stdout.ReadString('\n')
	}
	if err != nil || word != "started\n" {
		_ = cmd.Process.Kill()
		werr := cmd.Wait()
		return nil, fmt.Errorf("did not start: %w: %s", errors.Join(err, werr), strings.TrimSpace(src.stderr.String()))
	}
	return src, nil
}

// StopTraffic implements ports.Lab. Without traffic it returns nothing.
func (l *Lab) StopTraffic(ctx context.Context) ([]ports.LabTraffic, error) {
	l.traffic.mu.Lock()
	defer l.traffic.mu.Unlock()
	sources := l.traffic.sources
	l.traffic.sources = nil
	for _, s := range sources { // all at once: each waits for what is under way
		_ = s.stdin.Close()
	}
	var out []ports.LabTraffic
	var errs []error
	for _, s := range sources {
		counts, err := s.finish(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("traffic %s to %s: %w", s.stream.From, s.stream.To, err))
			continue
		}
		for _, c := range counts {
			out = append(out, ports.LabTraffic{
				From: s.stream.From, To: s.stream.To, Addr: c.Target.Addr(), Protocol: c.Protocol,
				Sent: c.Sent, Lost: c.Sent - c.Echoed, Broken: c.Broken, Gap: c.Gap, Error: c.Error,
			})
		}
	}
	return out, errors.Join(errs...)
}

// finish ends the process and reads its report.
func (s *trafficSource) finish(ctx context.Context) ([]trafficCount, error) {
	_ = s.stdin.Close()
	watchdog := time.AfterFunc(trafficEnd, func() { _ = s.cmd.Process.Kill() })
	defer watchdog.Stop()
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	defer stop()
	report, rerr := io.ReadAll(s.stdout)
	if err := errors.Join(rerr, s.cmd.Wait()); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(s.stderr.String()))
	}
	var counts []trafficCount
	if err := json.Unmarshal(report, &counts); err != nil {
		return nil, fmt.Errorf("read its report: %w", err)
	}
	slices.SortFunc(counts, func(a, b trafficCount) int {
		if c := a.Target.Compare(b.Target); c != 0 {
			return c
		}
		return strings.Compare(a.Protocol, b.Protocol)
	})
	return counts, nil
}

// Connects implements ports.Lab.
func (l *Lab) Connects(ctx context.Context, from, service cluster.Name, n int) (map[cluster.Name]int, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	p, err := l.findPod(from)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("connects: pod %s: %w", from, ports.ErrNotFound)
	}
	rows, err := l.planService(ports.LabProbe{Service: service}, p, []string{protoTCP})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || len(rows[0].addrs) == 0 {
		return nil, fmt.Errorf("connects: service %s has no TCP port on an address that %s can dial", service, from)
	}
	m := rows[0]
	// One measurement with n addresses: the service's, in turn.
	turns := make([]*measurement, len(m.addrs))
	for i, a := range m.addrs {
		turns[i] = &measurement{from: p, to: m.to, port: m.port, protocol: protoTCP, addrs: []netip.Addr{a}}
	}
	all := make([]*measurement, n)
	for i := range all {
		c := *turns[i%len(turns)]
		all[i] = &c
	}
	// One try each: what has to be tried again has failed.
	if err := l.measureFrom(ctx, all, []time.Duration{connectTimeout}); err != nil {
		return nil, err
	}
	counts := map[cluster.Name]int{}
	for _, c := range all {
		name, err := cluster.ParseName(c.outcomes[0].Answer)
		if err != nil {
			name = cluster.Name{}
		}
		counts[name]++
	}
	return counts, nil
}
