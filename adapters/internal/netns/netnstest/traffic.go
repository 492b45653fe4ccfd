package netnstest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// patience is how long an answer may take.
const patience = 3 * time.Second

// Serve answers with the sender's address, on TCP and UDP port 7.
func Serve(t testing.TB, ns string) {
	t.Helper()
	err := netns.Do(netns.Path(ns), func() error {
		l, err := net.Listen("tcp", ":7")
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", ":7")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, host(c.RemoteAddr()))
				c.Close()
			}
		}()
		go func() {
			b := make([]byte, 64)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = u.WriteTo([]byte(host(from)), from)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return strings.TrimPrefix(h, "::ffff:")
}

// SeenAs asks Serve at an address, from a namespace, whom it takes us for.
func SeenAs(ns, network, address string) (seen string, err error) {
	err = netns.Do(netns.Path(ns), func() error {
		c, err := net.DialTimeout(network, net.JoinHostPort(address, "7"), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if network == "udp" {
			fmt.Fprint(c, "?")
			b := make([]byte, 64)
			n, err := c.Read(b)
			seen = string(b[:n])
			return err
		}
		b, err := io.ReadAll(c)
		seen = string(b)
		return err
	})
	return seen, err
}

// Ping asks for an ICMP echo, of network ip4:icmp or ip6:ipv6-icmp, and waits for it.
func Ping(ns, network, address string, request, reply byte) error {
	return netns.Do(netns.Path(ns), func() error {
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		m := []byte{request, 0, 0, 0, 0x12, 0x34, 0, 1}
		if request == 8 { // for IPv6 the kernel fills the checksum in
			sum := uint32(m[0])<<8 + 0x1234 + 1
			m[2], m[3] = byte(^sum>>8), byte(^sum)
		}
		if _, err := c.Write(m); err != nil {
			return err
		}
		for b := make([]byte, 128); ; {
			n, err := c.Read(b)
			if err != nil {
				return err
			}
			m := b[:n]
			if request == 8 && n > 20 {
				m = m[20:] // the header comes with it
			}
			if len(m) >= 8 && m[0] == reply && m[4] == 0x12 && m[5] == 0x34 {
				return nil
			}
		}
	})
}
