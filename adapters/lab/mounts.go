package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo.
type mount struct {
	root, point, fstype string
}

func mounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	defer f.Close()
	var out []mount
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if m, ok := parseMount(s.Text()); ok {
			out = append(out, m)
		}
	}
	return out, s.Err()
}

// parseMount reads "ID PARENT DEV ROOT POINT OPTIONS [TAGS…] - FSTYPE SOURCE OPTIONS".
func parseMount(line string) (mount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 5 || len(r) < 1 {
		return mount{}, false
	}
	return mount{root: unescapeMount(l[3]), point: unescapeMount(l[4]), fstype: r[0]}, true
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unmountBelow unmounts everything at or below dir, the innermost first.
func unmountBelow(dir string) error {
	all, err := mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(all) {
		if m.point != dir && !strings.HasPrefix(m.point, dir+"/") {
			continue
		}
		err := unix.Unmount(m.point, 0)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(m.point, unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.point, err))
		}
	}
	return errors.Join(errs...)
}

// mountBPF mounts a BPF file system of its own on dir, which must exist.
func mountBPF(dir string) error {
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", dir, err)
	}
	return nil
}
