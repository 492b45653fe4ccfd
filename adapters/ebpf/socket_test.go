package ebpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// newCgroup makes a cgroup below the root of the hierarchy and a function that moves this process into
// it. Both are undone when the test ends.
func newCgroup(t testing.TB) (root, path string, join func()) {
	t.Helper()
	root = t.TempDir()
	require.NoError(t, unix.Mount("cgroup2", root, "cgroup2", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	path = filepath.Join(root, fmt.Sprintf("weir-test-%d", os.Getpid()))
	require.NoError(t, os.Mkdir(path, 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	home := root
	for line := range strings.Lines(string(own)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			home = filepath.Join(root, rest)
		}
	}
	move := func(to string) {
		pid := []byte(strconv.Itoa(os.Getpid()))
		require.NoError(t, os.WriteFile(filepath.Join(to, "cgroup.procs"), pid, 0))
	}
	return root, path, func() {
		move(path)
		t.Cleanup(func() { move(home) })
	}
}

// balancer is a namespace with two backends and a service in each family, and a client inside the cgroup.
type balancer struct {
	*netns
	d *Datapath
	ports.Tables
}

type lbFamily struct {
	name      string
	network   string // suffix for package net
	service   netip.Addr
	backends  [2]netip.Addr
	local     netip.Addr
	serviceID uint32 // of the TCP service; the UDP one has the next
}

var lbFamilies = []lbFamily{
	{"IPv4", "4", addr("10.96.0.1"), [2]netip.Addr{addr("10.9.0.1"), addr("10.9.0.2")}, addr("10.9.0.9"), 1},
	{"IPv6", "6", addr("fd00:96::1"), [2]netip.Addr{addr("fd00:9::1"), addr("fd00:9::2")}, addr("fd00:9::9"), 3},
}

const (
	servicePort = 80
	backendPort = 8080
)

func (x lbFamily) key(proto uint8) datapath.ServiceKey {
	return datapath.ServiceKey{Addr: x.service, Port: servicePort, Proto: proto}
}

func (x lbFamily) frontend() netip.AddrPort { return netip.AddrPortFrom(x.service, servicePort) }

func newBalancer(t testing.TB) *balancer {
	t.Helper()
	needBPF(t)
	ns := newNetns(t)
	ns.enter(t)
	root, cgroup, join := newCgroup(t)
	for _, x := range lbFamilies {
		for _, a := range append(x.backends[:], x.local) {
			mustIP(t, "addr", "add", a.String(), "dev", "lo", "nodad")
		}
	}
	_, err := Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes, Cgroup: root})
	require.ErrorContains(t, err, "root of the hierarchy")
	_, err = Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes, Cgroup: t.TempDir()})
	require.ErrorContains(t, err, "not a directory of cgroup v2")
	d, err := Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes, Cgroup: cgroup})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	b := &balancer{netns: ns, d: d, Tables: d.Tables()}
	for _, x := range lbFamilies {
		for p, proto := range []uint8{datapath.ProtoTCP, datapath.ProtoUDP} {
			id := x.serviceID + uint32(p)
			for i, a := range x.backends {
				backend := id*10 + uint32(i)
				require.NoError(t, b.Backends.Put(backend, datapath.Backend{Addr: a, Port: backendPort, Proto: proto}))
				require.NoError(t, b.Slots.Put(datapath.SlotKey{Service: id, Slot: uint32(i + 1)}, backend))
			}
			require.NoError(t, b.Services.Put(x.key(proto), datapath.Service{ID: id, Count: 2}))
		}
		for _, a := range x.backends {
			answer(t, x, a)
		}
	}
	_, err = net.DialTimeout("tcp", lbFamilies[0].frontend().String(), refusal)
	require.Error(t, err, "a process outside the cgroup sees no services")
	join()
	return b
}

// answer serves the backend's address as text, on TCP and UDP.
func answer(t testing.TB, x lbFamily, a netip.Addr) {
	t.Helper()
	at := netip.AddrPortFrom(a, backendPort).String()
	l, err := net.Listen("tcp"+x.network, at)
	require.NoError(t, err)
	u, err := net.ListenPacket("udp"+x.network, at)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close(); _ = u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(a.String()))
			_ = c.Close()
		}
	}()
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(a.String()), from)
		}
	}()
}

