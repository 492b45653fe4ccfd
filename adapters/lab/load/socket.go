package load

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below go straight to the kernel: package unix would tell Go's scheduler about each of them,
// which then takes the processor away from a thread that waits, and that costs more than the call.

// address is a socket address in the kernel's form.
type address struct {
	raw    [unix.SizeofSockaddrInet6]byte
	length uint32
	family int
}

func newAddress(a netip.AddrPort) *address {
	out := &address{}
	port := [2]byte{byte(a.Port() >> 8), byte(a.Port())}
	ip := a.Addr().Unmap()
	if ip.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&out.raw))
		sa.Family, sa.Addr = unix.AF_INET, ip.As4()
		sa.Port = *(*uint16)(unsafe.Pointer(&port))
		out.length, out.family = unix.SizeofSockaddrInet4, unix.AF_INET
		return out
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&out.raw))
	sa.Family, sa.Addr = unix.AF_INET6, ip.As16()
	sa.Port = *(*uint16)(unsafe.Pointer(&port))
	out.length, out.family = unix.SizeofSockaddrInet6, unix.AF_INET6
	return out
}

// failed turns the number of an error into one; nil for 0.
func failed(what string, e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, e)
}

func socket(family, kind int) (int, error) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_CLOEXEC), 0)
	return int(fd), failed("socket", e)
}

func connect(fd int, a *address) error {
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(a)), uintptr(a.length))
	return failed("connect", e)
}

func accept(fd int) (int, error) {
	for {
		c, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		switch e {
		case 0:
			return int(c), nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		}
		return -1, failed("accept", e)
	}
}

func closeSocket(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// send and receive return the bytes moved; b is not empty.
func send(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func receive(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// receiveFrom and sendTo are those of sockets without a peer.
func receiveFrom(fd int, b []byte, from *address) (int, unix.Errno) {
	for {
		from.length = unix.SizeofSockaddrInet6
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(&from.length)))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func sendTo(fd int, b []byte, to *address) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL,
			uintptr(unsafe.Pointer(to)), uintptr(to.length))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// wait is epoll_pwait without a timeout.
func wait(ep int, events []unix.EpollEvent) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
			^uintptr(0), 0, 0)
		if e != unix.EINTR {
			return int(n), failed("wait for sockets", e)
		}
	}
}

// dialTCP opens a connection that sends each message at once.
func dialTCP(a *address) (int, error) {
	fd, err := socket(a.family, unix.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(noDelay(fd), connect(fd, a)); err != nil {
		closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

func noDelay(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	return nil
}

// bound makes a socket at its address.
func bound(a *address, kind int) (int, error) {
	fd, err := socket(a.family, kind)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		closeSocket(fd)
		return -1, fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(a)), uintptr(a.length)); e != 0 {
		closeSocket(fd)
		return -1, failed("bind", e)
	}
	return fd, nil
}
