package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/ports"
)

// Check says why a lab cannot be built on this machine; nil if nothing is known to stand against it. The
// error wraps ports.ErrUnsupported and names everything that is missing.
func Check() error {
	var missing []error
	if os.Geteuid() != 0 {
		missing = append(missing, errors.New("not root"))
	}
	err := netns.OnThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		missing = append(missing, fmt.Errorf("no network namespaces: %w", err))
	}
	if err := checkBPF(); err != nil {
		missing = append(missing, err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("a lab of network namespaces is %w: %w", ports.ErrUnsupported, errors.Join(missing...))
	}
	return nil
}

// checkBPF mounts a BPF file system in a mount namespace that goes away at once.
func checkBPF() error {
	dir, err := os.MkdirTemp("", "weir-check-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	return netns.OnThread(func() error {
		// A thread has its own mount namespace only without the shared working directory.
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("no mount namespaces: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("no private mounts: %w", err)
		}
		if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
			return fmt.Errorf("no BPF file system: %w", err)
		}
		return nil
	})
}
