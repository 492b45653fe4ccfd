package policycases

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/lab"
)

// Words by which the test starts its own binary again: to enter a place of the lab, and to work there.
const (
	wordEnter = "cases-enter" // NAME PLACE ARGV…
	wordWork  = "cases-work"
)

func TestMain(m *testing.M) {
	if status, ok := lab.Helper(os.Args[1:]); ok {
		os.Exit(status)
	}
	if len(os.Args) > 3 && os.Args[1] == wordEnter {
		l, err := lab.Open(lab.Options{Name: os.Args[2]})
		if err == nil {
			err = l.Exec(os.Args[3], os.Args[4:])
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) == 2 && os.Args[1] == wordWork {
		work(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// order is what a worker is told to do, on one line; it answers with a report.
type order struct {
	Do      string // probe, open, ask, close, transfer, bigudp
	Targets []target
	Wait    time.Duration // for each try
	Tries   int           // of a probe; 0: 1
	Name    string        // of a connection
	Size    int
}

// target is where an order goes.
type target struct {
	Addr  netip.AddrPort
	Proto string
}

// report is the outcome.
type report struct {
	Passed []bool // of the targets of a probe
	Error  string // empty: done
}

// worker is a process inside a place of the lab.
type worker struct {
	place  string
	cmd    *exec.Cmd // nil: it has ended
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *bytes.Buffer
}

// startWorker starts a worker in a place; it ends with the test.
func startWorker(t *testing.T, name, place string) *worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, wordEnter, name, place, self, wordWork)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &worker{place: place, cmd: cmd, in: in, out: bufio.NewScanner(out), stderr: &stderr}
	w.out.Buffer(nil, 1<<20)
	t.Cleanup(func() { w.end(t) })
	return w
}

// end lets the worker end and waits for it. Idempotent.
func (w *worker) end(t *testing.T) {
	t.Helper()
	if w.cmd == nil {
		return
	}
	w.in.Close()
	stop := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer stop.Stop()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("worker in %s: %v: %s", w.place, err, w.stderr.String())
	}
	w.cmd = nil
}

func (w *worker) do(o order) (report, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return report{}, err
	}
	// No order takes that long; a worker that hangs must not keep the lab from going down.
	stop := time.AfterFunc(time.Minute, func() { _ = w.cmd.Process.Kill() })
	defer stop.Stop()
	if _, err := w.in.Write(append(b, '\n')); err != nil {
		return report{}, fmt.Errorf("worker in %s: %w", w.place, err)
	}
	if !w.out.Scan() {
		return report{}, fmt.Errorf("worker in %s: it ended: %w", w.place, errors.Join(w.out.Err(), io.ErrUnexpectedEOF))
	}
	var r report
	if err := json.Unmarshal(w.out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("worker in %s: %w", w.place, err)
	}
	return r, nil
}

// work is the worker's own side.
func work(in io.Reader, out io.Writer) {
	conns := map[string]net.Conn{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		r := report{}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			r.Error = err.Error()
		} else {
			r = carryOut(o, conns)
		}
		_ = json.NewEncoder(out).Encode(r)
	}
}

func carryOut(o order, conns map[string]net.Conn) report {
	var err error
	switch o.Do {
	case "probe":
		return report{Passed: probeAll(o)}
	case "open":
		conns[o.Name], err = open(o.Targets[0], o.Wait)
	case "ask":
		err = ask(conns[o.Name], o.Wait, o.Size)
	case "close":
		err = conns[o.Name].Close()
	case "transfer":
		err = transfer(o.Targets[0], o.Wait, o.Size)
	case "bigudp":
		var c net.Conn
		if c, err = open(o.Targets[0], o.Wait); err == nil {
			err = errors.Join(ask(c, o.Wait, o.Size), c.Close())
		}
	default:
		err = fmt.Errorf("unknown order %q", o.Do)
	}
	if err != nil {
		return report{Error: err.Error()}
	}
	return report{}
}

