// Command workload is what runs in the pods of a test cluster, and what holds their namespaces.
//
//	workload                             wait for a signal
//	workload serve                       answer on port 8080 (HTTP and UDP) and 8081 (TCP echo)
//	workload get URL                     print the answer; 1 s at most
//	workload sample URL                  ask a hundred times, print every different answer
//	workload udp HOST:PORT               send a packet and print the answer
//	workload echo HOST:PORT              send bytes to a TCP echo and want them back
//	workload lookup NAME                 print the addresses of a name
//	workload load HOST...                connect to each all the time; what happened is on port 9090
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// timeout is how long one exchange may take.
const timeout = time.Second

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		pause()
		return
	}
	var err error
	switch verb := args[0]; {
	case verb == "serve":
		err = serve()
	case verb == "get" && len(args) == 2:
		err = get(args[1], os.Stdout)
	case verb == "sample" && len(args) == 2:
		err = sample(args[1])
	case verb == "udp" && len(args) == 2:
		err = udp(args[1])
	case verb == "echo" && len(args) == 2:
		err = echo(args[1])
	case verb == "lookup" && len(args) == 2:
		err = lookup(args[1])
	case verb == "load" && len(args) > 1:
		err = load(args[1:])
	default:
		err = fmt.Errorf("workload: cannot do %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pause waits for a signal to end, and buries the children of others that end up with it.
func pause() {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range c {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
	}
}

// serve answers until it is told to end.
func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- http.ListenAndServe(":8080", handler(name)) }()
	go func() { failed <- answerUDP(":8080", name) }()
	go func() { failed <- echoTCP(":8081") }()
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	select {
	case err := <-failed:
		return err
	case <-c:
		return nil
	}
}

func handler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hostname":
			fmt.Fprintln(w, name)
		case "/client":
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintln(w, host)
		default:
			fmt.Fprintln(w, r.Method, r.URL.Path)
		}
	})
}

func answerUDP(address, name string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		_, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		conn.WriteTo([]byte(name), from)
	}
}

func echoTCP(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func get(url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Every request is a connection of its own.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func sample(url string) error {
	seen := map[string]bool{}
	for range 100 {
		var answer strings.Builder
		if err := get(url, &answer); err != nil {
			return err
		}
		if !seen[answer.String()] {
			seen[answer.String()] = true
			fmt.Print(answer.String())
		}
	}
	return nil
}

func udp(address string) error {
	conn, err := net.DialTimeout("udp", address, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte("who?")); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", buf[:n])
	return nil
}

func echo(address string) error {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn)
}

func lookup(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*timeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	for _, a := range addrs {
		fmt.Println(a)
	}
	return err
}