// ask connects to the service, checks that it looks like the service, and returns which backend answered.
func ask(t *testing.T, network string, x lbFamily) string {
	t.Helper()
	c, err := net.DialTimeout(network+x.network, x.frontend().String(), patience)
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, x.frontend().String(), c.RemoteAddr().String())
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	_, _ = c.Write([]byte("who are you"))
	b := make([]byte, 64)
	n, err := c.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

func TestSocketsReachServices(t *testing.T) {
	b := newBalancer(t)
	for _, x := range lbFamilies {
		t.Run(x.name, func(t *testing.T) {
			b.enter(t)
			for _, network := range []string{"tcp", "udp"} {
				counts := map[string]int{}
				for range 100 {
					counts[ask(t, network, x)]++
				}
				require.Len(t, counts, 2, network)
				for _, a := range x.backends {
					require.Greater(t, counts[a.String()], 15, "%s: %v", network, counts)
				}
			}
		})
		t.Run(x.name+" unconnected", func(t *testing.T) {
			b.enter(t)
			u, err := net.ListenPacket("udp"+x.network, netip.AddrPortFrom(x.local, 0).String())
			require.NoError(t, err)
			defer u.Close()
			counts := map[string]int{}
			for range 50 {
				_, err = u.WriteTo([]byte("who"), net.UDPAddrFromAddrPort(x.frontend()))
				require.NoError(t, err)
				require.NoError(t, u.SetReadDeadline(time.Now().Add(patience)))
				buf := make([]byte, 64)
				n, from, err := u.ReadFrom(buf)
				require.NoError(t, err)
				require.Equal(t, x.frontend().String(), from.String(), "the answer seems to come from the service")
				counts[string(buf[:n])]++
			}
			require.Len(t, counts, 2)
		})
		t.Run(x.name+" without backends", func(t *testing.T) {
			b.enter(t)
			for p, proto := range []uint8{datapath.ProtoTCP, datapath.ProtoUDP} {
				service := datapath.Service{ID: x.serviceID + uint32(p), Count: 2}
				require.NoError(t, b.Services.Put(x.key(proto), datapath.Service{ID: service.ID}))
				_, err := net.DialTimeout([]string{"tcp", "udp"}[p]+x.network, x.frontend().String(), patience)
				require.ErrorIs(t, err, unix.ECONNREFUSED)
				require.NoError(t, b.Services.Put(x.key(proto), service))
			}
		})
	}
}

func TestSocketsOfIPv6ReachIPv4Services(t *testing.T) {
	b := newBalancer(t)
	x := lbFamilies[0]
	mapped := func(a netip.Addr, port int) *unix.SockaddrInet6 {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
	}
	tcp, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(tcp) }()
	require.NoError(t, unix.Connect(tcp, mapped(x.service, servicePort)))
	peer, err := unix.Getpeername(tcp)
	require.NoError(t, err)
	require.Equal(t, x.service.As16(), peer.(*unix.SockaddrInet6).Addr)
	require.Equal(t, servicePort, peer.(*unix.SockaddrInet6).Port)

	udp, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(udp) }()
	require.NoError(t, unix.SetsockoptTimeval(udp, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	require.NoError(t, unix.Sendto(udp, []byte("who"), 0, mapped(x.service, servicePort)))
	buf := make([]byte, 64)
	n, from, err := unix.Recvfrom(udp, buf, 0)
	require.NoError(t, err)
	require.Contains(t, []string{x.backends[0].String(), x.backends[1].String()}, string(buf[:n]))
	require.Equal(t, x.service.As16(), from.(*unix.SockaddrInet6).Addr)

	// A backend of the other family is of no use.
	other := lbFamilies[1]
	for i := range uint32(2) {
		require.NoError(t, b.Backends.Put(other.serviceID*10+i, datapath.Backend{
			Addr: x.backends[i], Port: backendPort, Proto: datapath.ProtoTCP,
		}))
	}
	_, err = net.DialTimeout("tcp6", other.frontend().String(), patience)
	require.ErrorIs(t, err, unix.ECONNREFUSED)
}

func TestSocketAffinity(t *testing.T) {
	b := newBalancer(t)
	for _, x := range lbFamilies {
		service := datapath.Service{ID: x.serviceID, Count: 2, AffinityTimeout: 600}
		require.NoError(t, b.Services.Put(x.key(datapath.ProtoTCP), service))
		first := ask(t, "tcp", x)
		for range 20 {
			require.Equal(t, first, ask(t, "tcp", x))
		}
		own, other := x.serviceID*10, x.serviceID*10+1
		if first == x.backends[1].String() {
			own, other = other, own
		}
		// From here on new clients have but one choice.
		require.NoError(t, b.Slots.Put(datapath.SlotKey{Service: x.serviceID, Slot: 1}, other))
		service.Count = 1
		require.NoError(t, b.Services.Put(x.key(datapath.ProtoTCP), service))
		require.Equal(t, first, ask(t, "tcp", x), "the old client stays")
		row, err := b.Backends.Get(own)
		require.NoError(t, err)
		require.NoError(t, b.Backends.Delete(own))
		require.NotEqual(t, first, ask(t, "tcp", x), "until its backend is gone")

		require.NoError(t, b.Backends.Put(own, row))
		rows, err := dump[rawAffinityKey, rawAffinity](b.d.maps[mapAffinity])
		require.NoError(t, err)
		bind := func(age time.Duration) {
			now, err := monotonic()
			require.NoError(t, err)
			for _, r := range rows {
				r.value.Backend, r.value.UsedNs = own, now-uint64(age)
				require.NoError(t, b.d.maps[mapAffinity].Put(&r.key, &r.value))
			}
		}
		service.AffinityTimeout = 3
		require.NoError(t, b.Services.Put(x.key(datapath.ProtoTCP), service))
		bind(time.Second)
		require.Equal(t, first, ask(t, "tcp", x))
		bind(4 * time.Second)
		require.NotEqual(t, first, ask(t, "tcp", x), "a row older than the timeout does not bind")
	}
}

func TestSocketsForgetDeletedServices(t *testing.T) {
	b := newBalancer(t)
	x := lbFamilies[0]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: x.service.As4(), Port: servicePort}))
	peer := func() [4]byte {
		sa, err := unix.Getpeername(fd)
		require.NoError(t, err)
		return sa.(*unix.SockaddrInet4).Addr
	}
	require.Equal(t, x.service.As4(), peer())
	require.NoError(t, b.Services.Delete(x.key(datapath.ProtoTCP)))
	require.Contains(t, [][4]byte{x.backends[0].As4(), x.backends[1].As4()}, peer())
}

