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
	"github.com/weirnet/weir/adapters/kubernetes/playground"
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
	node     string // of the lab, instead of a socket
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	getenv   func(string) string
	connect  func(socket string) ports.Inspector
	// playground connects to a cluster for the connectivity test.
	playground func(playground.Options) (ports.Playground, error)
}

func newGlobals(in io.Reader, out, err io.Writer) *globals {
	return &globals{in: in, out: out, err: err, now: time.Now, getenv: os.Getenv,
		connect:    func(socket string) ports.Inspector { return api.NewClient(socket) },
		playground: func(o playground.Options) (ports.Playground, error) { return playground.Open(o) }}
}

func (g *globals) defaultSocket() string {
	if s := g.getenv(api.SocketEnv); s != "" {
		return s
	}
	return api.DefaultSocket
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
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errNo):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(g.err, "%s: %v\nRun '%s --help' for usage.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	case errors.Is(err, api.ErrUnreachable):
		fmt.Fprintf(g.err, "%s: %v\nIs weir-agent running on this node? --socket or %s names another socket.\n",
			cmd.CommandPath(), err, api.SocketEnv)
		return exitFailed
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(g.err, "%s: interrupted\n", cmd.CommandPath())
		return exitFailed
	}
	fmt.Fprintf(g.err, "%s: %v\n", cmd.CommandPath(), err)
	return exitFailed
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
