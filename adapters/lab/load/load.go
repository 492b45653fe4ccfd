// Package load makes traffic for measurements: small requests over one or many connections, new
// connections, streams, datagrams. One process is the server, one the client; each reads its Job as one
// line of JSON from its standard input and writes JSON to its standard output.
//
// What is measured is the network and not this program: each side is one thread bound to a processor,
// with blocking system calls that bypass Go's scheduler and poller, without garbage collection, and with
// histograms of fixed size. Both sides end when their input closes, when their time is over, and with
// the process that started them.
package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a sort of traffic.
type Kind string

// The kinds.
const (
	TCPRR      Kind = "tcp_rr"      // one byte there and back, over open connections
	TCPCRR     Kind = "tcp_crr"     // a new connection for each byte there and back
	TCPConnect Kind = "tcp_connect" // connections opened and closed, nothing else
	TCPStream  Kind = "tcp_stream"  // one direction, as much as goes
	UDPRR      Kind = "udp_rr"      // a datagram of one byte there and back
	UDPPPS     Kind = "udp_pps"     // datagrams of 64 bytes in one direction, as many as go
)

// Kinds lists all of them.
var Kinds = []Kind{TCPRR, TCPCRR, TCPConnect, TCPStream, UDPRR, UDPPPS}

// MaxFlows is the most connections a TCPRR can have.
const MaxFlows = 16384

// Roles of a Job.
const (
	Server = "server"
	Client = "client"
)

// Job is what one process is to do.
type Job struct {
	Role  string         `json:"role"`
	Kind  Kind           `json:"kind"`
	Addr  netip.AddrPort `json:"addr"`            // to listen on, or to dial
	CPU   int            `json:"cpu"`             // processor that the measuring thread is bound to; -1: any
	Flows int            `json:"flows,omitempty"` // connections of TCPRR; 0: one
	Bound time.Duration  `json:"bound"`           // the process ends after this time, whatever happens

	// Of clients only: how long before and during the measurement, and whose processor time to note.
	Warmup   time.Duration `json:"warmup,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
	Watch    []int         `json:"watch,omitempty"` // process ids
}

// Report is what a client measured.
type Report struct {
	Begin   int64   `json:"begin_ns"` // CLOCK_MONOTONIC
	End     int64   `json:"end_ns"`
	Count   uint64  `json:"count"`           // transactions, or datagrams sent
	Bytes   uint64  `json:"bytes,omitempty"` // of TCPStream: taken by the kernel
	Lost    uint64  `json:"lost,omitempty"`  // datagrams without an answer
	Latency Summary `json:"latency"`         // of a transaction; none for TCPStream and UDPPPS
	Connect Summary `json:"connect"`         // of connect(2), where connections are made

	OwnCPU  time.Duration         `json:"own_cpu_ns"`
	CPU     map[int]time.Duration `json:"cpu_ns"` // by process id of Job.Watch
	Machine Machine               `json:"machine"`
}

// ServerReport is what a server says at its end.
type ServerReport struct {
	// Slots counts received datagrams of UDPPPS by slots of SlotLength since Epoch (CLOCK_MONOTONIC).
	Epoch int64    `json:"epoch_ns"`
	Slots []uint32 `json:"slots,omitempty"`
}

// SlotLength is the resolution of ServerReport.
const SlotLength = time.Millisecond

// Received counts what arrived between two moments of CLOCK_MONOTONIC, to SlotLength.
func (r ServerReport) Received(begin, end int64) uint64 {
	var n uint64
	for i, c := range r.Slots {
		at := r.Epoch + int64(i)*int64(SlotLength)
		if at >= begin && at+int64(SlotLength) <= end {
			n += uint64(c)
		}
	}
	return n
}

// ReadyLine is what a server writes once it can be dialled.
const ReadyLine = "ready\n"

func (j Job) check() error {
	switch {
	case j.Role != Server && j.Role != Client:
		return fmt.Errorf("role %q: %s or %s is allowed", j.Role, Server, Client)
	case !j.Addr.IsValid() || j.Addr.Port() == 0:
		return fmt.Errorf("addr %s: an address with a port is needed", j.Addr)
	case j.Flows < 0 || j.Flows > MaxFlows:
		return fmt.Errorf("flows %d: 0 to %d are allowed", j.Flows, MaxFlows)
	case j.Flows > 1 && j.Kind != TCPRR:
		return fmt.Errorf("flows %d: only %s has more than one", j.Flows, TCPRR)
	case j.Bound <= 0 || j.Bound > maxBound:
		return fmt.Errorf("bound %s: more than 0 and at most %s is allowed", j.Bound, maxBound)
	case j.Role == Client && (j.Duration <= 0 || j.Warmup < 0):
		return fmt.Errorf("duration %s, warmup %s: must be positive", j.Duration, j.Warmup)
	}
	for _, k := range Kinds {
		if k == j.Kind {
			return nil
		}
	}
	return fmt.Errorf("kind %q: one of %v is allowed", j.Kind, Kinds)
}

const maxBound = 10 * time.Minute

// Run does the job that it reads from in, and writes what came of it to out. The calling process is given
// over to it: it may end here, by a failure or because in was closed.
func Run(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	var j Job
	if err := json.Unmarshal(line, &j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if err := j.check(); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	debug.SetGCPercent(-1)
	time.AfterFunc(j.Bound, func() {
		fmt.Fprintf(os.Stderr, "%s %s %s: not finished after %s\n", j.Kind, j.Role, j.Addr, j.Bound)
		os.Exit(1)
	})
	// The files of many flows.
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: MaxFlows + 64, Max: MaxFlows + 64})
	if j.Role == Server {
		return runServer(j, r, out)
	}
	go func() {
		_, _ = io.Copy(io.Discard, r)
		os.Exit(1) // nobody waits for the report any more
	}()
	report, err := runClient(j)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", j.Kind, j.Addr, err)
	}
	return json.NewEncoder(out).Encode(report)
}

// bind ties the calling goroutine to a thread, and that to a processor.
func bind(cpu int) error {
	runtime.LockOSThread()
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to processor %d: %w", cpu, err)
	}
	return nil
}

func runServer(j Job, in io.Reader, out io.Writer) error {
	if err := bind(j.CPU); err != nil {
		return err
	}
	s, err := listen(j)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", j.Kind, j.Addr, err)
	}
	if _, err := io.WriteString(out, ReadyLine); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		if err := json.NewEncoder(out).Encode(s.report()); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}()
	return fmt.Errorf("%s on %s: %w", j.Kind, j.Addr, s.serve())
}

func runClient(j Job) (Report, error) {
	if err := bind(j.CPU); err != nil {
		return Report{}, err
	}
	w := newWindow(j)
	var err error
	switch {
	case j.Kind == TCPRR && j.Flows > 1:
		err = manyFlows(j, w)
	case j.Kind == TCPRR:
		err = tcpRR(j, w)
	case j.Kind == TCPCRR, j.Kind == TCPConnect:
		err = tcpConnections(j, w)
	case j.Kind == TCPStream:
		err = tcpStream(j, w)
	case j.Kind == UDPRR:
		err = udpRR(j, w)
	case j.Kind == UDPPPS:
		err = udpPPS(j, w)
	}
	if err == nil && w.report.Count == 0 {
		err = errors.New("nothing came back while it was measured")
	}
	return w.done(), err
}
