package ebpf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// tableName is a map's name without the version of its layout.
func tableName(name string) string {
	if at := strings.LastIndex(name, "_v"); at >= 0 {
		return name[:at]
	}
	return name
}

// tableError names table, operation and row, and gives what callers branch on its port error.
func tableError(table, op string, key any, err error) error {
	if err == nil {
		return nil
	}
	name := tableName(table)
	switch {
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("table %s: %s %v: %w (%w)", name, op, key, ports.ErrFull, err)
	case errors.Is(err, ebpf.ErrKeyNotExist), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("table %s: %s %v: %w", name, op, key, ports.ErrNotFound)
	case errors.Is(err, unix.EBADF):
		return fmt.Errorf("table %s: %s %v: %w", name, op, key, ports.ErrClosed)
	}
	return fmt.Errorf("table %s: %s %v: %w", name, op, key, err)
}
