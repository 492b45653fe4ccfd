// Package testpod is the program of the connectivity test's pods: a server that tells who it is and who
// asked, and the probes that such a pod makes.
package testpod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/weirnet/weir/core/connectivity"
)

// Ports are what a server listens on: HTTP on all of them, UDP on the first.
var Ports = []uint16{connectivity.PortHTTP, connectivity.PortAlternative, connectivity.PortBeyond}

// Serve answers on the ports until the context ends. name is what it calls itself; empty means the value of
// $POD_NAME or else the host's name. Without ports it only waits.
func Serve(ctx context.Context, name string, ports []uint16) error {
	if name == "" {
		name = os.Getenv("POD_NAME")
	}
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return fmt.Errorf("find out the own name: %w", err)
		}
	}
	failed := make(chan error, len(ports)+1)
	for i, port := range ports {
		if err := serveHTTP(ctx, name, port, failed); err != nil {
			return err
		}
		if i == 0 {
			if err := serveUDP(ctx, name, port, failed); err != nil {
				return err
			}
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func serveHTTP(ctx context.Context, name string, port uint16, failed chan<- error) error {
	lc := net.ListenConfig{}
	// Multipath TCP, Go's default, is not what the test is about.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(connectivity.Greeting{Name: name, Source: plain(r.RemoteAddr), Echo: r.URL.Query().Get("echo")})
		}),
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve port %d: %w", port, err)
		}
	}()
	return nil
}

func serveUDP(ctx context.Context, name string, port uint16, failed chan<- error) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				failed <- fmt.Errorf("serve UDP port %d: %w", port, err)
				return
			}
			answer, _ := json.Marshal(connectivity.Greeting{Name: name, Source: plain(from.String()), Echo: string(b[:n])})
			_, _ = c.WriteToUDPAddrPort(answer, from) // who does not listen any more has gone
		}
	}()
	return nil
}

// plain writes IPv4 addresses that came in by an IPv6 socket as IPv4.
func plain(s string) string {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return s
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
}
