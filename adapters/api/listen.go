package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode lets root and the socket's group talk to the agent.
const socketMode = 0o660

// Listen opens the agent's socket. A socket that a dead agent left behind is replaced; if another
// agent is alive there, the error says so. A lock on a file beside the socket keeps two agents that
// start at once from taking it from each other; it goes with the process, so it cannot be stale.
// Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	lock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), lock.Close())
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close(), lock.Close())
	}
	return &listener{Listener: l, lock: lock}, nil
}

// listener gives the lock back once the socket is gone.
type listener struct {
	net.Listener
	lock *os.File
}

func (l *listener) Close() error {
	return errors.Join(l.Listener.Close(), ignoreClosed(l.lock.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func lockSocket(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("listen on %s: another agent is running there", path)
		}
		return nil, fmt.Errorf("listen on %s: lock: %w", path, err)
	}
	return f, nil
}

// removeStale removes a socket that nobody listens on. Anything that is not a socket is left alone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen on %s: %w", path, err)
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("listen on %s: a file that is no socket is in the way", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen on %s: another agent is running there", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: is it in use? %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listen on %s: remove the socket of a dead agent: %w", path, err)
	}
	return nil
}
