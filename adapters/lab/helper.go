package lab

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/lab/load"
)

// The subcommands by which the lab starts its own binary again.
const (
	helperRunIn   = "lab-run-in"
	helperServe   = "lab-serve"
	helperProbe   = "lab-probe"
	helperTraffic = "lab-traffic"
	helperLoad    = "lab-load"
)

// Helper runs one of the lab's own subcommands if args (without the program's name) name one, and
// returns its exit status; ok is false if they do not. Main functions call it before anything else.
func Helper(args []string) (status int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch args[0] {
	case helperRunIn:
		err = runIn(args[1:])
	case helperServe:
		err = serve(args[1:])
	case helperProbe:
		err = probeInside(os.Stdin, os.Stdout)
	case helperTraffic:
		err = trafficInside(os.Stdin, os.Stdout)
	case helperLoad:
		err = load.Run(os.Stdin, os.Stdout)
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return ExitStatus(err), true
	}
	return 0, true
}

// exitStatus is an error with an exit status of its own, as shells use them.
type exitStatus struct {
	status int
	err    error
}

func (e exitStatus) Error() string { return e.err.Error() }
func (e exitStatus) Unwrap() error { return e.err }

// runIn replaces this process by a command inside a namespace.
func runIn(args []string) error {
	fs := flag.NewFlagSet(helperRunIn, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	netns := fs.String("netns", "", "path of the network namespace")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return enterAndExec(*netns, "", "", fs.Args())
}

// enterAndExec replaces this process by argv: in the cgroup, if one is given, in the network
// namespace, and with the host name, if one is given. It returns only on failure, with the exit status
// that shells use: 127 if the command does not exist, 126 if it cannot be run.
func enterAndExec(netns, cgroup, hostname string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("no command given")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		status := 126
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			status = 127
		}
		return exitStatus{status, err}
	}
	if cgroup != "" {
		if err := os.WriteFile(cgroup+"/cgroup.procs", []byte("0"), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	// exec keeps the namespaces of the thread that calls it.
	runtime.LockOSThread()
	if err := setNetns(netns); err != nil {
		return err
	}
	if hostname != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("unshare host name: %w", err)
		}
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set host name %s: %w", hostname, err)
		}
	}
	return exitStatus{126, syscall.Exec(path, argv, os.Environ())}
}

func asExitStatus(err error) (exitStatus, bool) {
	var e exitStatus
	ok := errors.As(err, &e)
	return e, ok
}
