package ebpf

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// needBPF skips a test where programs cannot be loaded, and says what is missing. With REQUIRE=bpf in
// the environment that is a failure.
func needBPF(t testing.TB) {
	t.Helper()
	missing := ""
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	switch {
	case os.Geteuid() != 0:
		missing = "root is needed"
	case err != nil:
		missing = "BPF maps cannot be created: " + err.Error()
	default:
		_ = m.Close()
	}
	if _, err := exec.LookPath("ip"); err != nil && missing == "" {
		missing = "the ip command is needed (iproute2)"
	}
	if missing == "" {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "bpf") {
		t.Fatalf("REQUIRE names bpf, but %s", missing)
	}
	t.Skip(missing)
}

// netns is a network namespace of a test. It goes when the test ends.
type netns struct {
	file *os.File
}

func newNetns(t testing.TB) *netns {
	t.Helper()
	n := &netns{}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		errs <- err
	}()
	require.NoError(t, <-errs)
	t.Cleanup(func() { _ = n.file.Close() })
	return n
}

// enter moves the test's goroutine into the namespace for good: its thread ends with it.
func (n *netns) enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	require.NoError(t, unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET))
}

// do runs f inside the namespace.
func (n *netns) do(t testing.TB, f func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	require.NoError(t, <-errs)
}

// path names the namespace for the ip command.
func (n *netns) path() string {
	return filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd", strconv.Itoa(int(n.file.Fd())))
}

// ip runs the ip command in the namespace of the calling thread.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return errors.New("ip " + strings.Join(args, " ") + ": " + string(out))
	}
	return nil
}

func mustIP(t testing.TB, args ...string) {
	t.Helper()
	require.NoError(t, ip(args...))
}

// ifindexOf reads the index of an interface of the calling thread's namespace.
func ifindexOf(t testing.TB, name string) uint32 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req))
	return req.Uint32()
}

// kernelOlderThan compares the running kernel's version.
func kernelOlderThan(t testing.TB, major, minor uint32) bool {
	t.Helper()
	code, err := features.LinuxVersionCode()
	require.NoError(t, err)
	return code < major<<16|minor<<8
}

// newBPFFS mounts a BPF file system for one test; what is pinned in it goes with it.
func newBPFFS(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bpf")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return filepath.Join(dir, "weir")
}

// smallSizes keep tests fast.
var smallSizes = Sizes{
	Endpoints: 64, IPCache: 256, Policy: 256, Nodes: 64, Services: 64, Slots: 256, Backends: 256,
	Affinity: 64, SockRev: 256, Flows: 1024, Frags: 64, NAT: 1024, EventRing: 1 << 18,
}
