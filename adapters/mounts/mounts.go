// Package mounts mounts the file systems that the datapath needs on the machine, also from inside a
// container: it enters the namespaces of the machine's first process, so that what it mounts is seen by all
// and outlives the container. It runs no external program and leaves no file behind.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// FileSystem is a kind of file system.
type FileSystem struct {
	kind       string
	magic      int64
	namespaces []namespace // to enter before mounting
}

type namespace struct {
	name string
	flag int
}

var mountNamespace = namespace{"mnt", unix.CLONE_NEWNS}

// The file systems. That of cgroups shows the tree of the cgroup namespace in which it is mounted.
var (
	Cgroup2 = FileSystem{"cgroup2", unix.CGROUP2_SUPER_MAGIC, []namespace{{"cgroup", unix.CLONE_NEWCGROUP}, mountNamespace}}
	BPF     = FileSystem{"bpf", unix.BPF_FS_MAGIC, []namespace{mountNamespace}}
)

// Ensure mounts a file system at an absolute path, made if absent, in the namespaces of the process whose
// directory below /proc is given ("/hostproc/1"); "" is the calling process. It says whether it had to. A
// path on which one of that kind is mounted already is left alone; one where another file system is mounted
// is covered. It needs CAP_SYS_ADMIN, and to enter namespaces CAP_SYS_CHROOT and CAP_SYS_PTRACE.
func Ensure(fs FileSystem, proc, path string) (mounted bool, err error) {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return false, fmt.Errorf("mount %s at %q: the path must be absolute", fs.kind, path)
	}
	err = netns.OnThread(func() error {
		if proc != "" {
			if err := enter(proc, fs.namespaces); err != nil {
				return err
			}
		}
		mounted, err = ensure(fs, path)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("mount %s at %s: %w", fs.kind, path, err)
	}
	return mounted, nil
}

// enter moves the calling thread into namespaces of a process.
func enter(proc string, namespaces []namespace) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	// All are opened before the first is entered: the path means something else afterwards.
	for _, ns := range namespaces {
		f, err := os.Open(filepath.Join(proc, "ns", ns.name))
		if err != nil {
			return fmt.Errorf("%s namespace: %w", ns.name, err)
		}
		files = append(files, f)
	}
	// Root and working directory are shared by the threads of a process; a mount namespace can only be entered
	// by a thread that has its own.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the process's root directory: %w", err)
	}
	for i, ns := range namespaces {
		if err := unix.Setns(int(files[i].Fd()), ns.flag); err != nil {
			return fmt.Errorf("enter the %s namespace of %s: %w", ns.name, proc, err)
		}
	}
	return nil
}

func ensure(fs FileSystem, path string) (bool, error) {
	if err := os.MkdirAll(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return false, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, err
	}
	if int64(st.Type) == fs.magic {
		return false, nil
	}
	var flags uintptr = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if fs.kind == BPF.kind {
		flags = 0
	}
	if err := unix.Mount(fs.kind, path, fs.kind, flags, ""); err != nil {
		return false, err
	}
	return true, nil
}
