package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// agentsCgroup is the child that agents and plugins run in, beside the nodes' cgroups, so that the
// socket programs of a node do not see them. No node can have this name.
const agentsCgroup = "_agents"

// cgroupRoot finds where cgroup v2 is mounted: at /sys/fs/cgroup on most hosts, below it on hybrid
// ones. Empty if it is nowhere.
func cgroupRoot() (string, error) {
	all, err := mounts()
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.fstype == "cgroup2" && m.root == "/" && unix.Access(m.point, unix.W_OK) == nil {
			return m.point, nil
		}
	}
	return "", nil
}

// ensureCgroupRoot mounts cgroup v2 on dir if the host has it nowhere.
func ensureCgroupRoot(dir string) (string, error) {
	root, err := cgroupRoot()
	if err != nil || root != "" {
		return root, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cgroup v2: %w", err)
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return "", fmt.Errorf("mount cgroup v2 on %s: %w", dir, err)
	}
	return dir, nil
}

func makeCgroup(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("cgroup %s: %w", path, err)
	}
	return nil
}

// cgroupTree lists dir and its descendants, the innermost first.
func cgroupTree(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	slices.Reverse(out)
	return out, err
}

// cgroupProcs lists the processes in dir and its descendants.
func cgroupProcs(dir string) ([]int, error) {
	tree, err := cgroupTree(dir)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, d := range tree {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			continue // removed meanwhile
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
	}
	return out, nil
}

// removeCgroup kills what runs in dir and its descendants and removes them. Absent is no error.
func removeCgroup(dir string, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		pids, err := cgroupProcs(dir)
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", dir, err)
		}
		for _, pid := range pids {
			if pid == os.Getpid() {
				return fmt.Errorf("cgroup %s: this process runs in it", dir)
			}
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		tree, err := cgroupTree(dir)
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", dir, err)
		}
		var last error
		for _, d := range tree {
			if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
				last = err
			}
		}
		if last == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cgroup %s: %w", dir, last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
