package bed

import (
	"context"
	_ "embed" // the first process of a node
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed node-init.sh
var nodeInit string

// processOf is the name of the process that StartNode starts.
func processOf(i int) string { return "node-" + NodeName(i) }

// StartNode starts the i-th node, as a machine that boots: its disk is what it left, all else is new. It returns when the node has its
// file systems; containerd and the kubelet take longer.
func (b *Bed) StartNode(ctx context.Context, i int) error {
	name, ns, cp := NodeName(i), b.namespace(NodeName(i)), b.namespace("cp")
	if b.PID(processOf(i)) != 0 {
		return fmt.Errorf("start node %s: it is running", name)
	}
	if err := b.sweepNode(ctx, i); err != nil {
		return err
	}
	steps := [][]string{
		{"netns", "add", ns},
		{"-n", ns, "link", "set", "lo", "up"},
		{"-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", cp},
		{"-n", cp, "link", "set", name, "master", "br0", "up"},
		{"-n", ns, "addr", "add", NodeAddress(i).String() + "/24", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "route", "add", "default", "via", APIServer},
	}
	addresses := NodeAddress(i).String()
	if !b.o.IPv4Only {
		steps = append(steps,
			[]string{"-n", ns, "addr", "add", NodeAddress6(i).String() + "/64", "dev", "eth0", "nodad"},
			[]string{"-n", ns, "route", "add", "default", "via", bridge6})
		addresses += "," + NodeAddress6(i).String()
	}
	if err := b.ip(steps...); err != nil {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	if err := b.makeCgroups(name); err != nil {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	disk := filepath.Join(b.dir, name)
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	script := filepath.Join(b.dir, "node-init.sh")
	if err := os.WriteFile(script, []byte(nodeInit), 0o755); err != nil {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	booted := filepath.Join(disk, "booted")
	if err := os.Remove(booted); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("start node %s: %w", name, err)
	}
	// When the first process of a PID namespace dies, the kernel kills all others in it.
	err := b.start(processOf(i), name, strings.Join(b.joinCgroups(name), "\n"),
		"env", "NODE="+name, "DISK="+disk, "ADDRESSES="+addresses, "BIN="+b.bin(""), "KUBECONFIG="+b.pki(name+".kubeconfig"),
		"DNS="+DNS, "IMAGES="+filepath.Join(b.dir, "images"), "HAS_KUBELET="+strconv.FormatBool(!b.o.APIOnly),
		"unshare", "--cgroup", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", script)
	if err != nil {
		return err
	}
	return poll(ctx, "node "+name, func() error {
		if err := b.alive(processOf(i)); err != nil {
			return err
		}
		_, err := os.Stat(booted)
		return err
	})
}

// KillNode kills a node's first process, and with it everything on the node, as a power cut does: no
// process gets a chance to clean up. What is on disk stays, and so do the node's objects.
func (b *Bed) KillNode(i int) error {
	pid, err := b.initPID(i)
	if err != nil {
		return fmt.Errorf("kill node %s: %w", NodeName(i), err)
	}
	first, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("kill node %s: %w", NodeName(i), err)
	}
	if err := first.Kill(); err != nil {
		return fmt.Errorf("kill node %s: %w", NodeName(i), err)
	}
	b.Stop(processOf(i), os.Kill, time.Minute)
	// Its device goes too: a dead machine does not answer pings.
	return b.sweepNode(context.Background(), i)
}

// sweepNode removes the namespace and the cgroups of a node that does not run.
func (b *Bed) sweepNode(ctx context.Context, i int) error {
	if _, err := os.Lstat(b.Namespace(NodeName(i))); err == nil {
		// The kernel ends a namespace some time after its name has gone; the cable is gone at once.
		command("ip", "-n", b.namespace("cp"), "link", "del", NodeName(i)) // or there is none yet
		if err := b.ip([]string{"netns", "del", b.namespace(NodeName(i))}); err != nil {
			return err
		}
	}
	return poll(ctx, "cgroups of node "+NodeName(i), func() error { return b.removeCgroups(NodeName(i)) })
}

func (b *Bed) waitRegistered(ctx context.Context, i int) error {
	if b.o.APIOnly {
		return nil
	}
	err := poll(ctx, "node "+NodeName(i), func() error {
		if err := b.alive(processOf(i)); err != nil {
			return err
		}
		out, err := b.Kubectl("get", "node", NodeName(i), "-o", "jsonpath={.spec.podCIDR}")
		if err == nil && out == "" {
			err = errors.New("it has no pod range")
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, b.NodeLogs(i, 5))
	}
	return err
}

// NodeLogs is the end of what the i-th node's first process, kubelet and containerd have said: of each
// the last lines, and the kubelet's last errors.
func (b *Bed) NodeLogs(i, lines int) string {
	logs := filepath.Join(b.dir, NodeName(i), "var/log")
	var out strings.Builder
	for _, l := range []struct{ name, path, marks string }{
		{"first process", filepath.Join(b.dir, "log", processOf(i)+".log"), ""},
		{"containerd", filepath.Join(logs, "containerd.log"), ""},
		{"kubelet", filepath.Join(logs, "kubelet.log"), ""},
		{"kubelet's errors", filepath.Join(logs, "kubelet.log"), "E"},
	} {
		fmt.Fprintf(&out, "%s of %s:\n%s\n", l.name, NodeName(i), tail(l.path, lines, l.marks))
	}
	return out.String()
}

// initPID is the first process of a node as the machine numbers it: the one that is 1 in the namespace
// below this one. Those that are 1 further down are the first processes of containers.
func (b *Bed) initPID(i int) (int, error) {
	for _, dir := range b.cgroups(NodeName(i)) {
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // it has gone
		}
		for _, pid := range strings.Fields(string(procs)) {
			status, err := os.ReadFile("/proc/" + pid + "/status")
			if err != nil {
				continue // so has this
			}
			_, numbers, _ := strings.Cut(string(status), "\nNSpid:")
			numbers, _, _ = strings.Cut(numbers, "\n")
			if f := strings.Fields(numbers); len(f) == 2 && f[1] == "1" {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, fmt.Errorf("node %s is not running", NodeName(i))
}

// OnNode is a command that runs on the i-th node, in all its namespaces and in its cgroups, like a
// process of the node itself.
func (b *Bed) OnNode(ctx context.Context, i int, argv ...string) (*exec.Cmd, error) {
	pid, err := b.initPID(i)
	if err != nil {
		return nil, err
	}
	join := strings.Join(b.joinCgroups(NodeName(i)), "\n") + "\nexec \"$@\""
	args := append([]string{"-c", join, "on-node", "nsenter", "-t", strconv.Itoa(pid), "-n", "-m", "-u", "-i", "-p", "-C", "--"}, argv...)
	return exec.CommandContext(ctx, "bash", args...), nil
}

// joinCgroups are the lines of shell that put a process into a node's cgroups.
func (b *Bed) joinCgroups(name string) []string {
	var lines []string
	for _, h := range hierarchies() {
		dir := filepath.Join(h, b.o.Prefix, name)
		// A pure version 2 node has its processes in a group of their own, below which pods have theirs.
		lines = append(lines, "d="+dir+"; [ ! -d $d/init ] || d=$d/init; echo $$ >$d/cgroup.procs")
	}
	return lines
}
