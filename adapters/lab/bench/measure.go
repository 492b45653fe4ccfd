package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/adapters/lab/load"
)

// port is where every server listens.
const port = 7000

// startTimeout is how long a server may take to listen, and what a run may take beyond its window.
const startTimeout = 15 * time.Second

// ends are where one side of a case runs.
type ends struct {
	from, to lab.Place
	listen   netip.AddrPort
	dial     netip.AddrPort
}

// worker is a running process of package load.
type worker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// start runs a job at a place. It is killed when the context ends.
func (r *runner) start(ctx context.Context, p lab.Place, j load.Job) (*worker, error) {
	cmd, dir, err := r.lab.LoadCommand(p)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	w := &worker{cmd: cmd}
	cmd.Stderr = &w.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.stdout = bufio.NewReader(out)
	if w.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	line, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := w.stdin.Write(append(line, '\n')); err != nil {
		return nil, w.end(err)
	}
	return w, nil
}

// end kills the process and gives what it said to an error.
func (w *worker) end(err error) error {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
	if said := strings.TrimSpace(w.stderr.String()); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// finish reads the report of a process that ends.
func (w *worker) finish(v any) error {
	all, rerr := io.ReadAll(w.stdout)
	err := errors.Join(rerr, w.cmd.Wait())
	if err == nil {
		err = json.Unmarshal(all, v)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(w.stderr.String()))
	}
	return nil
}

// measure runs a case once between two ends.
func (r *runner) measure(ctx context.Context, c Case, p ends, round int) (Measurement, error) {
	limit := r.o.Window + r.warmup() + startTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	server, err := r.start(ctx, p.to, load.Job{
		Role: load.Server, Kind: c.Kind, Addr: p.listen, CPU: r.cpu(1), Flows: c.Flows, Bound: limit,
	})
	if err != nil {
		return Measurement{}, fmt.Errorf("server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = server.cmd.Process.Kill() })
	defer stop()
	if word, err := server.stdout.ReadString('\n'); err != nil || word != load.ReadyLine {
		return Measurement{}, server.end(fmt.Errorf("server: does not listen: %w", errors.Join(err, ctx.Err())))
	}
	watch := append([]int{server.cmd.Process.Pid, os.Getpid()}, r.lab.AgentPIDs()...)
	client, err := r.start(ctx, p.from, load.Job{
		Role: load.Client, Kind: c.Kind, Addr: p.dial, CPU: r.cpu(0), Flows: c.Flows, Bound: limit,
		Warmup: r.warmup(), Duration: r.o.Window, Watch: watch,
	})
	if err != nil {
		return Measurement{}, server.end(fmt.Errorf("client: %w", err))
	}
	stopClient := context.AfterFunc(ctx, func() { _ = client.cmd.Process.Kill() })
	defer stopClient()
	var report load.Report
	if err := client.finish(&report); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Measurement{}, server.end(fmt.Errorf("client: %w", err))
	}
	_ = server.stdin.Close()
	var seen load.ServerReport
	if err := server.finish(&seen); err != nil {
		return Measurement{}, fmt.Errorf("server: %w", err)
	}
	return evaluate(c, round, report, seen, server.cmd.Process.Pid, os.Getpid(), r.host.irqTime)
}

// evaluate turns the reports of both ends into numbers; server and self are processes, the latter this one,
// which follows the flows.
func evaluate(c Case, round int, report load.Report, seen load.ServerReport, server, self int, irqTime bool) (Measurement, error) {
	m := Measurement{Round: round, Raw: report}
	span := time.Duration(report.End - report.Begin)
	if span <= 0 {
		return m, fmt.Errorf("client: measured for %s", span)
	}
	each := float64(report.Count) // what the processor time is divided by
	switch c.Kind {
	case load.TCPStream:
		each = float64(report.Bytes) / 1e6
		m.Value = float64(report.Bytes) * 8 / 1e9 / span.Seconds()
	case load.UDPPPS:
		received := seen.Received(report.Begin, report.End)
		each = float64(received)
		m.Value = float64(received) / span.Seconds()
		m.Lost = max(0, 1-float64(received)/float64(report.Count))
	case load.TCPConnect:
		m.Value = micros(report.Connect.P50)
	default:
		m.Value = float64(report.Count) / span.Seconds()
		m.Lost = float64(report.Lost) / float64(report.Count+report.Lost)
	}
	if each == 0 || m.Value == 0 {
		return m, errors.New("server: received nothing while it was measured")
	}
	traffic := report.OwnCPU + report.CPU[server]
	if irqTime { // the kernel keeps interrupts apart from the processes that they interrupt
		traffic += report.Machine.IRQ + report.Machine.SoftIRQ
	}
	follow := report.CPU[self]
	var agents time.Duration
	for pid, d := range report.CPU {
		if pid != server && pid != self {
			agents += d
		}
	}
	m.CPU, m.Agents, m.Follow = micros(traffic)/each, micros(agents)/each, micros(follow)/each
	if all := span.Seconds() * float64(report.Machine.CPUs); all > 0 {
		m.Others = max(0, (report.Machine.Busy()-traffic-agents-follow).Seconds()/all)
		m.Steal = report.Machine.Steal.Seconds() / all
	}
	return m, nil
}
