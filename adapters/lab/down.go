package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/cluster"
)

// Down removes every trace of the lab: processes, namespaces, mounts, cgroups, the run directory.
// It finds them by the lab's name, so it works after a crash at any point and without a record. Idempotent.
func (l *Lab) Down(ctx context.Context) error {
	_, _ = l.StopTraffic(ctx)
	held, err := l.lock(ctx)
	if err == nil {
		defer held.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return l.down(ctx)
}

// Traces lists what is left of a lab by this name; empty if nothing is.
func (l *Lab) Traces() ([]string, error) {
	var out []string
	if _, err := os.Lstat(l.dir); err == nil {
		out = append(out, l.dir)
	}
	names, err := listNetns(l.netnsPrefix())
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		out = append(out, netns.Path(n))
	}
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if strings.HasPrefix(m.point, l.dir+"/") {
			out = append(out, "mount "+m.point)
		}
		if m.fstype == "cgroup2" {
			if dir := filepath.Join(m.point, "weir-"+l.o.Name); isDir(dir) {
				out = append(out, dir)
			}
		}
	}
	return out, nil
}

func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}

func (l *Lab) down(ctx context.Context) error {
	// The record helps to end the agents politely; everything else is found without it.
	if st, err := readState(l.statePath()); err == nil {
		l.st = st
	} else {
		l.st = nil
	}
	var errs []error
	if l.st != nil {
		l.stopRecorded()
	}
	errs = append(errs, l.removeCgroups())
	names, err := listNetns(l.netnsPrefix())
	errs = append(errs, err)
	errs = append(errs, unmountBelow(l.dir))
	for _, n := range names {
		errs = append(errs, netns.Delete(n))
	}
	releaseNetnsDir()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %q: down: %w", l.o.Name, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("lab %q: down: %w", l.o.Name, err)
	}
	// Empty parents go too; others stay.
	if l.o.Root == DefaultRoot {
		_ = os.Remove(l.o.Root)
		_ = os.Remove(filepath.Dir(l.o.Root))
	}
	l.st = nil
	return ctx.Err()
}

// stopRecorded ends the processes that the record names. Those it does not name are in the cgroups.
func (l *Lab) stopRecorded() {
	for _, n := range l.st.Nodes {
		_ = n.Agent.signalTerm()
	}
	if pods, err := l.pods(); err == nil {
		for _, p := range pods {
			_ = p.Server.stop(0)
		}
	}
	deadline := time.Now().Add(agentGrace)
	for _, n := range l.st.Nodes {
		if !n.Agent.wait(time.Until(deadline)) {
			_ = n.Agent.stop(0)
		}
	}
}

// removeCgroups clears the lab's cgroup wherever cgroup v2 is mounted; if it is mounted nowhere any more
// (the lab had mounted it, and that was undone), it is mounted for the purpose.
func (l *Lab) removeCgroups() error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	if root == "" {
		if !isDir(l.dir) {
			return nil
		}
		if root, err = ensureCgroupRoot(filepath.Join(l.dir, "cgroup2")); err != nil {
			return err
		}
	}
	dir := filepath.Join(root, "weir-"+l.o.Name)
	if !isDir(dir) {
		return nil
	}
	return removeCgroup(dir, 10*time.Second)
}

// findPod returns a pod's record.
func (l *Lab) findPod(n cluster.Name) (*podState, error) {
	pods, err := l.pods()
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if p.Name == n {
			return p, nil
		}
	}
	return nil, nil
}