func probeAll(o order) []bool {
	out := make([]bool, len(o.Targets))
	var wg sync.WaitGroup
	for i, t := range o.Targets {
		wg.Go(func() {
			for range max(1, o.Tries) {
				if out[i] = probe(t, o.Wait); out[i] {
					return
				}
			}
		})
	}
	wg.Wait()
	return out
}

// probe says whether packets go there and back.
func probe(t target, wait time.Duration) bool {
	if t.Proto == "ICMP" {
		return echo(t.Addr.Addr(), wait) == nil
	}
	c, err := open(t, wait)
	if err == nil {
		err = errors.Join(ask(c, wait, 16), c.Close())
	}
	return err == nil
}

// open dials and, with TCP, reads the greeting line.
func open(t target, wait time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: wait}
	d.SetMultipathTCP(false)
	network := map[string]string{"TCP": "tcp", "UDP": "udp"}[t.Proto]
	c, err := d.Dial(network, t.Addr.String())
	if err != nil || t.Proto == "UDP" {
		return c, err
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	var b [1]byte
	for b[0] != '\n' {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			c.Close()
			return nil, fmt.Errorf("greeting: %w", err)
		}
	}
	return c, nil
}

// ask sends bytes and waits for their echo: as they are with TCP, behind a line with UDP.
func ask(c net.Conn, wait time.Duration, size int) error {
	if c == nil {
		return errors.New("no such connection")
	}
	message := make([]byte, size)
	for i := range message {
		message[i] = byte(rand.Uint32())
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write(message); err != nil {
		return err
	}
	if _, ok := c.(*net.UDPConn); !ok {
		got := make([]byte, size)
		// What was asked before and not answered in time comes first.
		for {
			if _, err := io.ReadFull(c, got); err != nil {
				return err
			}
			if bytes.Equal(got, message) {
				return nil
			}
		}
	}
	b := make([]byte, 65536)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		if _, payload, ok := bytes.Cut(b[:n], []byte("\n")); ok && bytes.Equal(payload, message) {
			return nil
		}
	}
}

// transfer sends many bytes through the echo server and compares the checksums.
func transfer(t target, wait time.Duration, size int) error {
	c, err := open(t, wait)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	sent, got := sha256.New(), sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(size))
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{c}, io.TeeReader(source, sent))
		done <- err
	}()
	n, err := io.CopyN(got, c, int64(size))
	if err := errors.Join(err, <-done); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if a, b := sent.Sum(nil), got.Sum(nil); !bytes.Equal(a, b) {
		return fmt.Errorf("sent %x, got back %x", a, b)
	}
	return nil
}

// echo sends an echo request and waits for the reply. Each has an identifier of its own.
func echo(a netip.Addr, wait time.Duration) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if a.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := (&net.Dialer{}).DialContext(context.Background(), network, a.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	m := make([]byte, 16)
	m[0] = request
	id := uint16(1 + rand.IntN(65535))
	binary.BigEndian.PutUint16(m[4:], id)
	if a.Is4() { // the kernel computes that of IPv6
		sum := uint32(m[0])<<8 + uint32(id)
		binary.BigEndian.PutUint16(m[2:], ^uint16(sum>>16+sum&0xffff))
	}
	if _, err := c.Write(m); err != nil {
		return err
	}
	b := make([]byte, 2048)
	for {
		n, _, err := c.(*net.IPConn).ReadFrom(b) // takes an IPv4 header off
		if err != nil {
			return err
		}
		if n >= 8 && b[0] == reply && binary.BigEndian.Uint16(b[4:]) == id {
			return nil
		}
	}
}

// serveOn runs the server of the lab's pods in a place that has none, until the lab goes down.
func serveOn(t *testing.T, name, place string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(self, wordEnter, name, place, self, "lab-serve", "-name", place, "-ports", "80,81")
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	if b, err := io.ReadAll(r); err != nil || string(b) != "ready\n" {
		t.Fatalf("server in %s: %q, %v", place, b, err)
	}
}
