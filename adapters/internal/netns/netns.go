// Package netns lets one goroutine work inside a Linux network namespace, and makes and removes named
// namespaces the way the ip command does, so that both see each other's.
//
// A thread that has entered a namespace is never given back to the Go scheduler: the goroutine that
// entered ends while locked to its thread, and the runtime then ends the thread. A failed way back can
// therefore not leave other goroutines in a foreign namespace.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic is the file system type of namespace files (NSFS_MAGIC in linux/magic.h).
const nsfsMagic = 0x6e736673

// self is the namespace of the calling thread.
const self = "/proc/thread-self/ns/net"

// Open opens a namespace by its path. The error wraps fs.ErrNotExist if nothing is there, or if the
// path is a file that no namespace is mounted on (what remains of a removed one). The caller closes.
func Open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	if err := check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func check(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("network namespace %s: statfs: %w", f.Name(), err)
	}
	if int64(st.Type) != nsfsMagic {
		return fmt.Errorf("network namespace %s: no namespace is mounted there: %w", f.Name(), fs.ErrNotExist)
	}
	return nil
}

// Same says whether two paths lead to the same namespace; "" is that of the process.
func Same(a, b string) (bool, error) {
	ia, err := inode(a)
	if err != nil {
		return false, err
	}
	ib, err := inode(b)
	return ia == ib, err
}

func inode(path string) (uint64, error) {
	if path == "" {
		path = self
	}
	f, err := Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("network namespace %s: stat: %w", path, err)
	}
	return st.Ino, nil
}

// Do runs f on a thread of its own inside the namespace at path and returns f's error. Sockets opened
// by f stay in that namespace; goroutines started by f do not run in it. An empty path is the
// process's own namespace: f then runs in the calling goroutine.
func Do(path string, f func() error) error {
	if path == "" {
		return f()
	}
	file, err := Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return OnThread(func() error {
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: enter: %w", path, err)
		}
		return f()
	})
}

type outcome struct {
	err      error
	panicked any
}

// OnThread runs f on an operating system thread that ends afterwards. A panic of f reaches the caller.
func OnThread(f func() error) error {
	done := make(chan outcome, 1)
	go runAndEnd(f, done)
	o := <-done
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

func runAndEnd(f func() error, done chan<- outcome) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end, and its namespace is what others see as the process's. While it is
		// held here, another goroutine gets another thread.
		defer runtime.UnlockOSThread()
		inner := make(chan outcome, 1)
		go runAndEnd(f, inner)
		done <- <-inner
		return
	}
	// Not unlocked on purpose: see the package comment.
	var o outcome
	finished := false
	defer func() {
		if !finished {
			if o.panicked = recover(); o.panicked == nil {
				// runtime.Goexit, as testing.T.FailNow does.
				o.err = errors.New("function called in a network namespace did not return")
			}
		}
		done <- o
	}()
	o.err = f()
	finished = true
}
