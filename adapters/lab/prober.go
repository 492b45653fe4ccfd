package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Protocols that probes speak.
const (
	protoTCP  = "TCP"
	protoUDP  = "UDP"
	protoICMP = "ICMP"
)

// probeTarget is one thing to try from inside a pod.
type probeTarget struct {
	ID       int            `json:"id"`
	Addr     netip.AddrPort `json:"addr"`
	Protocol string         `json:"protocol"`
}

// probeJob is what a pod's prober reads from its standard input.
type probeJob struct {
	Targets  []probeTarget   `json:"targets"`
	Tries    []time.Duration `json:"tries"`    // how long each try waits; the next begins when it failed
	Parallel int             `json:"parallel"` // probes at one time

	// echo is where the identifiers of echo requests begin. Runs differ, so that none continues the
	// flow of an earlier one.
	echo int
}

// echoID is the identifier of a target's echo requests, never 0.
func (j *probeJob) echoID(t probeTarget) uint16 { return uint16(1 + (j.echo+t.ID)%65535) }

// probeOutcome is what became of a target; the prober writes one a line.
type probeOutcome struct {
	ID int `json:"id"`
	// Answer is the pod that answered ("namespace/name"); empty for ICMP and when none did.
	Answer string `json:"answer,omitempty"`
	// Passed: packets went there and back, be it only to be told that nobody listens.
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"` // "refused", or an error that is not silence
}

// errSilence is the outcome of a try that nothing answered.
var errSilence = errors.New("no answer")

// probeInside runs a job inside the namespace it was started in.
func probeInside(in io.Reader, out io.Writer) error {
	var job probeJob
	if err := json.NewDecoder(in).Decode(&job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	job.echo = rand.IntN(65535)
	slots := make(chan struct{}, max(job.Parallel, 1))
	var mu sync.Mutex
	var wg sync.WaitGroup
	enc := json.NewEncoder(out)
	var writeErr error
	for _, t := range job.Targets {
		slots <- struct{}{}
		wg.Go(func() {
			o := job.probe(t)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			writeErr = errors.Join(writeErr, enc.Encode(o))
		})
	}
	wg.Wait()
	return writeErr
}

func (j *probeJob) probe(t probeTarget) probeOutcome {
	o := probeOutcome{ID: t.ID}
	for i, wait := range j.Tries {
		answer, err := j.try(t, i, wait)
		switch {
		case err == nil:
			return probeOutcome{ID: t.ID, Answer: answer, Passed: true}
		case errors.Is(err, unix.ECONNREFUSED):
			return probeOutcome{ID: t.ID, Passed: true, Detail: "refused"}
		case !silent(err):
			o.Detail = err.Error()
			time.Sleep(wait / 4) // a local error comes at once; give it time to go away
		}
	}
	return o
}

func (j *probeJob) try(t probeTarget, attempt int, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	switch t.Protocol {
	case protoTCP:
		return tryTCP(ctx, t.Addr)
	case protoUDP:
		return tryUDP(ctx, t.Addr, fmt.Sprintf("probe %d.%d", t.ID, attempt))
	case protoICMP:
		return "", tryICMP(ctx, t.Addr.Addr(), j.echoID(t), uint16(attempt+1))
	}
	return "", fmt.Errorf("protocol %q: TCP, UDP or ICMP is allowed", t.Protocol)
}

// silent says whether an error means that nothing came back.
func silent(err error) bool {
	var ne net.Error
	return errors.Is(err, errSilence) || errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &ne) && ne.Timeout())
}

func dialer() *net.Dialer {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	return d
}

// tryTCP connects and reads the name that the server greets with.
func tryTCP(ctx context.Context, a netip.AddrPort) (string, error) {
	c, err := dialer().DialContext(ctx, "tcp", a.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// tryUDP sends a datagram and waits for the answer that carries it.
func tryUDP(ctx context.Context, a netip.AddrPort, payload string) (string, error) {
	c, err := dialer().DialContext(ctx, "udp", a.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, payload); err != nil {
		return "", err
	}
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return "", err
		}
		if name, rest, ok := strings.Cut(string(b[:n]), "\n"); ok && rest == payload {
			return name, nil
		}
	}
}

// tryICMP sends an echo request and waits for its reply.
func tryICMP(ctx context.Context, a netip.Addr, id, seq uint16) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if a.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := dialer().DialContext(ctx, network, a.String())
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	m := make([]byte, 16)
	m[0] = request
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	copy(m[8:], "weir lab")
	if a.Is4() { // of IPv6 the kernel computes the checksum, which covers the addresses
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	if _, err := c.Write(m); err != nil {
		return err
	}
	b := make([]byte, 2048)
	for {
		// ReadFrom, other than Read, takes the IPv4 header off.
		n, _, err := c.(*net.IPConn).ReadFrom(b)
		if err != nil {
			return err
		}
		r := b[:n]
		if n >= 8 && r[0] == reply && binary.BigEndian.Uint16(r[4:]) == id && binary.BigEndian.Uint16(r[6:]) == seq {
			return nil
		}
	}
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
