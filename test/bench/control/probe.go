package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Probes use sockets without the runtime's poller: what they measure is shorter than a wake-up.

// dial connects from the calling thread's namespace and returns the byte that the server answered with; an
// error after the timeout.
func dial(to netip.AddrPort, timeout time.Duration) (byte, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(int64(timeout))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv) // bounds connect, too
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	// Reset at the end: thousands of connections a second must not use up the ports.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return 0, err
	}
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	if err == nil && n == 0 {
		err = errors.New("no answer")
	}
	return b[0], err
}

// swap measures how long after a change connections to a service go elsewhere: until the first that
// reaches the new backend, and until the last that still reached the old one.
func swap(from *os.File, service netip.AddrPort, now byte, change func() error) (first, last time.Duration, err error) {
	err = within(from, func() error {
		start := time.Now()
		if err := change(); err != nil {
			return err
		}
		for same := 0; same < 20; {
			began := time.Since(start)
			answer, err := dial(service, 200*time.Millisecond)
			if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINPROGRESS) {
				return fmt.Errorf("connect to %s: %w", service, err)
			}
			switch {
			case err == nil && answer == now:
				if first == 0 {
					first = time.Since(start)
				}
				same++
			default:
				last, same = began, 0
			}
			if began > 10*time.Second {
				return fmt.Errorf("the service does not answer with %q after %s", now, began)
			}
		}
		return nil
	})
	return first, last, err
}

// echo is a flow of datagrams to a pod that stays open over changes of policy.
type echo struct {
	fd  int
	seq uint64
}

func newEcho(to netip.AddrPort) (*echo, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &echo{fd: fd}, unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
}

// echoWithin is how long a datagram may be on its way. Answers take a tenth of it.
const echoWithin = 400 * time.Microsecond

// once says whether a datagram came back in time. It waits by asking: the kernel's timeouts are longer.
func (e *echo) once() bool {
	e.seq++
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], e.seq)
	if _, err := unix.Write(e.fd, b[:]); err != nil {
		return false
	}
	for start := time.Now(); time.Since(start) < echoWithin; {
		n, err := unix.Read(e.fd, b[:])
		if err == nil && n == 8 && binary.NativeEndian.Uint64(b[:]) == e.seq {
			return true
		}
	}
	return false
}

// switched measures how long after a change of policy the flow is as wanted. A denial counts from the
// first datagram of five that were all lost.
func (e *echo) switched(allowed bool, change func() error) (time.Duration, error) {
	start := time.Now()
	if err := change(); err != nil {
		return 0, err
	}
	lost, since := 0, time.Duration(0)
	for {
		began := time.Since(start)
		switch passed := e.once(); {
		case passed && allowed:
			return time.Since(start), nil
		case passed:
			lost = 0
		case !passed && !allowed:
			if lost == 0 {
				since = began
			}
			if lost++; lost == 5 {
				return since, nil
			}
		}
		if began > 10*time.Second {
			return 0, fmt.Errorf("the flow is not allowed = %t after %s", allowed, began)
		}
	}
}
