package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Place is where processes of a lab run: a network namespace and a cgroup.
type Place struct {
	Netns  string       // the namespace's name
	Cgroup string       // directory
	IPs    []netip.Addr // addresses that the place is reached at, at most one a family
}

// IP is the place's address of a family (4 or 6); invalid if it has none.
func (p Place) IP(family int) netip.Addr {
	i := slices.IndexFunc(p.IPs, func(a netip.Addr) bool { return a.Is4() == (family == 4) })
	if i < 0 {
		return netip.Addr{}
	}
	return p.IPs[i]
}

// PodPlace is the place of a pod that runs; ports.ErrNotFound if there is none.
func (l *Lab) PodPlace(n cluster.Name) (Place, error) {
	if err := l.open(); err != nil {
		return Place{}, err
	}
	p, err := l.findPod(n)
	if err != nil {
		return Place{}, err
	}
	if p == nil || len(p.IPs) == 0 {
		return Place{}, fmt.Errorf("lab %q: pod %s: %w", l.o.Name, n, ports.ErrNotFound)
	}
	return Place{Netns: l.netnsOf(p), Cgroup: l.podCgroup(p.Node, p.Name), IPs: p.IPs}, nil
}

// LoadCommand prepares a process of package load at a place; it dies with the calling process. After the
// start the caller closes the Closer.
func (l *Lab) LoadCommand(p Place) (*exec.Cmd, io.Closer, error) {
	cmd, dir, err := l.command(p.Netns, p.Cgroup, l.o.Self, helperLoad)
	if err != nil {
		return nil, nil, err
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// No collector, and no signals to make long running goroutines yield: they would be measured, too.
	cmd.Env = append(os.Environ(), "GOGC=off", "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=4")
	return cmd, dir, nil
}

// Command prepares a program of somebody else's to run at a place; Down ends it at the latest. (It can't be told to die
// with the calling process: that goes by the thread, and Do ends threads.) After the start the caller closes the
// Closer.
func (l *Lab) Command(p Place, argv ...string) (*exec.Cmd, io.Closer, error) {
	return l.command(p.Netns, p.Cgroup, argv...)
}

// Do runs f in the place's network namespace. Sockets made in it stay there; goroutines started in it don't.
func (p Place) Do(f func() error) error { return netns.Do(netns.Path(p.Netns), f) }

// MTU is that of a place's link, in bytes.
func (p Place) MTU() (int, error) {
	mtu := 0
	err := netns.Do(netns.Path(p.Netns), func() error {
		// The sysfs of this mount shows another namespace's devices; a request shows the thread's own.
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		req, err := unix.NewIfreq(podInterface)
		if err != nil {
			return err
		}
		err = unix.IoctlIfreq(s, unix.SIOCGIFMTU, req)
		mtu = int(req.Uint32())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("network namespace %s: MTU of %s: %w", p.Netns, podInterface, err)
	}
	return mtu, nil
}

// Setting is a line below /proc/sys/net.
type Setting struct{ Path, Value string }

// Set changes settings of the place's network namespace.
func (p Place) Set(settings ...Setting) error {
	return inNetns(p.Netns, settings)
}

func inNetns(name string, settings []Setting) error {
	return netns.Do(netns.Path(name), func() error {
		var errs []error
		for _, s := range settings {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", s.Path), []byte(s.Value), 0); err != nil {
				errs = append(errs, fmt.Errorf("network namespace %s: net.%s = %s: %w",
					name, strings.ReplaceAll(s.Path, "/", "."), s.Value, err))
			}
		}
		return errors.Join(errs...)
	})
}

// AgentPIDs are the processes of the agents that run.
func (l *Lab) AgentPIDs() []int {
	var out []int
	if l.st == nil {
		return nil
	}
	for _, n := range l.st.Nodes {
		if n.Agent.alive() {
			out = append(out, n.Agent.PID)
		}
	}
	return out
}

// AgentOf returns the client of a node's agent.
func (l *Lab) AgentOf(node string) Agent { return l.agent(node) }
