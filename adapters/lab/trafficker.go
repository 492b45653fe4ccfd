package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// trafficJob is what the traffic process of a pod reads, as one line, from its standard input; it works
// until that is closed.
type trafficJob struct {
	Targets   []netip.AddrPort `json:"targets"`
	Protocols []string         `json:"protocols"` // TCP, UDP
	Interval  time.Duration    `json:"interval"`  // between two messages of a flow; connects come at four times this
}

// trafficCount is what one kind of traffic to one target came to; the process writes them at its end.
type trafficCount struct {
	Target   netip.AddrPort `json:"target"`
	Protocol string         `json:"protocol"` // TCP, UDP, or CONNECT for new connections
	Sent     int            `json:"sent"`     // messages, or connections tried
	Echoed   int            `json:"echoed"`   // of these, those that came back (or were greeted)
	Broken   int            `json:"broken"`   // connections that failed
	Gap      time.Duration  `json:"gap"`      // longest time without an answer while some were due
	Error    string         `json:"error,omitempty"`
}

// How long the end of traffic waits for what is still under way, and how long a new connection may
// take before it counts as failed. Both are longer than a retransmission.
const (
	trafficGrace   = 1500 * time.Millisecond
	connectTimeout = 3 * time.Second
)

// trafficInside keeps connections busy until the input closes, then reports.
func trafficInside(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	var job trafficJob
	if err := json.Unmarshal(line, &job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var counts []trafficCount
	run := func(f func() trafficCount) {
		wg.Go(func() {
			c := f()
			mu.Lock()
			defer mu.Unlock()
			counts = append(counts, c)
		})
	}
	for _, t := range job.Targets {
		for _, p := range job.Protocols {
			run(func() trafficCount { return flowTraffic(ctx, t, p, job.Interval) })
			if p == protoTCP {
				run(func() trafficCount { return connectTraffic(ctx, t, 4*job.Interval) })
			}
		}
	}
	if _, err := io.WriteString(out, "started\n"); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, r)
	stop()
	wg.Wait()
	return json.NewEncoder(out).Encode(counts)
}

// flowTraffic sends numbered messages over one connection and counts those that come back.
func flowTraffic(ctx context.Context, t netip.AddrPort, protocol string, interval time.Duration) trafficCount {
	count := trafficCount{Target: t, Protocol: protocol}
	dctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	c, err := dialer().DialContext(dctx, strings.ToLower(protocol), t.String())
	if err != nil {
		count.Broken, count.Error = 1, err.Error()
		return count
	}
	defer c.Close()

	received := make(chan receipt, 1)
	go func() { received <- receive(c, protocol) }()

	tick := time.NewTicker(interval)
	defer tick.Stop()
	var m [16]byte
	for ctx.Err() == nil {
		count.Sent++
		if protocol == protoTCP {
			_, err = io.WriteString(c, strconv.Itoa(count.Sent)+"\n")
		} else {
			binary.BigEndian.PutUint64(m[:], uint64(count.Sent))
			_, err = c.Write(m[:])
		}
		if err != nil {
			count.Error = err.Error()
			if protocol == protoTCP {
				count.Broken = 1
				break
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	// The receiver goes on for the grace period, or until it has seen the last message.
	_ = c.SetReadDeadline(time.Now().Add(trafficGrace))
	if protocol == protoTCP {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	r := <-received
	count.Echoed, count.Gap = r.echoed, r.gap
	if protocol == protoTCP && r.err != nil && r.echoed < count.Sent {
		count.Broken = 1
		count.Error = r.err.Error()
	}
	return count
}

type receipt struct {
	echoed int
	gap    time.Duration
	err    error
}

// receive counts distinct answers until the connection ends or its deadline passes.
func receive(c net.Conn, protocol string) receipt {
	var out receipt
	last := time.Now()
	note := func() {
		out.echoed++
		now := time.Now()
		out.gap = max(out.gap, now.Sub(last))
		last = now
	}
	if protocol == protoTCP {
		r := bufio.NewReader(c)
		if _, out.err = r.ReadString('\n'); out.err != nil { // the greeting
			return out
		}
		for {
			var line string
			if line, out.err = r.ReadString('\n'); out.err != nil {
				return out
			}
			// In order and without a gap, or the stream is broken.
			if n, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err != nil || n != out.echoed+1 {
				out.err = fmt.Errorf("got %q after message %d", line, out.echoed)
				return out
			}
			note()
		}
	}
	seen := map[uint64]bool{}
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return out
		}
		if err != nil {
			out.err = err // an ICMP error: what it answers to counts as lost, the flow goes on
			continue
		}
		_, rest, ok := strings.Cut(string(b[:n]), "\n")
		if !ok || len(rest) < 8 {
			continue
		}
		if seq := binary.BigEndian.Uint64([]byte(rest)); !seen[seq] {
			seen[seq] = true
			note()
		}
	}
}

// connectTraffic opens one new connection after the other.
func connectTraffic(ctx context.Context, t netip.AddrPort, interval time.Duration) trafficCount {
	count := trafficCount{Target: t, Protocol: "CONNECT"}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		count.Sent++
		cctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		begin := time.Now()
		_, err := tryTCP(cctx, t)
		cancel()
		count.Gap = max(count.Gap, time.Since(begin))
		if err != nil {
			count.Broken++
			count.Error = err.Error()
		} else {
			count.Echoed++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return count
}
