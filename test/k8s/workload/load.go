package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	interval     = 20 * time.Millisecond // between two connections, or two messages on one
	patience     = 5 * time.Second       // until a connection counts as failed
	slow         = 900 * time.Millisecond
	keptFailures = 20
)

// report is what load has seen so far. Slow counts what took so long that a packet must have been sent
// again.
type report struct {
	New      int       `json:"new"`      // connections made, one message each
	Messages int       `json:"messages"` // on connections that stay
	Failed   int       `json:"failed"`
	Slow     int       `json:"slow"`
	Slowest  float64   `json:"slowest_s"`
	Since    time.Time `json:"since"`
	Failures []string  `json:"failures,omitempty"` // the first ones
}

type recorder struct {
	mu sync.Mutex
	r  report
}

func (r *recorder) add(fresh bool, target string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.r.Failed++
		if len(r.r.Failures) < keptFailures {
			r.r.Failures = append(r.r.Failures, fmt.Sprintf("%s %s (new %t, after %v): %v", time.Now().UTC().Format("15:04:05.000"), target, fresh, took, err))
		}
	case fresh:
		r.r.New++
	default:
		r.r.Messages++
	}
	if took > slow {
		r.r.Slow++
	}
	r.r.Slowest = max(r.r.Slowest, took.Seconds())
}

// load keeps two things going with the TCP echo of each host, until it is told to end: connections that
// are made, used once and closed, and one connection that stays.
func load(hosts []string) error {
	var rec recorder
	rec.r.Since = time.Now()
	for _, h := range hosts {
		target := net.JoinHostPort(h, "8081")
		go fleeting(&rec, target)
		go lasting(&rec, target)
	}
	go func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		<-c
		os.Exit(0)
	}()
	return http.ListenAndServe(":9090", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		json.NewEncoder(w).Encode(rec.r)
	}))
}

func fleeting(rec *recorder, target string) {
	for ; ; time.Sleep(interval) {
		start := time.Now()
		conn, err := net.DialTimeout("tcp", target, patience)
		if err == nil {
			err = exchange(conn)
			conn.Close()
		}
		rec.add(true, target, time.Since(start), err)
	}
}

func lasting(rec *recorder, target string) {
	for ; ; time.Sleep(interval) {
		conn, err := net.DialTimeout("tcp", target, patience)
		if err != nil {
			rec.add(false, target, 0, err)
			continue
		}
		for err == nil {
			start := time.Now()
			err = exchange(conn)
			rec.add(false, target, time.Since(start), err)
			time.Sleep(interval)
		}
		conn.Close()
	}
}

// exchange sends some bytes and wants them back.
func exchange(conn net.Conn) error {
	message, answer := []byte("still there?"), make([]byte, 12)
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	for n := 0; n < len(answer); {
		k, err := conn.Read(answer[n:])
		if err != nil {
			return err
		}
		n += k
	}
	if !bytes.Equal(message, answer) {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}
