package lab_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// callEnv makes this test binary somebody who calls services, or answers: "ask TARGET…", "keep TARGET…" or
// "tell ADDRESS". A target is "tcp/ADDRESS" or "udp/ADDRESS".
const callEnv = "WEIR_TEST_CALL"

// patience is how long a call waits for its answer.
const patience = 3 * time.Second

// calls is what came of a target that was kept busy.
type calls struct {
	Target string
	Sent   int    // messages on one connection, connections or datagrams
	Lost   int    // of these, never answered
	Error  string // the last one
}

func call(order string) error {
	role, rest, _ := strings.Cut(order, " ")
	targets := strings.Fields(rest)
	switch role {
	case "tell":
		return tell(rest)
	case "ask":
		for _, t := range targets {
			by, err := ask(t)
			if err != nil {
				by = "nobody: " + err.Error()
			}
			fmt.Println(by)
		}
		return nil
	case "keep":
		return json.NewEncoder(os.Stdout).Encode(keepCalling(targets))
	}
	return fmt.Errorf("order %q: want ask, keep or tell", order)
}

// tell answers every connection and datagram with the address that it comes from.
func tell(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintln(c, host)
			c.Close()
		}
	}()
	fmt.Println("listening")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}

// ask calls once and returns the first line of the answer.
func ask(target string) (string, error) {
	network, address, _ := strings.Cut(target, "/")
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// keepCalling calls every target again and again until its input ends: by new connections or datagrams and, for TCP,
// by messages on one connection.
func keepCalling(targets []string) []calls {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	var mu sync.Mutex
	var out []calls
	var wg sync.WaitGroup
	start := func(f func(string, <-chan struct{}) calls, target string) {
		wg.Go(func() {
			c := f(target, done)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, c)
		})
	}
	for _, t := range targets {
		start(again, t)
		if strings.HasPrefix(t, "tcp/") {
			start(talk, t)
		}
	}
	wg.Wait()
	return out
}

func again(target string, done <-chan struct{}) calls {
	out := calls{Target: target + " again"}
	for {
		out.Sent++
		if _, err := ask(target); err != nil {
			out.Lost++
			out.Error = err.Error()
		}
		select {
		case <-done:
			return out
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// talk sends numbered lines over one connection and wants them back.
func talk(target string, done <-chan struct{}) calls {
	out := calls{Target: target + " kept"}
	err := func() error {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(target, "tcp/"), patience)
		if err != nil {
			return err
		}
		defer c.Close()
		r := bufio.NewReader(c)
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := r.ReadString('\n'); err != nil { // who it is
			return err
		}
		for {
			out.Sent++
			_ = c.SetDeadline(time.Now().Add(patience))
			want := fmt.Sprintf("%d\n", out.Sent)
			if _, err := io.WriteString(c, want); err != nil {
				return err
			}
			if got, err := r.ReadString('\n'); err != nil {
				return err
			} else if got != want {
				return errors.New("another line came back")
			}
			select {
			case <-done:
				return nil
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	if err != nil {
		out.Lost++
		out.Error = err.Error()
	}
	return out
}
