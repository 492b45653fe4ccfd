// Package bed builds a Kubernetes cluster on this machine, for tests: a real control plane, and nodes
// with a real kubelet and a real containerd, each node in namespaces and cgroups of its own. It has no
// kube-proxy and no network for pods; those are what is under test.
//
//	namespace P-cp            etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//	  br0 172.30.0.1/24       bridge to the nodes, their default route
//	  lo  192.0.2.1/32        an address outside of the cluster that nodes can reach
//	namespace P-n1, P-n2 …    a node: eth0 172.30.0.11/24, 172.30.0.12/24 …
//
// P is the prefix; two clusters with different prefixes use the same addresses and do not meet. Nothing
// leads out to the machine's own network, and the machine's sysctls, bpf file system, CNI folders and
// firewall are left alone. All processes run in cgroups named after the prefix, which is how Down finds
// them, whoever started them and however that ended.
package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Addresses of a cluster. A node's last part is 10 more than its number.
const (
	APIServer = "172.30.0.1" // on the bridge; port APIPort
	APIPort   = 6443
	DNS       = "10.96.0.10" // the Service of CoreDNS
	Outside   = "192.0.2.1"  // belongs to no node, pod or service
	Outside6  = "2001:db8::1"

	PodRanges4     = "10.244.0.0/16"
	PodRanges6     = "fd00:10:244::/56"
	ServiceRange4  = "10.96.0.0/16"
	ServiceRange6  = "fd00:10:96::/112"
	bridge6        = "fd30::1"
	readyTimeout   = 2 * time.Minute
	commandTimeout = 2 * time.Minute
)

// Options say what to build.
type Options struct {
	// Prefix begins the name of everything that the cluster makes: one to five letters and digits.
	Prefix string
	// Bin is the folder with the binaries that build.sh makes.
	Bin string
	// Nodes is how many nodes Up starts, 0 to 9.
	Nodes int
	// IPv4Only leaves IPv6 out; otherwise nodes, pods and Services have both.
	IPv4Only bool
	// APIOnly leaves out controller manager and scheduler: objects then stay as they are written.
	APIOnly bool
	// Programs is the folder with what Build makes; the nodes then have the images that BuildImages
	// makes of it, and the working directory must be in this module. Empty: no images.
	Programs string
	// E2E adds the images of E2EImages to those; Bin must have what build.sh e2e makes.
	E2E bool
	// Ephemeral processes are killed by the kernel when the process that called Up ends.
	Ephemeral bool
	// Log gets a line for each step; nil is silence.
	Log io.Writer
}

// Bed is a cluster. Its methods may be called by several goroutines, as far as they concern different
// nodes or only read.
type Bed struct {
	o    Options
	dir  string
	lock net.Listener

	mu    sync.Mutex
	procs map[string]*process
}

var validPrefix = regexp.MustCompile(`^[a-z][a-z0-9]{0,4}$`)

// root holds the folders of all clusters. It is not under /tmp, which is memory on some machines.
const root = "/var/tmp/weir-k8s"

