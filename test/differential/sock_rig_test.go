package differential_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
)

// The kernel makes no test runs of the socket hooks. So they are attached to a cgroup of their own, this process moves into it, and
// real sockets call connect, sendto, recvfrom and getpeername. Every address is a local one in the namespaces
// where that happens, and on every port somebody listens who tells what address he was reached at: servers are older than the
// move into the cgroup, so no hook touches them.

// Ports on which servers listen; all of them lie below those that the kernel gives to clients.
var servedPorts = []uint16{1, 53, 80, 81, 443, 8080, 9090, 30000}

const clients = 3 // network namespaces

// Addresses that servers send to when a socket has none of its own.
var client4, client6 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")

// cgroups is where this process lives and may live.
type cgroups struct{ home, balanced string }

// newCgroups makes a cgroup below the root of the hierarchy.
func newCgroups(t *testing.T) cgroups {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, unix.Mount("cgroup2", root, "cgroup2", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	c := cgroups{home: root, balanced: filepath.Join(root, fmt.Sprintf("weir-differential-%d", os.Getpid()))}
	require.NoError(t, os.Mkdir(c.balanced, 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(c.balanced)) })
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	for line := range strings.Lines(string(own)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			c.home = filepath.Join(root, rest)
		}
	}
	return c
}

// enter moves this process until the test ends; sockets stay where they were made.
func (c cgroups) enter(t *testing.T) {
	t.Helper()
	require.NoError(t, moveTo(c.balanced))
	t.Cleanup(func() { require.NoError(t, moveTo(c.home)) })
}

func moveTo(cgroup string) error {
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0)
}

// server is a socket that listens, on IPv6 and IPv4, in the namespace of a client.
type server struct {
	fd   int
	port uint16
}

// place is the network namespace of a client.
type place struct {
	ns       int // the namespace
	tcp, udp []server
	outside  [2][]int // UDP sockets outside the cgroup that were not used yet, IPv4 and IPv6
}

// sockets is the part of the rig that makes calls.
type sockets struct {
	groups  cgroups
	home    int // the rig's namespace
	places  [clients]place
	open    [socketSlots]*socket
	token   uint64 // of the last datagram
	choice  uint32 // what the fake is to choose
	asked   bool   // the fake chose
	buf     [2048]byte
	oob     [512]byte
	lite    bool // UDP-Lite is there
	patient time.Duration
}

const socketSlots = 6

func thisNamespace() (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// newSockets makes the namespaces and what listens there. The caller's thread is locked and in a namespace of its own.
func newSockets(t *testing.T, groups cgroups) *sockets {
	t.Helper()
	s := &sockets{groups: groups, patient: 2 * time.Second}
	var err error
	s.home, err = thisNamespace()
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(s.home) })
	for n := range s.places {
		require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
		for _, args := range [][]string{
			{"link", "set", "lo", "up"}, {"addr", "add", client6.String() + "/128", "dev", "lo", "nodad"},
			{"route", "add", "local", "0.0.0.0/0", "dev", "lo"}, {"-6", "route", "add", "local", "::/0", "dev", "lo"},
		} {
			out, err := exec.Command("ip", args...).CombinedOutput()
			require.NoError(t, err, "ip %v: %s", args, out)
		}
		p := &s.places[n]
		p.ns, err = thisNamespace()
		require.NoError(t, err)
		for _, port := range servedPorts {
			p.tcp = append(p.tcp, listen(t, unix.SOCK_STREAM, port))
			p.udp = append(p.udp, listen(t, unix.SOCK_DGRAM, port))
		}
		t.Cleanup(func() {
			for _, x := range append(p.tcp, p.udp...) {
				_ = unix.Close(x.fd)
			}
			for _, fd := range append(append([]int{p.ns}, p.outside[0]...), p.outside[1]...) {
				_ = unix.Close(fd)
			}
		})
	}
	require.NoError(t, unix.Setns(s.home, unix.CLONE_NEWNET))
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE); err == nil {
		s.lite = true
		_ = unix.Close(fd)
	}
	t.Cleanup(s.closeAll)
	return s
}

// stock is how many sockets are made outside the cgroup at a time: to move takes milliseconds.
const stock = 32

// takeOutside gives a UDP socket in the current namespace that is outside the cgroup.
func (s *sockets) takeOutside(p *place, v6 bool) (int, error) {
	f, family := 0, unix.AF_INET
	if v6 {
		f, family = 1, unix.AF_INET6
	}
	if len(p.outside[f]) == 0 {
		if err := moveTo(s.groups.home); err != nil {
			return 0, fmt.Errorf("leave the cgroup: %w", err)
		}
		for range stock {
			fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return 0, fmt.Errorf("make a socket outside the cgroup: %w", err)
			}
			p.outside[f] = append(p.outside[f], fd)
		}
		if err := moveTo(s.groups.balanced); err != nil {
			return 0, fmt.Errorf("enter the cgroup: %w", err)
		}
	}
	last := len(p.outside[f]) - 1
	fd := p.outside[f][last]
	p.outside[f] = p.outside[f][:last]
	return fd, nil
}

