// Package cni is the plugin that container runtimes call to attach a pod: the verbs of the CNI
// specification 1.1 (and of 1.0.0, 0.4.0 and 0.3.1 for older runtimes).
//
// The agent decides (addresses, names, policy), the plugin makes the link. ADD returns only when the
// pod's policy is in force in the kernel, and until then the link is down: no pod ever runs without its
// policy. DEL removes the link first, so that no address is given out again while its old link lives.
//
// When no agent answers, or one that does not serve pods yet, ADD waits for it as long as the configured time
// limit, then fails with "try again later" and the reason; CHECK fails so at once, STATUS with "not available",
// and DEL succeeds once the link is gone: a pod must be removable while the agent is being upgraded. What
// the agent still remembers of it goes away with the next GC, or when the agent finds the link absent.
package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weirnet/weir/ports"
)

// Versions of the CNI specification that the plugin speaks.
var Versions = version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Error codes of our own (the specification leaves 100 and above to plugins).
const (
	// CodeAddress says that a requested address cannot be had.
	CodeAddress uint = 100
	// CodeDiffers says that CHECK found the attachment not as it was made.
	CodeDiffers uint = 101
)

// Config of a Plugin.
type Config struct {
	// Dial gives the agent behind a socket; it does not fail, the questions to the agent do.
	Dial func(socket string) ports.Endpoints
	// Unreachable recognises the errors of Dial's result that mean that no agent answered.
	Unreachable func(error) bool
	// Network of the node.
	Network ports.Network
	// DefaultSocket is the agent's socket when the network configuration names none.
	DefaultSocket string
	// Exec runs the plugin to which addresses are delegated; nil runs programs found in CNI_PATH.
	Exec invoke.Exec
	// Stdout takes results; nil is os.Stdout.
	Stdout io.Writer
}

// Plugin carries out the verbs. It keeps nothing between two of them.
type Plugin struct {
	Config
}

// New makes a plugin.
func New(c Config) *Plugin {
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	return &Plugin{c}
}

// Run reads one call from the environment and the standard input as the specification says, answers
// on the standard output, and returns the exit status of the process.
func (p *Plugin) Run(about string) int {
	e := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: p.Add, Del: p.Del, Check: p.Check, GC: p.GC, Status: p.Status,
	}, Versions, about)
	if e == nil {
		return 0
	}
	if err := e.Print(); err != nil {
		fmt.Fprintln(os.Stderr, "print the error:", err)
	}
	return 1
}

// call is one verb under way.
type call struct {
	*Plugin
	verb string
	// socket of the agent
	socket string
	args   *skel.CmdArgs
	conf   *netConf
	agent  ports.Endpoints
	log    *slog.Logger
}

// do parses the configuration, runs a verb with the configured time limit and logs the outcome.
// Errors are *types.Error.
func (p *Plugin) do(verb string, args *skel.CmdArgs, f func(context.Context, *call) error) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	c := &call{Plugin: p, verb: verb, args: args, conf: conf}
	socket := conf.AgentSocket
	if socket == "" {
		socket = p.DefaultSocket
	}
	c.socket = socket
	c.agent = p.Dial(socket)
	if closer, ok := c.agent.(interface{ Close() }); ok {
		defer closer.Close()
	}
	logs, closeLog := openLog(conf.logFile())
	defer closeLog()
	c.log = logs.With("command", verb, "container", args.ContainerID, "interface", args.IfName, "netns", args.Netns)

	ctx, cancel := context.WithTimeout(context.Background(), conf.timeout())
	defer cancel()
	begin := time.Now()
	err = f(ctx, c)
	if err != nil {
		err = c.asError(err)
		c.log.Error("failed", "error", err, "took", time.Since(begin))
		return err
	}
	c.log.Info("done", "took", time.Since(begin))
	return nil
}

// openLog opens a log to append to; "" is none. A log that cannot be written must not keep a pod from
// starting: the standard error output, which runtimes record, takes its place.
func openLog(path string) (*slog.Logger, func()) {
	if path == "" {
		return slog.New(slog.DiscardHandler), func() {}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		l := slog.New(slog.NewTextHandler(os.Stderr, nil))
		l.Warn("log file cannot be opened", "error", err)
		return l, func() {}
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { f.Close() }
}

// absent says whether the error means that no agent is there or that it did not answer in time.
func (p *Plugin) absent(err error) bool {
	return p.Unreachable != nil && p.Unreachable(err)
}

// asError gives an error its code.
func (c *call) asError(err error) error {
	var known *types.Error
	if errors.As(err, &known) {
		if error(known) == err {
			return known
		}
		return types.NewError(known.Code, known.Msg, err.Error())
	}
	code := types.ErrInternal
	switch {
	case c.absent(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, ports.ErrFull), errors.Is(err, ports.ErrClosed):
		code = types.ErrTryAgainLater
	}
	return types.NewError(code, c.verb+": "+err.Error(), "")
}

func fail(code uint, format string, args ...any) error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}
