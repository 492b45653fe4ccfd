package testpod

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/connectivity"
)

// A way that is narrower than its sender believes lets small packets through, and no whole ones.
func TestWholePackets(t *testing.T) {
	needs.Root(t, "make network namespaces")
	const a, b = "weir-testpod-a", "weir-testpod-b"
	for _, name := range []string{a, b} {
		_ = netns.Delete(name)
		_, err := netns.Create(name)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, netns.Delete(name)) })
	}
	in := func(name, command string) {
		t.Helper()
		require.NoError(t, netns.Do(netns.Path(name), func() error {
			out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ip %s: %w: %s", command, err, out)
			}
			return nil
		}))
	}
	in(a, "link add v0 mtu 1500 type veth peer name v1 netns "+b)
	for i, name := range []string{a, b} {
		in(name, fmt.Sprintf("link set v%d up", i))
		in(name, fmt.Sprintf("addr add 10.0.0.%d/24 dev v%d", i+1, i))
		in(name, fmt.Sprintf("addr add fd00::%d/64 dev v%d nodad", i+1, i))
	}
	try := func(addr string, full bool) (o connectivity.Outcome) {
		require.NoError(t, netns.Do(netns.Path(a), func() error {
			p := connectivity.Probe{Kind: connectivity.ICMP, Addr: netip.MustParseAddr(addr), Full: full}
			o = try(t.Context(), connectivity.Timed{Probe: p, Timeout: 2 * time.Second})
			return nil
		}))
		return o
	}
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		o := try(addr, true)
		require.Equal(t, connectivity.Answered, o.Result, "%s %s", addr, o.Detail)
	}
	in(b, "link set v1 mtu 1300")
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		o := try(addr, false)
		require.Equal(t, connectivity.Answered, o.Result, "%s %s", addr, o.Detail)
		o = try(addr, true)
		require.NotEqual(t, connectivity.Answered, o.Result, addr)
	}
}

// relay passes one connection at a time on to a server, until it is cut.
func relay(t *testing.T, to string) (address string, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			go func() { _, _ = io.Copy(s, c) }()
			go func() { _, _ = io.Copy(c, s); c.Close() }()
			accepted <- c
		}
	}()
	return l.Addr().String(), func() { (<-accepted).Close() }
}

func TestHoldFailsWhenTheConnectionDoes(t *testing.T) {
	server := fmt.Sprintf("127.0.0.1:%d", serve(t, "server"))
	address, cut := relay(t, server)
	own := freePort(t)
	done := make(chan error, 1)
	address = strings.Replace(address, "127.0.0.1", "[127.0.0.1]", 1) // as the test's pods are told it, for both families
	go func() { done <- Hold(t.Context(), address, time.Millisecond, []uint16{own}) }()
	require.Eventually(t, func() bool {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", own))
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond, "it serves once the connection is there")
	select {
	case err := <-done:
		t.Fatal("it ended before its connection did: ", err)
	case <-time.After(50 * time.Millisecond):
	}
	cut()
	require.ErrorContains(t, <-done, "is lost after")

	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- Hold(ctx, server, time.Millisecond, []uint16{freePort(t)}) }()
	time.Sleep(50 * time.Millisecond)
	cancel()
	<-done // with an error only if it had not come to its first answer
	require.ErrorContains(t, Hold(t.Context(), server, 0, nil), "interval 0s: want more than 0")
}

// Whoever closes the connection after the answer does not keep it.
func TestAskWantsAnAnswerThatLeavesTheConnection(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":                      "",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}": "closes the connection",
		"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n":                        "answered 503 No",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}":                      "EOF",
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = http.ReadRequest(bufio.NewReader(theirs))
			_, _ = io.WriteString(theirs, answer)
			theirs.Close()
		}()
		err := ask(ours, bufio.NewReader(ours), "x")
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
		ours.Close()
	}
}
