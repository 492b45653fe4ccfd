package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// serve is the process of a pod: it listens on every port, TCP and UDP, IPv4 and IPv6. A TCP client
// is greeted with the pod's name and a newline, then gets back what it sends. A UDP datagram is answered by
// the name, a newline and its payload. Once all listen, it writes "ready" to file descriptor 3.
func serve(args []string) error {
	fs := flag.NewFlagSet(helperServe, flag.ContinueOnError)
	name := fs.String("name", "", "namespace/name of the pod")
	ports := fs.String("ports", "", "port numbers, separated by commas")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for p := range strings.SplitSeq(*ports, ",") {
		if p == "" {
			continue
		}
		if err := servePort(ctx, *name, p); err != nil {
			return err
		}
	}
	if ready := os.NewFile(3, "ready"); ready != nil {
		_, _ = io.WriteString(ready, "ready\n")
		ready.Close()
	}
	<-ctx.Done()
	return nil
}

func servePort(ctx context.Context, name, port string) error {
	lc := net.ListenConfig{}
	// Multipath TCP listeners, Go's default, cannot be put into kernel socket maps.
	lc.SetMultipathTCP(false)
	for _, f := range []string{"4", "6"} {
		t, err := lc.Listen(ctx, "tcp"+f, ":"+port)
		if err != nil {
			if f == "6" && errors.Is(err, unix.EAFNOSUPPORT) {
				continue
			}
			return err
		}
		go serveTCP(t, name)
		u, err := lc.ListenPacket(ctx, "udp"+f, ":"+port)
		if err != nil {
			return err
		}
		conn := u.(*net.UDPConn)
		if err := wantLocalAddress(conn, f == "6"); err != nil {
			return fmt.Errorf("listen udp%s port %s: %w", f, port, err)
		}
		go serveUDP(conn, name)
	}
	return nil
}

func serveTCP(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			defer c.Close()
			if _, err := io.WriteString(c, name+"\n"); err != nil {
				return
			}
			// Plain reads and writes: io.Copy would splice, which misses data that a socket map hands over.
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if n > 0 {
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// wantLocalAddress asks for the address that each datagram was sent to: a node has several, and the
// answer must come from the one that was asked.
func wantLocalAddress(c *net.UDPConn, ipv6 bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		if ipv6 {
			serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	return errors.Join(err, serr)
}

func serveUDP(c *net.UDPConn, name string) {
	b, oob := make([]byte, 65536), make([]byte, 256)
	for {
		n, on, _, from, err := c.ReadMsgUDPAddrPort(b, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		answer := append([]byte(name+"\n"), b[:n]...)
		_, _, _ = c.WriteMsgUDPAddrPort(answer, sourceOf(oob[:on]), from)
	}
}

// sourceOf turns the control message that says where a datagram was sent to into the one that makes its
// answer come from there. The interface is left to the routing table.
func sourceOf(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := &unix.Inet4Pktinfo{}
			copy(info.Spec_dst[:], m.Data[4:8])
			return unix.PktInfo4(info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := &unix.Inet6Pktinfo{}
			copy(info.Addr[:], m.Data[:16])
			if info.Addr[0] == 0xfe && info.Addr[1]&0xc0 == 0x80 {
				return nil // link-local: meaningless without its interface, which the peer's address names
			}
			return unix.PktInfo6(info)
		}
	}
	return nil
}

func joinPorts(ports []uint16) string {
	s := make([]string, len(ports))
	for i, p := range ports {
		s[i] = strconv.Itoa(int(p))
	}
	return strings.Join(s, ",")
}
