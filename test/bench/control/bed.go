package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/ebpf"
)

// nodeName is the only node of the bed.
const nodeName = "node1"

var (
	nodeAddr = netip.MustParseAddr("192.0.2.10")
	podCIDR  = netip.MustParsePrefix("10.244.0.0/22")
)

// bed is a node in a network namespace of its own: a directory for everything that is a file, a BPF file
// system, a cgroup with this process in it (its connections see services) and one beside it for the agent.
type bed struct {
	bin     string // directory of weir-agent and weir-cni
	dir     string
	node    *os.File // network namespace
	cgroup  string
	before  string // the cgroup this process was in
	agent   *exec.Cmd
	started time.Time
}

func newBed(bin string) (_ *bed, err error) {
	b := &bed{bin: bin}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("/run", "weir-control-"); err != nil {
		return nil, err
	}
	for _, d := range []string{b.cluster(), b.run(), b.mount()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("bpf", b.mount(), "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount a BPF file system: %w", err)
	}
	if err := b.makeCgroups(); err != nil {
		return nil, err
	}
	if b.node, err = newNetns(); err != nil {
		return nil, err
	}
	return b, within(b.node, makeUnderlay)
}

func (b *bed) cluster() string { return filepath.Join(b.dir, "cluster") }
func (b *bed) run() string     { return filepath.Join(b.dir, "run") }
func (b *bed) mount() string   { return filepath.Join(b.dir, "bpf") }
func (b *bed) pins() string    { return filepath.Join(b.mount(), "weir") }
func (b *bed) socket() string  { return filepath.Join(b.run(), "weir.sock") }
func (b *bed) log() string     { return filepath.Join(b.dir, "agent.log") }

// close takes everything back that the bed made.
func (b *bed) close() {
	b.stopAgent()
	if b.cgroup != "" {
		_ = os.WriteFile(filepath.Join(b.before, "cgroup.procs"), []byte("0"), 0)
	}
	_ = ebpf.Destroy(b.pins())
	for _, d := range []string{"agents", "node/host", "node", ""} {
		if b.cgroup != "" {
			_ = os.Remove(filepath.Join(b.cgroup, d))
		}
	}
	if b.node != nil {
		b.node.Close()
	}
	if b.dir != "" {
		_ = unix.Unmount(b.mount(), unix.MNT_DETACH)
		_ = os.RemoveAll(b.dir)
	}
}

// makeCgroups makes the bed's cgroups and moves this process into the node's.
func (b *bed) makeCgroups() error {
	root, own, err := cgroup2()
	if err != nil {
		return err
	}
	b.before = filepath.Join(root, own)
	b.cgroup = filepath.Join(root, filepath.Base(b.dir))
	for _, d := range []string{"node/host", "agents"} {
		if err := os.MkdirAll(filepath.Join(b.cgroup, d), 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(b.cgroup, "node/host/cgroup.procs"), []byte("0"), 0)
}

// cgroup2 finds the mount point of cgroup v2 and this process's place below it.
func cgroup2() (root, own string, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			root = f[1]
		}
	}
	if root == "" {
		return "", "", errors.New("cgroup v2 is not mounted")
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = path
		}
	}
	return root, own, nil
}

// newNetns makes a network namespace that lives as long as the file.
func newNetns() (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- made{nil, fmt.Errorf("network namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- made{f, err}
	}()
	m := <-c
	return m.f, m.err
}

// within runs f on a thread inside a network namespace; processes that it starts are inside, too.
func within(ns *os.File, f func() error) error {
	c := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			c <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		c <- f()
	}()
	return <-c
}

// makeUnderlay gives the node a device with its address.
func makeUnderlay() error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Link.New(&rtnetlink.LinkMessage{
		Attributes: &rtnetlink.LinkAttributes{Name: "eth0", Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{
			PeerInfo: &rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{Name: "peer0"}},
		}}},
	})
	if err != nil {
		return fmt.Errorf("underlay device: %w", err)
	}
	links, err := c.Link.List()
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := c.Link.Set(&rtnetlink.LinkMessage{Index: l.Index, Flags: unix.IFF_UP, Change: unix.IFF_UP}); err != nil {
			return fmt.Errorf("%s up: %w", l.Attributes.Name, err)
		}
		if l.Attributes.Name != "eth0" {
			continue
		}
		err := c.Address.New(&rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: 24, Index: l.Index,
			Attributes: &rtnetlink.AddressAttributes{Address: net.IP(nodeAddr.AsSlice()), Local: net.IP(nodeAddr.AsSlice())}})
		if err != nil {
			return fmt.Errorf("address of eth0: %w", err)
		}
	}
	return nil
}

// startAgent starts the agent; b.started is when.
func (b *bed) startAgent(extra ...string) error {
	argv := append([]string{filepath.Join(b.bin, "weir-agent"), "--node-name", nodeName, "--cluster-dir", b.cluster(),
		"--run-dir", b.run(), "--bpffs", b.pins(), "--cgroup", filepath.Join(b.cgroup, "node")}, extra...)
	out, err := os.OpenFile(b.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	group, err := os.OpenFile(filepath.Join(b.cgroup, "agents"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer group.Close()
	b.agent = exec.Command(argv[0], argv[1:]...)
	b.agent.Stdout, b.agent.Stderr = out, out
	b.agent.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	return within(b.node, func() error {
		b.started = time.Now()
		return b.agent.Start()
	})
}

// awaitReady returns the time from the start until the agent serves.
func (b *bed) awaitReady(limit time.Duration) (time.Duration, error) {
	c := api.NewClient(b.socket())
	defer c.Close()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := c.Ready(ctx)
		cancel()
		if err == nil {
			return time.Since(b.started), nil
		}
		if time.Since(b.started) > limit {
			return 0, fmt.Errorf("the agent is not ready after %s: %w; the end of its log:\n%s", limit, err, b.logTail())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (b *bed) logTail() string {
	data, _ := os.ReadFile(b.log())
	var last []string
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		last = append(last, s.Text())
	}
	return strings.Join(last[max(0, len(last)-10):], "\n")
}

func (b *bed) stopAgent() {
	if b.agent == nil {
		return
	}
	_ = b.agent.Process.Signal(unix.SIGTERM)
	force := time.AfterFunc(10*time.Second, func() { _ = b.agent.Process.Kill() })
	_ = b.agent.Wait()
	force.Stop()
	b.agent = nil
}

// reset makes the node one on which no agent ever ran. The cluster's objects stay, what agents published goes.
func (b *bed) reset() error {
	b.stopAgent()
	if err := ebpf.Destroy(b.pins()); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.cluster(), "status")); err != nil {
		return err
	}
	return filepath.WalkDir(b.run(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == b.run() {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}
