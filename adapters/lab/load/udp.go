package load

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of datagrams' payloads in bytes: what arrives of a UDPPPS, and the largest that is read.
const (
	ppsPayload = 64
	maxPayload = 2048
)

// answerTimeout is when a datagram counts as lost.
const answerTimeout = 200 * time.Millisecond

// udpEcho sends every datagram back.
type udpEcho struct{ fd int }

func (*udpEcho) report() ServerReport { return ServerReport{} }

func (s *udpEcho) serve() error {
	b := make([]byte, maxPayload)
	from := &address{}
	for {
		n, e := receiveFrom(s.fd, b, from)
		if e == unix.ECONNREFUSED || n == 0 && e == 0 {
			continue // an ICMP error of an earlier answer
		}
		if e != 0 {
			return failed("receive", e)
		}
		if _, e := sendTo(s.fd, b[:n], from); e != 0 && e != unix.ECONNREFUSED {
			return failed("send", e)
		}
	}
}

// udpSink counts datagrams by the time of their arrival.
type udpSink struct {
	clock
	fd    int
	epoch int64
	slots []uint32
}

func newUDPSink(fd int, bound time.Duration) *udpSink {
	s := &udpSink{clock: newClock(), fd: fd, slots: make([]uint32, bound/SlotLength+1)}
	s.epoch = s.now()
	return s
}

func (s *udpSink) report() ServerReport {
	last := min(int((s.now()-s.epoch)/int64(SlotLength)), len(s.slots)-1)
	out := ServerReport{Epoch: s.epoch, Slots: make([]uint32, last+1)}
	for i := range out.Slots {
		out.Slots[i] = atomic.LoadUint32(&s.slots[i])
	}
	return out
}

func (s *udpSink) serve() error {
	b := make([]byte, maxPayload)
	for {
		if _, e := receive(s.fd, b); e != 0 {
			return failed("receive", e)
		}
		slot := (s.now() - s.epoch) / int64(SlotLength)
		if slot < int64(len(s.slots)) {
			atomic.AddUint32(&s.slots[slot], 1)
		}
	}
}

func dialUDP(j Job) (int, error) {
	a := newAddress(j.Addr)
	fd, err := socket(a.family, unix.SOCK_DGRAM)
	if err != nil {
		return -1, err
	}
	if err := connect(fd, a); err != nil {
		closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

func udpRR(j Job, w *window) error {
	fd, err := dialUDP(j)
	if err != nil {
		return err
	}
	defer closeSocket(fd)
	tv := unix.NsecToTimeval(int64(answerTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	out, in := []byte{0}, make([]byte, maxPayload)
	last := w.begin()
	for {
		out[0]++
		if _, e := send(fd, out); e != 0 {
			return failed("send", e)
		}
		n, e := receive(fd, in)
		for e == 0 && (n != 1 || in[0] != out[0]) { // the late answer to one that was given up
			n, e = receive(fd, in)
		}
		if e != 0 && e != unix.EAGAIN {
			return failed("receive", e)
		}
		now := w.now()
		counts, over := w.at(now)
		if over {
			return nil
		}
		switch {
		case !counts:
			now = w.now()
		case e == unix.EAGAIN:
			w.report.Lost++
		default:
			w.latency.Add(now - last)
			w.report.Count++
		}
		last = now
	}
}

func udpPPS(j Job, w *window) error {
	fd, err := dialUDP(j)
	if err != nil {
		return err
	}
	defer closeSocket(fd)
	b := make([]byte, ppsPayload)
	w.begin()
	for {
		if _, e := send(fd, b); e != 0 && e != unix.ENOBUFS {
			return failed("send", e)
		}
		counts, over := w.at(w.now())
		if over {
			return nil
		}
		if counts {
			w.report.Count++
		}
	}
}
