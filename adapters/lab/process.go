package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// process names a running process. The start time (clock ticks since boot) guards against a number
// that was given out again.
type process struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
}

// processStat reads the state letter and the start time of a process.
func processStat(pid int) (state byte, start uint64, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	// The name in parentheses may hold anything; the fields count from its end.
	s := string(b)
	i := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[i+1:])
	if i < 0 || len(f) < 20 {
		return 0, 0, fmt.Errorf("process %d: cannot read its stat", pid)
	}
	start, err = strconv.ParseUint(f[19], 10, 64)
	return f[0][0], start, err
}

// alive says whether that very process runs.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	state, start, err := processStat(p.PID)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}

// signal sends to that very process; one that is gone is no error.
func (p process) signal(sig unix.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	// The descriptor pins the process, so that checking and signalling mean the same one.
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %s: %w", p.PID, sig, err)
	}
	return nil
}

// stop ends the process: politely first, by force after the grace period.
func (p process) stop(grace time.Duration) error {
	if grace > 0 {
		if err := p.signal(unix.SIGTERM); err != nil {
			return err
		}
		if p.wait(grace) {
			return nil
		}
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	if !p.wait(5 * time.Second) {
		return fmt.Errorf("process %d: does not end after SIGKILL", p.PID)
	}
	return nil
}

// wait returns true once the process is gone, false after the timeout.
func (p process) wait(timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	for p.alive() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// command prepares argv to run in a network namespace and cgroup of the lab. The caller closes the
// returned file after the start.
func (l *Lab) command(space, cgroup string, argv ...string) (*exec.Cmd, *os.File, error) {
	args := append([]string{helperRunIn, "--netns", netns.Path(space), "--"}, argv...)
	cmd := exec.Command(l.o.Self, args...)
	dir, err := os.OpenFile(cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cgroup: %w", err)
	}
	// Born in its cgroup: whatever happens to us, Down finds it there.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	cmd.Dir = "/"
	return cmd, dir, nil
}

// startDaemon runs argv beyond our own end, with its output appended to the log file.
func (l *Lab) startDaemon(netns, cgroup, log string, extra []*os.File, argv ...string) (process, error) {
	cmd, dir, err := l.command(netns, cgroup, argv...)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer dir.Close()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, extra
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	_, start, err := processStat(cmd.Process.Pid)
	p := process{PID: cmd.Process.Pid, Start: start}
	// Reaps it if it ends before we do.
	go func() { _ = cmd.Wait() }()
	if err != nil {
		return p, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return p, nil
}

// tail returns the last lines of a log for an error message.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// runWithin runs a command to its end; it is killed when the context ends or the time is over.
func runWithin(ctx context.Context, cmd *exec.Cmd, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// signalTerm asks the process to end.
func (p process) signalTerm() error { return p.signal(unix.SIGTERM) }
