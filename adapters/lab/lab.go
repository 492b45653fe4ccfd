package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// DefaultName is the name of a lab that was not given one, DefaultRoot the directory that holds the run
// directories of labs.
const (
	DefaultName = "lab"
	DefaultRoot = "/run/weir/lab"
)

// MaxNodes is the most nodes a lab can have.
const MaxNodes = 20

// Agent is what the lab asks of a node's agent. The client of the agent's API implements it.
type Agent interface {
	Ready(ctx context.Context) error
	Status(ctx context.Context) (ports.Status, error)
	Endpoints(ctx context.Context) ([]ports.EndpointInfo, error)
	Services(ctx context.Context) ([]ports.ServiceInfo, error)
	Policies(ctx context.Context) (ports.PolicyInfo, error)
	Tables(ctx context.Context) (ports.TablesDump, error)
	Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error
}

// Options of a lab. Dial is needed; the others have defaults.
type Options struct {
	Name string // lower-case letters and digits, at most 12; DefaultName
	Root string // DefaultRoot

	Self      string // the binary that answers to Helper; the running one
	AgentPath string // weir-agent; looked for beside Self, then in $PATH
	CNIPath   string // weir-cni; likewise

	// Routing is how packets reach other nodes' pods: "tunnel" (or empty) or "native". Up reads it.
	Routing string

	// Dial returns a client of the agent API on a unix socket.
	Dial func(socket string) Agent
	// Validate says what is wrong with a Kubernetes object, given as JSON. Nil: everything goes.
	Validate func(file string, object []byte) []cluster.Finding
	// Log tells the progress of longer work, one line at a time. Nil: silence.
	Log func(format string, args ...any)

	// ReadyTimeout bounds the wait for an agent (default one minute), SettleTimeout the wait for the
	// agents to take in a change (default 15 seconds).
	ReadyTimeout, SettleTimeout time.Duration
}

// Lab is a cluster on this machine. A handle has one caller at a time; several handles, also of
// different processes, may be at work, and those that change the lab wait for each other.
type Lab struct {
	o       Options
	dir     string
	st      *state           // nil until opened
	clients map[string]Agent // by node
	traffic trafficRun
}

var _ ports.Lab = (*Lab)(nil)

// A dash would make "weir-a-" a prefix of lab "a-b".
var nameForm = regexp.MustCompile(`^[a-z0-9]{1,12}$`)

// New returns a handle on a lab that need not exist.
func New(o Options) (*Lab, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if !nameForm.MatchString(o.Name) {
		return nil, fmt.Errorf("lab name %q: 1 to 12 lower-case letters and digits are allowed", o.Name)
	}
	if o.Root == "" {
		o.Root = DefaultRoot
	}
	if o.Self == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
		o.Self = self
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = time.Minute
	}
	if o.SettleTimeout == 0 {
		o.SettleTimeout = 15 * time.Second
	}
	return &Lab{o: o, dir: filepath.Join(o.Root, o.Name), clients: map[string]Agent{}}, nil
}

// agent returns the client of a node's agent, the same at every call.
func (l *Lab) agent(node string) Agent {
	if l.clients[node] == nil {
		l.clients[node] = l.o.Dial(l.Socket(node))
	}
	return l.clients[node]
}

// Open returns a handle on an existing lab. ports.ErrNotFound if there is none by that name.
func Open(o Options) (*Lab, error) {
	l, err := New(o)
	if err != nil {
		return nil, err
	}
	return l, l.open()
}

func (l *Lab) open() error {
	st, err := readState(l.statePath())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab %q: %w (weir lab up makes one)", l.o.Name, ports.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("lab %q: %w (weir lab down clears it away)", l.o.Name, err)
	}
	l.st = st
	return nil
}

// List returns the names of the labs that left any trace on this machine, sorted. An empty root is
// DefaultRoot.
func List(root string) []string {
	names := map[string]bool{}
	add := func(name string) {
		if nameForm.MatchString(name) {
			names[name] = true
		}
	}
	entries, _ := os.ReadDir(cmp.Or(root, DefaultRoot))
	for _, e := range entries {
		add(e.Name())
	}
	spaces, _ := listNetns("weir-")
	for _, s := range spaces {
		if name, _, ok := strings.Cut(strings.TrimPrefix(s, "weir-"), "-"); ok {
			add(name)
		}
	}
	if cg, err := cgroupRoot(); err == nil && cg != "" {
		dirs, _ := filepath.Glob(filepath.Join(cg, "weir-*"))
		for _, d := range dirs {
			add(strings.TrimPrefix(filepath.Base(d), "weir-"))
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Name of the lab.
func (l *Lab) Name() string { return l.o.Name }

// locked runs f while no other command changes the lab, with the latest record.
func (l *Lab) locked(ctx context.Context, f func() error) error {
	held, err := l.lock(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab %q: %w (weir lab up makes one)", l.o.Name, ports.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer held.Close()
	if err := l.open(); err != nil {
		return err
	}
	return f()
}

func (l *Lab) lock(ctx context.Context) (*os.File, error) {
	told := false
	return lock(l.dir, func() error {
		if !told {
			l.o.Log("waiting for another command that works on lab %q", l.o.Name)
			told = true
		}
		return sleep(ctx, 50*time.Millisecond)
	})
}

// binary finds a program of weir's: as given, beside the running binary, or in $PATH.
func (l *Lab) binary(given, name string) (string, error) {
	if given != "" {
		return given, nil
	}
	beside := filepath.Join(filepath.Dir(l.o.Self), name)
	if i, err := os.Stat(beside); err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0 {
		return beside, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither in %s nor in $PATH", name, filepath.Dir(l.o.Self))
	}
	return filepath.Abs(path)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
