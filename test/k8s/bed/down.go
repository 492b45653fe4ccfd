package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Check says why no cluster can be built here, or nil. bin is the folder with the binaries.
func Check(bin string) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can make the namespaces of nodes")
	}
	for _, name := range []string{"ip", "nsenter", "unshare", "containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("no program %s (test/k8s/build.sh cluster installs it)", name)
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"} {
		if _, err := exec.LookPath(filepath.Join(bin, name)); err != nil {
			return fmt.Errorf("no %s in %q (test/k8s/build.sh cluster builds it)", name, bin)
		}
	}
	probe := filepath.Join(unified(), fmt.Sprintf("weir-probe-%d", os.Getpid()))
	if err := os.Mkdir(probe, 0o755); err != nil {
		return fmt.Errorf("cgroups cannot be made: %w", err)
	}
	if err := os.Remove(probe); err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	if _, err := command("unshare", "--net", "--mount", "--pid", "--fork", "true"); err != nil {
		return fmt.Errorf("namespaces cannot be made: %w", err)
	}
	return nil
}

// Down ends everything that belongs to the cluster's prefix and removes its traces, also those of an Up
// that was cut short or of a process that crashed. What is gone already is no error.
func (b *Bed) Down() error {
	ctx := context.Background()
	if err := poll(ctx, "cluster "+b.o.Prefix+": end its processes", b.killAll); err != nil {
		return err
	}
	b.mu.Lock()
	for _, p := range b.procs {
		<-p.done
	}
	clear(b.procs)
	b.mu.Unlock()
	for _, ns := range b.namespaces() {
		if err := b.ip([]string{"netns", "del", ns}); err != nil {
			return err
		}
	}
	if err := poll(ctx, "cluster "+b.o.Prefix, func() error { return b.removeCgroups("") }); err != nil {
		return err
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("cluster %s: %w", b.o.Prefix, err)
	}
	os.Remove(root) // unless other clusters are there
	return nil
}

// namespaces are the names of the cluster's network namespaces.
func (b *Bed) namespaces() []string {
	paths, _ := filepath.Glob(b.Namespace("*")) // the pattern is well-formed
	var out []string
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}

// Traces lists what a cluster of this prefix has on the machine; after Down there is nothing.
func (b *Bed) Traces() []string {
	out := append(b.namespaces(), b.cgroups("")...)
	if _, err := os.Stat(b.dir); err == nil {
		out = append(out, b.dir)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.dir+"/") || strings.Contains(line, "/"+b.o.Prefix+"-") {
			out = append(out, "mount "+strings.TrimSpace(line))
		}
	}
	return out
}
