package bed

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config is the administrator's, for a client in this process: connections are made in the cluster's
// network. There is no client-side rate limit.
func (b *Bed) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", b.o.Prefix, err)
	}
	config.QPS = -1
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialIn(ctx, b.Namespace("cp"), network, address)
	}
	return config, nil
}

// dialIn connects from a network namespace. address must be numeric: names would be looked up in the
// namespace of this process.
func dialIn(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is not given back: the runtime ends it with this goroutine.
		runtime.LockOSThread()
		var r result
		if r.err = enter(namespace); r.err == nil {
			r.conn, r.err = new(net.Dialer).DialContext(ctx, network, address)
		}
		done <- r
	}()
	r := <-done
	return r.conn, r.err
}

// enter moves the calling thread into a network namespace.
func enter(namespace string) error {
	f, err := os.Open(namespace)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return nil
}
