package testpod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Patience of Hold.
const (
	firstTry = 2 * time.Minute  // until the first answer
	heldFor  = 10 * time.Second // until an answer is missing
)

// Hold makes one connection to a test pod's server and keeps it: a request every interval, each answered on that very
// connection. It serves as Serve does from the first answer on, so that whoever waits for it knows. It returns when the context
// ends, and with an error when the connection does.
func Hold(ctx context.Context, to string, interval time.Duration, ports []uint16) error {
	if interval <= 0 {
		return fmt.Errorf("interval %s: want more than 0", interval)
	}
	c, err := firstAnswer(ctx, to)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, "", ports) }()
	in := bufio.NewReader(c)
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-time.After(interval):
		}
		if err := ask(c, in, to); err != nil {
			return fmt.Errorf("the connection %s -> %s is lost after %d answers: %w", c.LocalAddr(), c.RemoteAddr(), n, err)
		}
	}
}

// firstAnswer tries until there is a connection that works.
func firstAnswer(ctx context.Context, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, firstTry)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		c, err := dialer().DialContext(attempt, "tcp", to)
		done()
		if err == nil {
			if err = ask(c, bufio.NewReader(c), to); err == nil {
				return c, nil
			}
			c.Close()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no connection to %s: %w", to, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// ask makes one request on a connection and takes the whole answer.
func ask(c net.Conn, in *bufio.Reader, host string) error {
	if err := c.SetDeadline(time.Now().Add(heldFor)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err
	}
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	if response.Close {
		return errors.New("the server closes the connection")
	}
	_, err = in.Discard(int(response.ContentLength))
	return err
}
