package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/adapters/kubernetes/playground"
	"github.com/weirnet/weir/adapters/testpod"
	"github.com/weirnet/weir/ports"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // failure, or the answer is no
	exitUsage  = 2
)

// globals is what all subcommands share: where to read and write, and how to reach the agent.
type globals struct {
	socket   string
	node     string // of the lab or the cluster, instead of a socket
	program  string // the name this program was called by
	args     []string
	kube     kubeFlags
	remote   bool // agents are asked by commands in their pods, not through a socket
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	getenv   func(string) string
	connect  func(socket string) ports.Inspector
	// playground connects to a cluster for the connectivity test.
	playground  func(playground.Options) (ports.Playground, error)
	openCluster func(cluster.Options) (clusterAccess, error)
	openHelm    func(helm.Target) (helmAccess, error)
}

func newGlobals(in io.Reader, out, err io.Writer) *globals {
	return &globals{in: in, out: out, err: err, now: time.Now, getenv: os.Getenv, program: weirProgram,
		connect: func(socket string) ports.Inspector { return api.NewClient(socket) },
		playground: func(o playground.Options) (ports.Playground, error) {
			o.Local = testpod.Run
			return playground.Open(o)
		},
		openCluster: func(o cluster.Options) (clusterAccess, error) { return cluster.Open(o) },
		openHelm:    func(t helm.Target) (helmAccess, error) { return helm.Open(t, nil) },
	}
}

// sockets are where an agent listens: one started by hand or by a service manager, and one in a pod.
var sockets = []string{api.DefaultSocket, "/var/run/cilium/weir.sock"}

// defaultSocket is the first one that is there.
func (g *globals) defaultSocket() string {
	if s := g.getenv(api.SocketEnv); s != "" {
		return s
	}
	for _, s := range sockets {
		if _, err := os.Stat(s); err == nil {
			return s
		}
	}
	return sockets[0]
}

// agent connects to the agent. Nothing is sent yet, so it cannot fail.
func (g *globals) agent() ports.Inspector { return g.connect(g.socket) }

// usageError is an error of the person who typed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errNo is the answer no: exit status 1, and nothing more to print.
var errNo = errors.New("no")

// report prints an error of a command and returns the exit status.
func (g *globals) report(cmd *cobra.Command, err error) int {
	var usage usageError
	var missing unavailableError
	var done doneError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &done):
		return done.code
	case errors.As(err, &missing):
		fmt.Fprintf(g.err, "%s: %v\n", cmd.CommandPath(), missing)
		return exitFailed
	case errors.Is(err, errNo):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(g.err, "%s: %v\nRun '%s --help' for usage.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	case errors.Is(err, api.ErrUnreachable):
		fmt.Fprintf(g.err, "%s: %v\nIs weir-agent running on this node? --socket or %s names another socket; --kubeconfig makes it a cluster's agents.\n",
			cmd.CommandPath(), err, api.SocketEnv)
		return exitFailed
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(g.err, "%s: interrupted\n", cmd.CommandPath())
		return exitFailed
	}
	fmt.Fprintf(g.err, "%s: %v\n", cmd.CommandPath(), err)
	return exitFailed
}

// unavailableError says that weir does not have a feature whose command or value is known.
type unavailableError struct{ what string }

func (e unavailableError) Error() string { return "not available: " + e.what }

func unavailablef(format string, args ...any) error {
	return unavailableError{fmt.Sprintf(format, args...)}
}

// doneError ends a command early: another program has done its work and gave this exit status.
type doneError struct{ code int }

func (e doneError) Error() string { return fmt.Sprintf("done, exit status %d", e.code) }

// flagError is what is wrong with a flag: usually the person who typed it.
func flagError(err error) error {
	var missing unavailableError
	if errors.As(err, &missing) {
		return missing
	}
	return usageError{err}
}

// group makes a command that only has subcommands: without one it prints its help, with an unknown
// one it suggests.
func group(c *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		msg := fmt.Sprintf("unknown command %q", args[0])
		if s := c.SuggestionsFor(args[0]); len(s) > 0 {
			msg += "; did you mean " + strings.Join(s, " or ") + "?"
		}
		return usageError{errors.New(msg)}
	}
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(sub...)
	return c
}

// args turns cobra's complaints about arguments into usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return usageError{err}
		}
		return nil
	}
}
