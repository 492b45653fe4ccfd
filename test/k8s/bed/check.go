package bed

import (
	"bytes"
	_ "embed" // the probe
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// What three nodes with the pods of the tests take, with something to spare.
const (
	minCores  = 2
	minMemory = 4 << 30 // bytes
	minDisk   = 8 << 30 // bytes, of the file system that holds root
)

//go:embed probe.sh
var probe string

// Binaries is the folder with what build.sh makes: $WEIR_K8S_BIN, else in the user's cache.
func Binaries() (string, error) {
	if bin := os.Getenv("WEIR_K8S_BIN"); bin != "" {
		return bin, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("folder of the binaries: %w", err)
	}
	return filepath.Join(cache, "weir-k8s", "bin"), nil
}

// Check says why no cluster can be built here, or nil. bin is the folder with the binaries.
func Check(bin string) error {
	if err := CheckMachine(); err != nil {
		return err
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
	return nil
}

// CheckMachine is the part of Check that no installation changes: what this process may do, and what the
// machine has.
func CheckMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can make the namespaces of nodes")
	}
	if n := runtime.NumCPU(); n < minCores {
		return fmt.Errorf("%d processor, at least %d are needed", n, minCores)
	}
	if free, err := freeMemory(); err != nil {
		return err
	} else if free < minMemory {
		return fmt.Errorf("%d MiB of memory are free, at least %d are needed", free>>20, minMemory>>20)
	}
	var fs unix.Statfs_t
	parent := filepath.Dir(root)
	if err := unix.Statfs(parent, &fs); err != nil {
		return fmt.Errorf("space in %s: %w", parent, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minDisk {
		return fmt.Errorf("%d MiB are free in %s, at least %d are needed", free>>20, parent, minDisk>>20)
	}
	for _, t := range []ebpf.ProgramType{ebpf.SchedCLS, ebpf.CGroupSockAddr} {
		if err := features.HaveProgramType(t); err != nil {
			return fmt.Errorf("eBPF programs of type %v cannot be loaded: %w", t, err)
		}
	}
	// A name of its own: tests that run at the same time in one process look at the machine, each for itself.
	group, err := os.MkdirTemp(unified(), "weir-probe-")
	if err != nil {
		return fmt.Errorf("cgroups cannot be made: %w", err)
	}
	if err := os.Remove(group); err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "weir-probe-")
	if err != nil {
		return fmt.Errorf("probe namespaces: %w", err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--mount-proc", "bash", "-c", probe, "probe", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("namespaces like a node's cannot be made: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// freeMemory is what the machine has, and what the limit of the process's cgroup leaves, in bytes.
func freeMemory() (uint64, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	_, rest, _ := strings.Cut(string(info), "MemAvailable:")
	kib, err := strconv.ParseUint(strings.Fields(rest + " -")[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	free := kib << 10
	// A container sees its own group as the root; elsewhere the root has no limit.
	for _, f := range []string{cgroupRoot + "/memory.max", cgroupRoot + "/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(f)
		if limit, e := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && e == nil {
			free = min(free, limit)
		}
	}
	return free, nil
}