func TestSocketsReachNodePorts(t *testing.T) {
	b := newBalancer(t)
	for f, x := range lbFamilies {
		node, other := x.local, addr([]string{"10.9.0.8", "fd00:9::8"}[f])
		own := []netip.Addr{addr("127.0.0.1"), addr("::1")}[f]
		mustIP(t, "addr", "add", other.String(), "dev", "lo", "nodad")
		for until := time.Now().Add(patience); ; { // the route to an IPv6 address comes a little after it
			_, err := net.Dial("tcp"+x.network, netip.AddrPortFrom(other, 1).String())
			if errors.Is(err, unix.ECONNREFUSED) {
				break
			}
			require.True(t, time.Now().Before(until), "%v", err)
		}
		require.NoError(t, b.Endpoints.Put(node, datapath.Endpoint{Identity: identity.Host, Host: true}))
		require.NoError(t, b.Nodes.Put(other, datapath.Node{ID: 2}))
		any := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[f]
		key := datapath.ServiceKey{Addr: any, Port: 30080, Proto: datapath.ProtoTCP}
		service := datapath.Service{ID: x.serviceID, Count: 2}
		for _, local := range []bool{false, true} {
			service.Local = local
			require.NoError(t, b.Services.Put(key, service))
			for to, want := range map[netip.Addr]bool{node: true, own: true, other: !local, x.backends[0]: false} {
				dst := netip.AddrPortFrom(to, key.Port)
				c, err := net.DialTimeout("tcp"+x.network, dst.String(), patience)
				if !want {
					require.ErrorIs(t, err, unix.ECONNREFUSED, "%s local %v", dst, local)
					continue
				}
				require.NoError(t, err, "%s local %v", dst, local)
				require.Equal(t, dst.String(), c.RemoteAddr().String())
				buf := make([]byte, 64)
				n, err := c.Read(buf)
				require.NoError(t, err)
				require.Contains(t, []string{x.backends[0].String(), x.backends[1].String()}, string(buf[:n]))
				require.NoError(t, c.Close())
			}
		}
		pod := newNetns(t)
		pod.do(t, func() error {
			c, err := net.DialTimeout("tcp"+x.network, netip.AddrPortFrom(own, key.Port).String(), patience)
			if err == nil {
				_ = c.Close()
				return errors.New("loopback of a pod is not the node's")
			}
			return nil
		})
	}
}
