package testpod

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/core/connectivity"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// freePort finds a port that nobody listens on, TCP or UDP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			u.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free for TCP and UDP")
	return 0
}

// serve runs a server until the test ends.
func serve(t *testing.T, name string) uint16 {
	t.Helper()
	port := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, name, []uint16{port}) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	return port
}

func one(t *testing.T, p connectivity.Probe, timeout time.Duration) connectivity.Outcome {
	t.Helper()
	out := Run(t.Context(), connectivity.Job{Probes: []connectivity.Timed{{Probe: p, Timeout: timeout}}})
	require.Len(t, out, 1)
	return out[0]
}

func TestServersTellWhoTheyAreAndWhoAsked(t *testing.T) {
	port := serve(t, "pod-1")
	for _, kind := range []connectivity.Kind{connectivity.HTTP, connectivity.UDP} {
		o := one(t, connectivity.Probe{Kind: kind, Addr: loopback, Port: port}, 5*time.Second)
		require.Equal(t, connectivity.Answered, o.Result, "%s: %s", kind, o.Detail)
		require.Equal(t, "pod-1", o.By)
		require.Equal(t, loopback, o.Source)
	}
	o := one(t, connectivity.Probe{Kind: connectivity.TCP, Addr: loopback, Port: port}, 5*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
	require.Empty(t, o.By)
}

func TestRefusalIsNotSilence(t *testing.T) {
	port := freePort(t)
	for _, kind := range []connectivity.Kind{connectivity.HTTP, connectivity.TCP, connectivity.UDP} {
		o := one(t, connectivity.Probe{Kind: kind, Addr: loopback, Port: port}, 5*time.Second)
		require.Equal(t, connectivity.Refused, o.Result, "%s: %s", kind, o.Detail)
	}
	// Servers that take everything and say nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	o := one(t, connectivity.Probe{Kind: connectivity.HTTP, Addr: loopback, Port: uint16(l.Addr().(*net.TCPAddr).Port)}, 200*time.Millisecond)
	require.Equal(t, connectivity.Silent, o.Result, o.Detail)
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer u.Close()
	o = one(t, connectivity.Probe{Kind: connectivity.UDP, Addr: loopback, Port: uint16(u.LocalAddr().(*net.UDPAddr).Port)}, 200*time.Millisecond)
	require.Equal(t, connectivity.Silent, o.Result, o.Detail)
}

// A datagram that gets lost is sent again within the time of one try.
func TestLostDatagramsAreSentAgain(t *testing.T) {
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer u.Close()
	go func() {
		b := make([]byte, 100)
		for n := 0; ; n++ {
			k, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if n > 0 {
				_, _ = u.WriteToUDPAddrPort([]byte("noise"), from)
				answer, _ := json.Marshal(connectivity.Greeting{Name: "late", Echo: string(b[:k])})
				_, _ = u.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	o := one(t, connectivity.Probe{Kind: connectivity.UDP, Addr: loopback, Port: uint16(u.LocalAddr().(*net.UDPAddr).Port)}, 10*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
	require.Equal(t, "late", o.By)
	require.GreaterOrEqual(t, o.Took, again)
}

func TestTriesAgainAndKeepsTheOrder(t *testing.T) {
	port := serve(t, "pod-1")
	dead := freePort(t)
	job := connectivity.Job{Parallel: 4}
	for i := range 20 {
		p := port
		if i%2 == 1 {
			p = dead
		}
		job.Probes = append(job.Probes, connectivity.Timed{
			Probe: connectivity.Probe{Kind: connectivity.TCP, Addr: loopback, Port: p}, Timeout: 5 * time.Second, Tries: 2,
		})
	}
	in, err := json.Marshal(job)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, Probe(t.Context(), bytes.NewReader(in), &out))
	var list []connectivity.Outcome
	require.NoError(t, json.Unmarshal(out.Bytes(), &list))
	require.Len(t, list, 20)
	for i, o := range list {
		require.Equal(t, i, o.Index)
		require.Equal(t, i%2 == 0, o.Result == connectivity.Answered, "%d: %+v", i, o)
	}
	require.ErrorContains(t, Probe(t.Context(), strings.NewReader("{"), &out), "read job")
}

func TestNames(t *testing.T) {
	port := serve(t, "pod-1")
	o := one(t, connectivity.Probe{Kind: connectivity.HTTP, Name: "localhost", Port: port}, 5*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
	require.Equal(t, []netip.Addr{loopback}, o.Addrs)
	o = one(t, connectivity.Probe{Kind: connectivity.DNS, Name: "localhost"}, 5*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
	require.Equal(t, []netip.Addr{loopback}, o.Addrs)
}

func TestEchoRequests(t *testing.T) {
	needs.Root(t, "open raw sockets")
	o := one(t, connectivity.Probe{Kind: connectivity.ICMP, Addr: loopback}, 5*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		needs.Missing(t, "ipv6", "no IPv6 on loopback: "+err.Error())
	} else {
		l.Close()
	}
	o = one(t, connectivity.Probe{Kind: connectivity.ICMP, Addr: netip.IPv6Loopback()}, 5*time.Second)
	require.Equal(t, connectivity.Answered, o.Result, o.Detail)
}

func TestClassify(t *testing.T) {
	for want, errs := range map[connectivity.Result][]error{
		connectivity.Answered:    {nil},
		connectivity.Silent:      {context.DeadlineExceeded, os.ErrDeadlineExceeded, &net.OpError{Err: unix.ETIMEDOUT}},
		connectivity.Refused:     {&net.OpError{Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}, unix.ECONNRESET},
		connectivity.Unreachable: {&net.OpError{Err: os.NewSyscallError("connect", unix.EHOSTUNREACH)}, unix.ENETUNREACH, unix.EPERM},
		connectivity.Unresolved:  {&net.DNSError{Err: "no such host", IsNotFound: true}},
		connectivity.Failed:      {errors.New("something else")},
	} {
		for _, err := range errs {
			got, _ := classify(err)
			assert.Equal(t, want, got, "%v", err)
		}
	}
	o := one(t, connectivity.Probe{Kind: "telepathy", Addr: loopback}, time.Second)
	require.Equal(t, connectivity.Failed, o.Result)
	require.Contains(t, o.Detail, "want http, tcp, udp, icmp or dns")
}

func TestServeFailsWhereItCannotListen(t *testing.T) {
	port := serve(t, "pod-1")
	require.ErrorContains(t, Serve(t.Context(), "pod-2", []uint16{port}), "listen")
}
