package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/florianl/go-tc"
	"github.com/florianl/go-tc/core"
	"golang.org/x/sys/unix"
)

// Kernels before 6.6 have no tcx: there the programs are filters of the clsact qdisc. They stay when the
// process goes; a pin of the program marks the interface as ours.

const (
	clsactIngress = tc.HandleMinIngress
	clsactEgress  = tc.HandleMinEgress

	// Our filter among others on the same side: first in order, and with a handle that names it.
	filterPriority = 1
	filterHandle   = 0x7765

	// freshMark begins the name of a pin that is about to become a mark.
	freshMark = "new_"
)

func filterMessage(parent, ifindex uint32) tc.Msg {
	protocol := uint32(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00) // big endian
	return tc.Msg{
		Family: unix.AF_UNSPEC, Ifindex: ifindex, Handle: filterHandle,
		Parent: core.BuildHandle(tc.HandleRoot, parent),
		Info:   filterPriority<<16 | protocol,
	}
}

func filterName(prog string) string { return "weir_" + prog }

// withTC opens a netlink socket for traffic control in the namespace of the calling thread.
func withTC(f func(*tc.Tc) error) error {
	t, err := tc.Open(&tc.Config{})
	if err != nil {
		return fmt.Errorf("open traffic control: %w", err)
	}
	defer t.Close()
	return f(t)
}

// attachFilter adds the filter, or exchanges its program at once where it exists.
func (d *Datapath) attachFilter(prog string, ifindex uint32) error {
	fd, flags, name := uint32(d.progs[prog].FD()), uint32(tc.BpfActDirect), filterName(prog)
	err := withTC(func(t *tc.Tc) error {
		err := t.Qdisc().Add(&tc.Object{
			Msg: tc.Msg{
				Family: unix.AF_UNSPEC, Ifindex: ifindex,
				Handle: core.BuildHandle(tc.HandleRoot, 0), Parent: tc.HandleIngress,
			},
			Attribute: tc.Attribute{Kind: "clsact"},
		})
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("add clsact: %w", err)
		}
		err = t.Filter().Replace(&tc.Object{
			Msg: filterMessage(hookSides[prog].parent, ifindex),
			Attribute: tc.Attribute{
				Kind: "bpf", BPF: &tc.Bpf{FD: &fd, Name: &name, Flags: &flags},
			},
		})
		if err != nil {
			return fmt.Errorf("replace filter: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.markFilter(prog, ifindex)
}

// markFilter pins the program as the mark of its filter. An older mark is exchanged, not removed first:
// however the process ends, an interface that carries the filter keeps its mark.
func (d *Datapath) markFilter(prog string, ifindex uint32) error {
	fresh := d.pin(filtersDir, freshMark+prog, ifindex)
	if err := removePin(fresh); err != nil {
		return err
	}
	// A clone, because pinning binds a program to its path.
	clone, err := d.progs[prog].Clone()
	if err != nil {
		return err
	}
	defer clone.Close()
	if err := clone.Pin(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, d.pin(filtersDir, prog, ifindex))
}

// haveFilter says whether the interface carries our filter.
func haveFilter(mark, prog string, ifindex uint32) (found bool, err error) {
	if _, err := os.Stat(mark); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	err = withTC(func(t *tc.Tc) error {
		msg := filterMessage(hookSides[prog].parent, ifindex)
		filters, err := t.Filter().Get(&tc.Msg{Family: unix.AF_UNSPEC, Ifindex: ifindex, Parent: msg.Parent})
		if isGone(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list filters: %w", err)
		}
		for _, f := range filters {
			if f.BPF != nil && f.BPF.Name != nil && *f.BPF.Name == filterName(prog) {
				found = true
			}
		}
		return nil
	})
	return found, err
}

// removeFilter removes filter and mark. Without a mark nothing is done.
func removeFilter(mark, prog string, ifindex uint32) error {
	if _, err := os.Stat(mark); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	found, err := haveFilter(mark, prog, ifindex)
	if err != nil {
		return err
	}
	if found {
		err := withTC(func(t *tc.Tc) error {
			return t.Filter().Delete(&tc.Object{
				Msg: filterMessage(hookSides[prog].parent, ifindex), Attribute: tc.Attribute{Kind: "bpf"},
			})
		})
		if err != nil && !isGone(err) {
			return fmt.Errorf("delete filter: %w", err)
		}
	}
	return removePin(mark)
}

// removeFilters removes all filters that a directory of marks names.
func removeFilters(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		cut := strings.LastIndexByte(e.Name(), '_')
		if cut < 0 {
			continue
		}
		ifindex, err := strconv.ParseUint(e.Name()[cut+1:], 10, 32)
		if prog := e.Name()[:cut]; err == nil && hookSides[prog].parent != 0 {
			if err := removeFilter(filepath.Join(dir, e.Name()), prog, uint32(ifindex)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isGone says whether an error means that interface, qdisc or filter does not exist.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}
