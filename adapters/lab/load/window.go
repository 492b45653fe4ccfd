package load

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is how long the processors of the machine were busy, by /proc/stat. Kernels that account by
// ticks know it to a few milliseconds only.
type Machine struct {
	CPUs    int           `json:"cpus"` // that are online
	User    time.Duration `json:"user_ns"`
	System  time.Duration `json:"system_ns"`
	IRQ     time.Duration `json:"irq_ns"`
	SoftIRQ time.Duration `json:"softirq_ns"`
	Steal   time.Duration `json:"steal_ns"` // taken by the hypervisor
	Idle    time.Duration `json:"idle_ns"`
}

// Busy is the time that processors worked.
func (m Machine) Busy() time.Duration { return m.User + m.System + m.IRQ + m.SoftIRQ }

func (m Machine) minus(o Machine) Machine {
	return Machine{m.CPUs, m.User - o.User, m.System - o.System, m.IRQ - o.IRQ, m.SoftIRQ - o.SoftIRQ, m.Steal - o.Steal, m.Idle - o.Idle}
}

// tick is the unit of /proc/stat, the same on all architectures that Linux runs on today.
const tick = time.Second / 100

// ReadMachine reads what passed since boot.
func ReadMachine() (Machine, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("processor times: %w", err)
	}
	defer f.Close()
	var m Machine
	s := bufio.NewScanner(f)
	for s.Scan() && strings.HasPrefix(s.Text(), "cpu") {
		field := strings.Fields(s.Text())
		if field[0] != "cpu" {
			m.CPUs++
			continue
		}
		if len(field) < 9 {
			return Machine{}, fmt.Errorf("processor times: /proc/stat: want 8 numbers, got %q", s.Text())
		}
		var v [8]time.Duration
		for i := range v {
			n, err := strconv.ParseInt(field[i+1], 10, 64)
			if err != nil {
				return Machine{}, fmt.Errorf("processor times: /proc/stat: %w", err)
			}
			v[i] = time.Duration(n) * tick
		}
		m.User, m.System, m.Idle = v[0]+v[1], v[2], v[3]+v[4]
		m.IRQ, m.SoftIRQ, m.Steal = v[5], v[6], v[7]
	}
	return m, s.Err()
}

// maxPID is the kernel's own limit.
const maxPID = 1 << 22

// ProcessTime is the processor time of a process, all threads, since its start. 0 if it is gone.
func ProcessTime(pid int) time.Duration {
	if pid <= 0 || pid > maxPID {
		return 0
	}
	var ts unix.Timespec
	// The kernel's encoding of a process's clock: the complement of its id, and kind 2, "scheduled".
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// clock reads CLOCK_MONOTONIC without a system call.
type clock struct {
	base  int64
	start time.Time
}

func newClock() clock {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return clock{base: ts.Nano(), start: time.Now()}
}

func (c *clock) now() int64 { return c.base + int64(time.Since(c.start)) }

// window is the span of a run that counts: it opens after the warm-up and closes after the duration.
type window struct {
	clock
	job      Job
	opens    int64 // not before
	closes   int64
	open     bool
	latency  Histogram
	connect  Histogram
	report   Report
	machine  Machine
	own      time.Duration
	watched  map[int]time.Duration
	finished bool
}

func newWindow(j Job) *window {
	return &window{clock: newClock(), job: j, watched: make(map[int]time.Duration, len(j.Watch))}
}

// begin starts the warm-up: connections are there.
func (w *window) begin() int64 {
	now := w.now()
	w.opens = now + int64(w.job.Warmup)
	return now
}

// at tells the window the time. It returns whether what ended now counts, and whether the run is over.
// Opening takes some time, so the caller reads the clock anew if it was not counting before.
func (w *window) at(now int64) (counts, over bool) {
	if w.open {
		if now < w.closes {
			return true, false
		}
		w.close(now)
		return false, true
	}
	if now >= w.opens {
		w.start()
	}
	return false, false
}

func (w *window) start() {
	w.machine, _ = ReadMachine()
	for _, pid := range w.job.Watch {
		w.watched[pid] = ProcessTime(pid)
	}
	w.own = ProcessTime(os.Getpid())
	w.open = true
	w.report.Begin = w.now()
	w.closes = w.report.Begin + int64(w.job.Duration)
}

func (w *window) close(now int64) {
	w.open, w.finished = false, true
	w.report.End = now
	w.report.OwnCPU = ProcessTime(os.Getpid()) - w.own
	w.report.CPU = make(map[int]time.Duration, len(w.watched))
	for pid, before := range w.watched {
		w.report.CPU[pid] = max(0, ProcessTime(pid)-before)
	}
	if m, err := ReadMachine(); err == nil {
		w.report.Machine = m.minus(w.machine)
	}
}

// done completes the report.
func (w *window) done() Report {
	w.report.Latency, w.report.Connect = w.latency.Summary(), w.connect.Summary()
	return w.report
}
