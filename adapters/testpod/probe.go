package testpod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/connectivity"
)

// Probe reads a job from in and writes its outcomes to out, as JSON, in the order of the job's probes.
func Probe(ctx context.Context, in io.Reader, out io.Writer) error {
	var job connectivity.Job
	if err := json.NewDecoder(in).Decode(&job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	return json.NewEncoder(out).Encode(Run(ctx, job))
}

// Run carries out a job.
func Run(ctx context.Context, job connectivity.Job) []connectivity.Outcome {
	out := make([]connectivity.Outcome, len(job.Probes))
	slots := make(chan struct{}, max(job.Parallel, 1))
	var wg sync.WaitGroup
	for i, p := range job.Probes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			begin := time.Now()
			for range max(p.Tries, 1) {
				out[i] = try(ctx, p)
				if out[i].Result == connectivity.Answered {
					break
				}
			}
			out[i].Index, out[i].Took = i, time.Since(begin)
		})
	}
	wg.Wait()
	return out
}

// try makes a probe once.
func try(ctx context.Context, p connectivity.Timed) connectivity.Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var o connectivity.Outcome
	err := func() error {
		addr := p.Addr
		if p.Name != "" {
			addrs, err := resolve(ctx, p.Name, p.IPv6)
			if err != nil {
				return err
			}
			o.Addrs, addr = addrs, addrs[0]
		}
		target := netip.AddrPortFrom(addr, p.Port)
		switch p.Kind {
		case connectivity.DNS:
			return nil
		case connectivity.HTTP:
			return tryHTTP(ctx, target, &o)
		case connectivity.TCP:
			return tryTCP(ctx, target)
		case connectivity.UDP:
			return tryUDP(ctx, target, &o)
		case connectivity.ICMP:
			return tryICMP(ctx, addr, p.Full)
		}
		return fmt.Errorf("probe %q: want http, tcp, udp, icmp or dns", p.Kind)
	}()
	o.Result, o.Detail = classify(err)
	return o
}

// unreachable is what a socket says of an address that nothing can be sent to.
var unreachable = []error{unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPERM, unix.EHOSTDOWN, unix.ENONET}

// classify turns an error into a result.
func classify(err error) (connectivity.Result, string) {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case err == nil:
		return connectivity.Answered, ""
	case errors.As(err, &dns) && dns.IsNotFound:
		return connectivity.Unresolved, err.Error()
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return connectivity.Refused, err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return connectivity.Silent, ""
	}
	for _, u := range unreachable {
		if errors.Is(err, u) {
			return connectivity.Unreachable, err.Error()
		}
	}
	return connectivity.Failed, err.Error()
}

// resolve asks the pod's name server, at least one address.
func resolve(ctx context.Context, name string, v6 bool) ([]netip.Addr, error) {
	network := "ip4"
	if v6 {
		network = "ip6"
	}
	r := net.Resolver{PreferGo: true}
	addrs, err := r.LookupNetIP(ctx, network, name)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look up %s: %w", name, context.DeadlineExceeded)
		}
		return nil, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, nil
}

func dialer() *net.Dialer {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	return d
}

func tryTCP(ctx context.Context, to netip.AddrPort) error {
	c, err := dialer().DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}

func tryHTTP(ctx context.Context, to netip.AddrPort, o *connectivity.Outcome) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: dialer().DialContext, Proxy: nil,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.String()+"/", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	var g connectivity.Greeting
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&g); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	greeted(g, o)
	return nil
}

func greeted(g connectivity.Greeting, o *connectivity.Outcome) {
	o.By = g.Name
	if from, err := netip.ParseAddrPort(g.Source); err == nil {
		o.Source = from.Addr()
	}
}

// again is how long a datagram goes unanswered until it is sent once more: they get lost without a policy.
const again = 700 * time.Millisecond

// exchange sends datagrams until one is answered. The request of a round has a number of its own.
func exchange(ctx context.Context, c net.Conn, request func(n int) []byte, isAnswer func([]byte) bool) error {
	deadline, _ := ctx.Deadline()
	b := make([]byte, 2048)
	for n := 1; ; n++ {
		if _, err := c.Write(request(n)); err != nil {
			return err
		}
		wait := time.Now().Add(again)
		if wait.After(deadline) {
			wait = deadline
		}
		if err := c.SetReadDeadline(wait); err != nil {
			return err
		}
		for {
			k, err := read(c, b)
			if err == nil && isAnswer(b[:k]) {
				return nil
			}
			if err == nil {
				continue
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() && time.Now().Before(deadline) && ctx.Err() == nil {
				break // send again
			}
			return err
		}
	}
}

// read takes the IPv4 header off, which Read of a raw socket leaves in.
func read(c net.Conn, b []byte) (int, error) {
	if ip, ok := c.(*net.IPConn); ok {
		n, _, err := ip.ReadFrom(b)
		return n, err
	}
	return c.Read(b)
}

func tryUDP(ctx context.Context, to netip.AddrPort, o *connectivity.Outcome) error {
	c, err := dialer().DialContext(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	return exchange(ctx, c, func(n int) []byte { return []byte(strconv.Itoa(n)) }, func(b []byte) bool {
		var g connectivity.Greeting
		if json.Unmarshal(b, &g) != nil || g.Name == "" {
			return false
		}
		greeted(g, o)
		return true
	})
}
