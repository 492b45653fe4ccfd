package rtnetlink

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

var (
	router4 = netip.MustParseAddr("10.244.1.1")
	router6 = netip.MustParseAddr("fd00:10:244:1::1")
	pod4    = netip.MustParseAddr("10.244.1.10")
	pod6    = netip.MustParseAddr("fd00:10:244:1::10")
)

// newNode gives a Network in a namespace of its own, with that namespace's path.
func newNode(t *testing.T) (*Network, string) {
	t.Helper()
	path := netns.Path(netnstest.New(t))
	return New(Config{Netns: path}), path
}

// overlayNode is a node with an overlay for both families.
func overlayNode(t *testing.T) (n *Network, path string, links ports.OverlayLinks) {
	t.Helper()
	n, path = newNode(t)
	// As distributions set it.
	inside(t, path, func(*conn) error {
		return setSysctls([]sysctl{
			{path: "ipv4/conf/all/rp_filter", value: "2"},
			{path: "ipv4/conf/default/rp_filter", value: "1"},
		})
	})
	links, err := n.EnsureOverlay(ports.Overlay{MTU: 1450, Routers: []netip.Addr{router4, router6}})
	require.NoError(t, err)
	return n, path, links
}

// newPod describes a pod's link into a new namespace.
func newPod(t *testing.T, index int) ports.PodLink {
	t.Helper()
	a4, a6 := pod4, pod6
	for range index {
		a4, a6 = a4.Next(), a6.Next()
	}
	name := netnstest.New(t)
	return ports.PodLink{
		Netns:     netns.Path(name),
		Interface: "eth0",
		HostName:  datapath.HostDeviceName(name, "eth0"),
		MTU:       1450,
		Addresses: []netip.Addr{a4, a6},
		Gateways:  []netip.Addr{router4, router6},
	}
}

func attach(t *testing.T, n *Network, l ports.PodLink) ports.PodLinkState {
	t.Helper()
	st, err := n.CreatePodLink(l)
	require.NoError(t, err)
	require.NoError(t, n.ActivatePodLink(l))
	return st
}

// inside runs f in a namespace with a connection; a failure ends the test.
func inside(t *testing.T, path string, f func(*conn) error) {
	t.Helper()
	require.NoError(t, in(path, f))
}

func sysctlOf(t *testing.T, path, name string) string {
	t.Helper()
	var b []byte
	require.NoError(t, netns.Do(path, func() (err error) {
		b, err = os.ReadFile(sysctlRoot + name)
		return err
	}))
	return strings.TrimSpace(string(b))
}

// echo sends a datagram from one namespace to an address in another and waits for it to come back. It
// returns the source that the other side saw.
func echo(t *testing.T, from, to string, dst netip.Addr) (netip.Addr, error) {
	t.Helper()
	var server *net.UDPConn
	require.NoError(t, netns.Do(to, func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 0)))
		return err
	}))
	defer server.Close()
	source := make(chan netip.Addr, 1)
	go func() {
		defer close(source)
		b := make([]byte, 64)
		n, peer, err := server.ReadFromUDPAddrPort(b)
		if err == nil {
			source <- peer.Addr().Unmap()
			server.WriteToUDPAddrPort(b[:n], peer)
		}
	}()
	var client *net.UDPConn
	if err := netns.Do(from, func() (err error) {
		client, err = net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		return netip.Addr{}, err
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := client.Write([]byte("hello")); err != nil {
		return netip.Addr{}, err
	}
	if _, err := client.Read(make([]byte, 64)); err != nil {
		return netip.Addr{}, err
	}
	return <-source, nil
}

// capture records the Ethernet frames that arrive on a device, until stop is called.
func capture(t *testing.T, path, device string) (stop func() [][]byte) {
	t.Helper()
	var fd int
	require.NoError(t, netns.Do(path, func() (err error) {
		const allProtocols = uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: dev.Index})
	}))
	return func() [][]byte {
		defer unix.Close(fd)
		var frames [][]byte
		for {
			b := make([]byte, 2048)
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return frames
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
				frames = append(frames, b[:n])
			}
		}
	}
}

// counters are the packets that a device received and sent.
func counters(t *testing.T, path, device string) (rx, tx string) {
	t.Helper()
	var table []byte
	require.NoError(t, netns.Do(path, func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	}))
	for _, line := range strings.Split(string(table), "\n") {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && name == device {
			f := strings.Fields(rest)
			return f[1], f[9]
		}
	}
	t.Fatalf("no device %s in %s", device, path)
	return "", ""
}
