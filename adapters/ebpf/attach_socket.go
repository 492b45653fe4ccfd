package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// socketHooks are the programs of the cgroup.
var socketHooks = map[string]ebpf.AttachType{
	"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
	"sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "sendmsg6": ebpf.AttachCGroupUDP6Sendmsg,
	"recvmsg4": ebpf.AttachCGroupUDP4Recvmsg, "recvmsg6": ebpf.AttachCGroupUDP6Recvmsg,
	"getpeername4": ebpf.AttachCgroupInet4GetPeername, "getpeername6": ebpf.AttachCgroupInet6GetPeername,
}

// attachSockets attaches the socket programs to the configured cgroup, or detaches them if there is none.
func (d *Datapath) attachSockets() error {
	var id uint64
	if d.cfg.Cgroup != "" {
		var err error
		if id, err = cgroupID(d.cfg.Cgroup, d.cfg.AllowRootCgroup); err != nil {
			return err
		}
	}
	for _, hook := range sortedKeys(socketHooks) {
		path := filepath.Join(d.cfg.BPFFS, linksDir, hook)
		var err error
		if d.cfg.Cgroup == "" {
			err = removeLink(path)
		} else {
			err = d.attachSocket(hook, path, id)
		}
		if err != nil {
			return fmt.Errorf("attach %s to cgroup %q: %w", hook, d.cfg.Cgroup, err)
		}
	}
	return nil
}

func (d *Datapath) attachSocket(hook, path string, id uint64) error {
	old, err := link.LoadPinnedLink(path, nil)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open pinned link: %w", err)
	}
	if err == nil {
		defer old.Close()
		info, err := old.Info()
		if err != nil {
			return fmt.Errorf("pinned link: %w", err)
		}
		if cg := info.Cgroup(); cg != nil && cg.CgroupId == id {
			return old.Update(d.progs[hook])
		}
	}
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: d.cfg.Cgroup, Attach: socketHooks[hook], Program: d.progs[hook],
	})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := removeLink(path); err != nil {
		return err
	}
	return l.Pin(path)
}

// netnsCookie names the network namespace of the calling thread, as programs see it.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: make a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w", err)
	}
	return cookie, nil
}

// cgroupID checks that a path is a cgroup v2 directory, and not the root unless allowed, and returns its
// id: the inode.
func cgroupID(path string, allowRoot bool) (uint64, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	if int64(fs.Type) != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("cgroup %s is not a directory of cgroup v2", path)
	}
	// Only the root of the hierarchy has no type.
	_, err := os.Stat(filepath.Join(path, "cgroup.type"))
	if errors.Is(err, os.ErrNotExist) && !allowRoot {
		return 0, fmt.Errorf("cgroup %s is the root of the hierarchy: every socket of the machine would be "+
			"affected; name a cgroup below it, or set AllowRootCgroup", path)
	}
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return st.Ino, nil
}
