package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// releaseNetnsDir takes the directory of named namespaces away when nobody's is left in it: making the
// first one made it a mount of its own. Every tool that needs the directory makes it again.
func releaseNetnsDir() {
	entries, err := os.ReadDir(netns.Dir)
	if err != nil || len(entries) > 0 {
		return
	}
	_ = unix.Unmount(netns.Dir, 0)
	_ = os.Remove(netns.Dir)
}

// listNetns returns the names that begin with prefix, sorted; what a crash left as a plain file, too.
func listNetns(prefix string) ([]string, error) {
	entries, err := os.ReadDir(netns.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

// setNetns moves the calling thread, which must be locked, into the namespace.
func setNetns(path string) error {
	f, err := netns.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
