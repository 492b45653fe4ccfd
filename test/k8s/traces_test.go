package k8s_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/test/k8s/bed"
)

// onNodeTraces prints what a network has put on the node that it runs on, a line each. Numbered names stand
// without their numbers.
const onNodeTraces = `
for d in /sys/class/net/*; do
	d=${d##*/} name=${d##*/}
	case $d in lxc*) name=lxc ;; esac
	case $d in lxc* | cilium* | weir*) echo "device $name" ;; esac
	for way in ingress egress; do
		[ -z "$(tc filter show dev "$d" $way 2>/dev/null)" ] || echo "program $way at $name"
	done
done
for f in /sys/fs/bpf/*; do case $f in *.debug | */\*) ;; *) echo "pins $f" ;; esac; done # .debug is the kernel's
for f in /etc/cni/net.d/* /opt/cni/bin/*; do [ ! -e "$f" ] || echo "file $f"; done
ip route show table all; ip -6 route show table all
ip rule; ip -6 rule`

// traces lists what weir has on a node: devices, programs and where they are attached, pins, routes and rules
// that lead elsewhere than the machine's, tables of nftables, files of CNI.
func (c *cluster) traces(t *testing.T, i int) []string {
	t.Helper()
	cmd, err := c.OnNode(t.Context(), i, "bash", "-c", onNodeTraces)
	require.NoError(t, err)
	text, err := cmd.Output()
	require.NoError(t, err)
	var out []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		first, _, _ := strings.Cut(line, " ")
		switch {
		case slices.Contains([]string{"device", "program", "pins", "file"}, first):
			out = append(out, line)
		case strings.Contains(line, "cilium_"), strings.Contains(line, "dev lxc"):
			// A route that goes with its device.
		case strings.HasSuffix(first, ":") && !strings.Contains(line, "lookup local") && !strings.Contains(line, "lookup main") && !strings.Contains(line, "lookup default"):
			out = append(out, "rule "+line)
		case strings.Contains(line, "10.244."), strings.Contains(line, "fd00:10:244:"):
			out = append(out, "route "+line)
		}
	}
	out = append(out, c.inKernel(t, i)...)
	slices.Sort(out)
	return slices.Compact(out)
}

// inNetwork calls f on a thread that is in the i-th node's network.
func (c *cluster) inNetwork(i int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not given back: the thread ends with this goroutine
		ns, err := os.Open(c.Namespace(bed.NodeName(i)))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// attachName shortens the names of ways to attach. Kernels before 6.6 have filters in place of TCX.
var attachName = strings.NewReplacer("TCXIngress", "ingress", "TCXEgress", "egress", "CGroup", "", "Cgroup", "")

// inKernel lists what no program in a node's folders shows: the tables of nftables, and the programs that links
// hold at the node's devices and its cgroup.
func (c *cluster) inKernel(t *testing.T, i int) []string {
	t.Helper()
	var out []string
	add := func(format, name string, target int, types ...ebpf.AttachType) error {
		for _, attach := range types {
			r, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: attach})
			switch {
			case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
				continue // this kernel attaches nothing in this way
			case err != nil:
				return fmt.Errorf("programs at %s: %w", name, err)
			case len(r.Programs) > 0:
				out = append(out, fmt.Sprintf(format, attachName.Replace(attach.String()), name))
			}
		}
		return nil
	}
	require.NoError(t, c.inNetwork(i, func() error {
		firewall, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := firewall.ListTables()
		if err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		for _, table := range tables {
			// The kubelet and kube-proxy make tables by the names of iptables.
			if !slices.Contains([]string{"filter", "mangle", "nat"}, table.Name) {
				out = append(out, "nftables "+table.Name)
			}
		}
		devices, err := net.Interfaces()
		for _, d := range devices {
			if strings.HasPrefix(d.Name, "lxc") {
				d.Name = "lxc"
			}
			err = errors.Join(err, add("program %v at %s", d.Name, d.Index, ebpf.AttachTCXIngress, ebpf.AttachTCXEgress, ebpf.AttachXDP))
		}
		return err
	}))
	group, err := os.Open(c.Cgroup(i))
	require.NoError(t, err)
	defer group.Close()
	require.NoError(t, add("program %v at the %s", "cgroup", int(group.Fd()),
		ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg,
		ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername,
		ebpf.AttachCGroupInet4PostBind, ebpf.AttachCGroupInet6PostBind, ebpf.AttachCgroupInetSockRelease, ebpf.AttachCGroupInetIngress,
		ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupSockOps))
	return out
}
