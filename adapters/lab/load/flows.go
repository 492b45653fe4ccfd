package load

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// eventsAtOnce is how many ready connections are taken at a time.
const eventsAtOnce = 256

func newPoll() (int, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("epoll: %w", err)
	}
	return ep, nil
}

func watch(ep, fd int) error {
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// flowServer answers on many connections at a time.
type flowServer struct{ fd int }

func (*flowServer) report() ServerReport { return ServerReport{} }

func (s *flowServer) serve() error {
	ep, err := newPoll()
	if err != nil {
		return err
	}
	if err := watch(ep, s.fd); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, eventsAtOnce)
	b := make([]byte, 1)
	for {
		n, err := wait(ep, events)
		if err != nil {
			return err
		}
		for _, ev := range events[:n] {
			fd := int(ev.Fd)
			if fd == s.fd {
				c, err := accept(fd)
				if err != nil {
					return err
				}
				if err := errors.Join(noDelay(c), watch(ep, c)); err != nil {
					return err
				}
				continue
			}
			n, e := receive(fd, b)
			if e == 0 && n > 0 {
				_, e = send(fd, b)
			}
			if e != 0 || n == 0 {
				closeSocket(fd)
			}
		}
	}
}

// manyFlows keeps one request under way on each of many connections.
func manyFlows(j Job, w *window) error {
	ep, err := newPoll()
	if err != nil {
		return err
	}
	a := newAddress(j.Addr)
	var fds []int
	top := 0
	defer func() {
		for _, fd := range fds {
			closeSocket(fd)
		}
	}()
	for range j.Flows {
		fd, err := dialTCP(a)
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(fds)+1, err)
		}
		fds = append(fds, fd)
		top = max(top, fd)
		if err := watch(ep, fd); err != nil {
			return err
		}
	}
	sent := make([]int64, top+1) // by descriptor: when its request left
	b := []byte{'x'}
	now := w.begin()
	for _, fd := range fds {
		if _, e := send(fd, b); e != 0 {
			return failed("send", e)
		}
		sent[fd] = now
	}
	events := make([]unix.EpollEvent, eventsAtOnce)
	for {
		n, err := wait(ep, events)
		if err != nil {
			return err
		}
		for _, ev := range events[:n] {
			fd := int(ev.Fd)
			if got, e := receive(fd, b); e != 0 || got == 0 {
				return errors.Join(errors.New("the server closed a connection"), failed("receive", e))
			}
			now := w.now()
			counts, over := w.at(now)
			if over {
				return nil
			}
			if counts {
				// What was under way when the window opened counts from there.
				w.latency.Add(now - max(sent[fd], w.report.Begin))
				w.report.Count++
			} else {
				now = w.now()
			}
			if _, e := send(fd, b); e != 0 {
				return failed("send", e)
			}
			sent[fd] = now
		}
	}
}
