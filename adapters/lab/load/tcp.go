package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// streamBuffer is how much a stream hands over at once, in bytes.
const streamBuffer = 128 << 10

// server is the passive side of a kind of traffic.
type server interface {
	serve() error // until the process ends
	report() ServerReport
}

// listen makes the passive side; it can be dialled from then on.
func listen(j Job) (server, error) {
	a := newAddress(j.Addr)
	if j.Kind == UDPRR || j.Kind == UDPPPS {
		fd, err := bound(a, unix.SOCK_DGRAM)
		if err != nil {
			return nil, err
		}
		if j.Kind == UDPRR {
			return &udpEcho{fd: fd}, nil
		}
		return newUDPSink(fd, j.Bound), nil
	}
	fd, err := bound(a, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		closeSocket(fd)
		return nil, fmt.Errorf("listen: %w", err)
	}
	if j.Kind == TCPRR && j.Flows > 1 {
		return &flowServer{fd: fd}, nil
	}
	return &tcpServer{fd: fd, kind: j.Kind}, nil
}

// tcpServer serves one connection after the other.
type tcpServer struct {
	fd   int
	kind Kind
}

func (*tcpServer) report() ServerReport { return ServerReport{} }

func (s *tcpServer) serve() error {
	b := make([]byte, streamBuffer)
	if s.kind != TCPStream {
		b = b[:1]
	}
	for {
		c, err := accept(s.fd)
		if err != nil {
			return err
		}
		if s.kind == TCPRR {
			if err := noDelay(c); err != nil {
				return err
			}
		}
		for {
			n, e := receive(c, b)
			if e != 0 || n == 0 {
				break // the peer is done, or gone
			}
			if s.kind != TCPStream {
				if _, e := send(c, b[:n]); e != 0 {
					break
				}
			}
		}
		closeSocket(c)
	}
}

// exchange sends one byte and waits for it to come back.
func exchange(fd int, b []byte) error {
	if _, e := send(fd, b); e != 0 {
		return failed("send", e)
	}
	n, e := receive(fd, b)
	if e == 0 && n == 0 {
		return fmt.Errorf("the server closed the connection")
	}
	return failed("receive", e)
}

func tcpRR(j Job, w *window) error {
	fd, err := dialTCP(newAddress(j.Addr))
	if err != nil {
		return err
	}
	defer closeSocket(fd)
	b := []byte{'x'}
	last := w.begin()
	for {
		if err := exchange(fd, b); err != nil {
			return err
		}
		now := w.now()
		counts, over := w.at(now)
		if over {
			return nil
		}
		if counts {
			w.latency.Add(now - last)
			w.report.Count++
			last = now
		} else {
			last = w.now()
		}
	}
}

// tcpConnections makes connections one after the other; the client closes first, as clients do.
func tcpConnections(j Job, w *window) error {
	a := newAddress(j.Addr)
	b := []byte{'x'}
	last := w.begin()
	for {
		fd, err := socket(a.family, unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		if err := connect(fd, a); err != nil {
			closeSocket(fd)
			return err
		}
		connected := w.now()
		if j.Kind == TCPCRR {
			if err := exchange(fd, b); err != nil {
				closeSocket(fd)
				return err
			}
		}
		closeSocket(fd)
		now := w.now()
		counts, over := w.at(now)
		if over {
			return nil
		}
		if counts {
			w.connect.Add(connected - last)
			w.latency.Add(now - last)
			w.report.Count++
			last = now
		} else {
			last = w.now()
		}
	}
}

func tcpStream(j Job, w *window) error {
	fd, err := dialTCP(newAddress(j.Addr))
	if err != nil {
		return err
	}
	defer closeSocket(fd)
	b := make([]byte, streamBuffer)
	w.begin()
	for {
		n, e := send(fd, b)
		if e != 0 {
			return failed("send", e)
		}
		counts, over := w.at(w.now())
		if over {
			return nil
		}
		if counts {
			w.report.Bytes += uint64(n)
			w.report.Count++
		}
	}
}
