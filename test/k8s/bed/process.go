package bed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one that Start began; done is closed when it has ended and been waited for.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// command runs a program to its end and gives what it printed.
func command(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return output(exec.CommandContext(ctx, name, args...))
}

// output runs a command and gives what it wrote to stdout, without space around it. The error holds
// what it wrote to stderr.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), err
}

// Start runs a program in a namespace ("cp" or a node's name) until Stop or Down; only its network is
// that namespace's. Its output goes to Dir()/log/NAME.log.
func (b *Bed) Start(name, namespace string, argv ...string) error {
	if err := b.makeCgroups("cp"); err != nil {
		return err
	}
	join := "echo $$ >" + filepath.Join(unified(), b.o.Prefix, "cp", "cgroup.procs")
	return b.start(name, namespace, join, argv...)
}

// start runs a program after the lines of shell in prepare, which join cgroups.
func (b *Bed) start(name, namespace, prepare string, argv ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.procs[name]; p != nil && !p.ended() {
		return fmt.Errorf("start %s: it is running", name)
	}
	log := filepath.Join(b.dir, "log", name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	args := append([]string{"--net=" + b.Namespace(namespace), "bash", "-c", "set -e\n" + prepare + "\nexec \"$@\"", "start"}, argv...)
	p := &process{cmd: exec.Command("nsenter", args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = b.dir
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if b.o.Ephemeral {
		p.cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
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
		return fmt.Errorf("start %s: %w", name, err)
	}
	b.procs[name] = p
	return nil
}

// PID is that of a process that Start began, 0 if it has ended.
func (b *Bed) PID(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.procs[name]; p != nil && !p.ended() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Stop ends a process with a signal and waits until it has gone; it is killed if that takes longer
// than grace. One that has ended, or that never was, is no error.
func (b *Bed) Stop(name string, signal os.Signal, grace time.Duration) {
	b.mu.Lock()
	p := b.procs[name]
	delete(b.procs, name)
	b.mu.Unlock()
	if p == nil {
		return
	}
	p.cmd.Process.Signal(signal) // an error means that it has ended
	select {
	case <-p.done:
	case <-time.After(grace):
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// alive is an error once a process has ended, with the end of its output.
func (b *Bed) alive(name string) error {
	b.mu.Lock()
	p := b.procs[name]
	b.mu.Unlock()
	if p != nil && !p.ended() {
		return nil
	}
	return fatal{fmt.Errorf("%s has ended:\n%s", name, b.Tail(name, 15))}
}

// Tail is the last lines of what a process printed.
func (b *Bed) Tail(name string, lines int) string {
	return tail(filepath.Join(b.dir, "log", name+".log"), lines, "")
}

// tail is the last lines of a file, of those that begin with prefix; why there are none, if it cannot
// be read.
func tail(path string, lines int, prefix string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var all [][]byte
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte(prefix)) {
			all = append(all, bytes.TrimSuffix(line, []byte("\n")))
		}
	}
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