// Open returns the handle of a cluster without starting anything. It fails if another process holds
// the cluster; Close gives it free.
func Open(o Options) (*Bed, error) {
	if !validPrefix.MatchString(o.Prefix) {
		return nil, fmt.Errorf("prefix %q: allowed are one to five lower-case letters and digits", o.Prefix)
	}
	if o.Nodes < 0 || o.Nodes > 9 {
		return nil, fmt.Errorf("%d nodes: allowed are 0 to 9", o.Nodes)
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	// An abstract socket is a lock that leaves no file and goes with its process.
	lock, err := net.Listen("unix", "@weir-k8s-"+o.Prefix)
	if err != nil {
		return nil, fmt.Errorf("cluster %s is in use by another process: %w", o.Prefix, err)
	}
	return &Bed{o: o, dir: filepath.Join(root, o.Prefix), lock: lock, procs: map[string]*process{}}, nil
}

// OpenAny is Open with the first of the prefixes P, P1, P2 … P9 that no other process holds, where P is that of the
// options: runs beside each other on one machine do not meet, and each removes what an earlier one has left.
func OpenAny(o Options) (*Bed, error) {
	prefix := o.Prefix
	for i := 1; ; i++ {
		b, err := Open(o)
		if err == nil || !errors.Is(err, unix.EADDRINUSE) || i > 9 {
			return b, err
		}
		o.Prefix = fmt.Sprintf("%s%d", prefix, i)
	}
}

// Find returns the handle of a cluster that another process has started, for OnNode, OnControlPlane and
// Kubectl only.
func Find(prefix string) *Bed {
	return &Bed{o: Options{Prefix: prefix, Log: io.Discard}, dir: filepath.Join(root, prefix), procs: map[string]*process{}}
}

// Close gives the cluster free for other processes; it goes on running.
func (b *Bed) Close() {
	b.lock.Close()
}

// Up removes what an earlier cluster of this name left and starts a new one: the control plane, then
// the nodes, which have registered when it returns but are not Ready, since they lack a network.
func (b *Bed) Up(ctx context.Context) error {
	if err := Check(b.o.Bin); err != nil {
		return err
	}
	if err := b.Down(); err != nil {
		return err
	}
	start := time.Now()
	err := b.up(ctx, start)
	if err != nil {
		err = fmt.Errorf("cluster %s: %w", b.o.Prefix, err)
	}
	return err
}

func (b *Bed) up(ctx context.Context, start time.Time) error {
	for _, d := range []string{"log", "pki", "images"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink(b.o.Bin, b.bin("")); err != nil {
		return err
	}
	if b.o.Programs != "" {
		if err := BuildImages(ctx, b.o.Programs, b.o.Bin, filepath.Join(b.dir, "images")); err != nil {
			return err
		}
		if b.o.E2E {
			if err := E2EImages(ctx, b.o.Programs, b.o.Bin, filepath.Join(b.dir, "images")); err != nil {
				return err
			}
		}
	}
	if err := b.makeCgroups("cp"); err != nil {
		return err
	}
	if err := b.wire(); err != nil {
		return err
	}
	if err := b.writeCredentials(); err != nil {
		return err
	}
	if err := b.startEtcd(); err != nil {
		return err
	}
	if err := b.StartControlPlane(ctx); err != nil {
		return err
	}
	b.log("control plane ready after %.1f s", time.Since(start).Seconds())
	for i := 1; i <= b.o.Nodes; i++ {
		if err := b.StartNode(ctx, i); err != nil {
			return err
		}
	}
	for i := 1; i <= b.o.Nodes; i++ {
		if err := b.waitRegistered(ctx, i); err != nil {
			return err
		}
	}
	if b.o.Nodes > 0 {
		b.log("%d nodes registered after %.1f s", b.o.Nodes, time.Since(start).Seconds())
	}
	return nil
}

// wire makes the control plane's namespace with the bridge.
func (b *Bed) wire() error {
	cp := b.namespace("cp")
	steps := [][]string{
		{"netns", "add", cp},
		{"-n", cp, "link", "set", "lo", "up"},
		{"-n", cp, "addr", "add", Outside + "/32", "dev", "lo"},
		{"-n", cp, "link", "add", "br0", "type", "bridge"},
		{"-n", cp, "addr", "add", APIServer + "/24", "dev", "br0"},
		{"-n", cp, "link", "set", "br0", "up"},
	}
	if !b.o.IPv4Only {
		steps = append(steps,
			[]string{"-n", cp, "addr", "add", Outside6 + "/128", "dev", "lo"},
			[]string{"-n", cp, "addr", "add", bridge6 + "/64", "dev", "br0", "nodad"})
	}
	return b.ip(steps...)
}

// Namespace is the path of a network namespace: "cp" or a node's name.
func (b *Bed) Namespace(name string) string {
	return filepath.Join("/run/netns", b.namespace(name))
}

// Dir is the folder of the cluster: logs are in Dir()/log.
func (b *Bed) Dir() string { return b.dir }

// Kubeconfig is the path of the administrator's; its server can be reached in the cluster's
// namespaces only.
func (b *Bed) Kubeconfig() string { return filepath.Join(b.dir, "pki", "admin.kubeconfig") }

// NodeName is the name of the i-th node, from 1.
func NodeName(i int) string { return fmt.Sprintf("n%d", i) }

// NodeAddress is the i-th node's IPv4 address.
func NodeAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, 0, byte(10 + i)}) }

// NodeAddress6 is its IPv6 address.
func NodeAddress6(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd30::%d", 10+i))
}

func (b *Bed) namespace(name string) string { return b.o.Prefix + "-" + name }

func (b *Bed) log(format string, args ...any) {
	fmt.Fprintf(b.o.Log, format+"\n", args...)
}

// ranges joins an IPv4 and an IPv6 range as the components' flags want them.
func (b *Bed) ranges(v4, v6 string) string {
	if b.o.IPv4Only {
		return v4
	}
	return v4 + "," + v6
}

// poll calls f every tenth of a second until it is nil, for up to readyTimeout.
func poll(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		var stop fatal
		if errors.As(err, &stop) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, readyTimeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fatal is an error that waiting does not mend.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// ip runs ip with each list of arguments.
func (b *Bed) ip(steps ...[]string) error {
	for _, args := range steps {
		if _, err := command("ip", args...); err != nil {
			return fmt.Errorf("ip %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}
