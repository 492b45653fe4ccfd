package bed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// unified is where the hierarchy of version 2 is mounted.
func unified() string {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return cgroupRoot
	}
	return filepath.Join(cgroupRoot, "unified")
}

// hierarchies are the roots of all of them: one, or those of version 1 and the unified one.
func hierarchies() []string {
	if unified() == cgroupRoot {
		return []string{cgroupRoot}
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		dir := filepath.Join(cgroupRoot, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && e.IsDir() {
			out = append(out, dir)
		}
	}
	return out
}

// makeCgroups makes PREFIX/name in every hierarchy. Each node gets a cgroup namespace rooted there, so
// that an agent which mounts the unified hierarchy for itself sees its node, not the machine.
func (b *Bed) makeCgroups(name string) error {
	for _, h := range hierarchies() {
		parent := filepath.Join(h, b.o.Prefix)
		dir := filepath.Join(parent, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		// A process cannot join a cpuset that has no processors or no memory.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h, f))
			if err != nil {
				continue // not a hierarchy with cpuset
			}
			for _, d := range []string{parent, dir} {
				if err := os.WriteFile(filepath.Join(d, f), value, 0); err != nil {
					return fmt.Errorf("make cgroup %s: %w", d, err)
				}
			}
		}
		if controllers, err := os.ReadFile(filepath.Join(h, "cgroup.controllers")); err == nil {
			for _, c := range strings.Fields(string(controllers)) {
				for _, d := range []string{h, parent} {
					if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
						return fmt.Errorf("give cgroup %s the controller %s: %w", d, c, err)
					}
				}
			}
		}
	}
	return nil
}

// Cgroup is the folder of the i-th node's cgroup in the unified hierarchy, the root of what the node sees.
func (b *Bed) Cgroup(i int) string { return filepath.Join(unified(), b.o.Prefix, NodeName(i)) }

// cgroups are the folders of PREFIX (name is empty) or PREFIX/name in every hierarchy with all below
// them, the deepest first.
func (b *Bed) cgroups(name string) []string {
	var out []string
	for _, h := range hierarchies() {
		filepath.WalkDir(filepath.Join(h, b.o.Prefix, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				out = append(out, path)
			}
			return nil
		})
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return out
}

// killAll kills every process in the cluster's cgroups; it is an error while there still are some.
func (b *Bed) killAll() error {
	left := 0
	for _, dir := range b.cgroups("") {
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // it has gone
		}
		for _, f := range strings.Fields(string(procs)) {
			pid, err := strconv.Atoi(f)
			if err != nil || pid <= 0 {
				continue // 0 is a process of another PID namespace
			}
			left++
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d of %s: %w", pid, dir, err)
			}
		}
	}
	if left > 0 {
		return fmt.Errorf("%d processes are left", left)
	}
	return nil
}

// removeCgroups removes PREFIX (name is empty) or PREFIX/name; absent is no error.
func (b *Bed) removeCgroups(name string) error {
	var err error
	for _, dir := range b.cgroups(name) {
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) {
			err = fmt.Errorf("remove cgroup %s: %w; in it: %s", dir, e, members(dir))
		}
	}
	return err
}

// members are the processes of a cgroup, with their names.
func members(dir string) string {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, pid := range strings.Fields(string(procs)) {
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // it may have ended, or have no number here
		out = append(out, pid+" "+strings.TrimSpace(string(name)))
	}
	return strings.Join(out, ", ")
}
