package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// dirPrefix begins the name of every cluster's folder.
const dirPrefix = "weir-kubetest-"

// process is a server that was started; done is closed when it has ended and been waited for.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs a program whose output goes to a file. The program dies with this process: the kernel
// sends it SIGKILL.
func start(log, path string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	defer out.Close()
	p := &process{cmd: exec.Command(path, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = filepath.Dir(log)
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the thread that forked ends, not the process: this one stays
		// until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait() // how it ended is in its log
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	return p, nil
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
}

// tail is the end of what the process has printed.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// freePorts gives two TCP ports of 127.0.0.1 that nobody listens on.
func freePorts() (a, b int, err error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, 0, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // both are held until both are known, so they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}

// makeDir makes the folder of a cluster, locked as long as this process lives, and removes those whose
// process was killed.
func makeDir() (string, *os.File, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	for _, dir := range old {
		if lock, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
	for {
		dir, err := os.MkdirTemp("", dirPrefix)
		if err != nil {
			return "", nil, fmt.Errorf("make a folder: %w", err)
		}
		lock, err := lockDir(dir)
		if err != nil && (errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist)) {
			continue // somebody else who cleans up was faster
		}
		if err != nil {
			return "", nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if _, err := os.Stat(dir); err != nil {
			lock.Close()
			continue
		}
		return dir, lock, nil
	}
}

// lockDir takes the lock of a folder, which its file descriptor holds.
func lockDir(dir string) (*os.File, error) {
	if !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return nil, fmt.Errorf("%s is not a folder of kubetest", dir)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