func listen(t *testing.T, kind int, port uint16) server {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	for _, o := range [][2]int{
		{unix.IPV6_V6ONLY, 0}, {unix.IPV6_RECVPKTINFO, 1}, {unix.IPV6_FREEBIND, 1}, // answers come from addresses that no device has
	} {
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_IPV6, o[0], o[1]))
	}
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}))
	if kind == unix.SOCK_STREAM {
		require.NoError(t, unix.Listen(fd, 16))
	}
	return server{fd, port}
}

func (s *sockets) closeAll() {
	for n, x := range s.open {
		if x != nil {
			x.close()
		}
		s.open[n] = nil
	}
}

// await waits until one of them can be read; -1: none became so.
func await(servers []server, most time.Duration) int {
	fds := make([]unix.PollFd, len(servers))
	for n, x := range servers {
		fds[n] = unix.PollFd{Fd: int32(x.fd), Events: unix.POLLIN}
	}
	until := time.Now().Add(most)
	for {
		n, err := unix.Poll(fds, int(max(time.Until(until), 0).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			return -1
		}
		for n, x := range fds {
			if x.Revents != 0 {
				return n
			}
		}
	}
}

// sockaddr writes an address for a socket of a family; IPv6 ones take IPv4 addresses mapped.
func sockaddr(a netip.AddrPort, v6 bool) unix.Sockaddr {
	if !v6 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort reads an address; mapped ones stay mapped.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch x := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(x.Addr), uint16(x.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(x.Addr), uint16(x.Port))
	}
	return netip.AddrPort{}
}

// received is a datagram that came to a server.
type received struct {
	server   server
	to, from netip.AddrPort // IPv4 unmapped; from as the server has to answer
}

// datagram waits for the one with the token; others are late ones of earlier calls.
func (s *sockets) datagram(p *place, token uint64) (received, error) {
	for {
		n := await(p.udp, s.patient)
		if n < 0 {
			return received{}, errors.New("no server got the datagram")
		}
		x := p.udp[n]
		size, oobn, _, from, err := unix.Recvmsg(x.fd, s.buf[:], s.oob[:], 0)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return received{}, fmt.Errorf("receive at port %d: %w", x.port, err)
		}
		if size != 8 || binary.BigEndian.Uint64(s.buf[:]) != token {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(s.oob[:oobn])
		if err != nil {
			return received{}, fmt.Errorf("control messages: %w", err)
		}
		for _, m := range messages {
			if m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO {
				to := netip.AddrFrom16([16]byte(m.Data[:16])).Unmap()
				return received{x, netip.AddrPortFrom(to, x.port), addrPort(from)}, nil
			}
		}
		return received{}, errors.New("the kernel does not say where the datagram went")
	}
}

// accepted waits for the connection of a client's port and returns where it was taken.
func (s *sockets) accepted(p *place, port uint16) (netip.AddrPort, error) {
	for {
		n := await(p.tcp, s.patient)
		if n < 0 {
			return netip.AddrPort{}, errors.New("no server got the connection")
		}
		fd, from, err := unix.Accept4(p.tcp[n].fd, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("accept at port %d: %w", p.tcp[n].port, err)
		}
		at, err := unix.Getsockname(fd)
		_ = unix.Close(fd)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("where a connection was taken: %w", err)
		}
		if addrPort(from).Port() != port {
			continue // of an earlier call
		}
		a := addrPort(at)
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
	}
}

// answer sends a datagram with the token from an address.
func (s *sockets) answer(x server, from netip.Addr, to netip.AddrPort, token uint64) error {
	info := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	native.PutUint64(info, uint64(unix.CmsgLen(unix.SizeofInet6Pktinfo)))
	native.PutUint32(info[8:], unix.SOL_IPV6)
	native.PutUint32(info[12:], unix.IPV6_PKTINFO)
	a := from.As16()
	copy(info[unix.CmsgLen(0):], a[:])
	sa := &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if err := unix.Sendmsg(x.fd, binary.BigEndian.AppendUint64(nil, token), info, sa, 0); err != nil {
		return fmt.Errorf("answer %v from %v port %d: %w", to, from, x.port, err)
	}
	return nil
}

// protoOf is what to ask socket(2) for.
func protoOf(proto uint8) (kind, number int) {
	switch proto {
	case datapath.ProtoTCP:
		return unix.SOCK_STREAM, 0
	case datapath.ProtoUDP:
		return unix.SOCK_DGRAM, 0
	}
	return unix.SOCK_DGRAM, int(proto)
}
