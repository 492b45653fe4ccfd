package ebpf

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Directories inside the pin directory: tcx and cgroup links; and marks for filters of clsact, which
// cannot be pinned themselves.
const (
	linksDir   = "links"
	filtersDir = "filters"
)

// side is the side of an interface that a TC program sits on, as the kernel calls it.
type side struct {
	tcx    ebpf.AttachType
	parent uint32 // of the classic filter
}

var hookSides = map[string]side{
	progFromPod:     {ebpf.AttachTCXIngress, clsactIngress},
	progToPod:       {ebpf.AttachTCXEgress, clsactEgress},
	progFromOverlay: {ebpf.AttachTCXIngress, clsactIngress},
	progFromHost:    {ebpf.AttachTCXEgress, clsactEgress},
	progFromNetwork: {ebpf.AttachTCXIngress, clsactIngress},
	progToNetwork:   {ebpf.AttachTCXEgress, clsactEgress},
}

// noSuchInterface has no chance to exist: indexes are handed out from 1 upwards.
const noSuchInterface = 1<<31 - 1

// haveTCX asks the kernel to attach to an interface that does not exist: one that knows tcx complains
// about the interface.
func haveTCX(prog *ebpf.Program) bool {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: noSuchInterface, Program: prog, Attach: ebpf.AttachTCXIngress,
	})
	if err == nil {
		_ = l.Close()
	}
	return errors.Is(err, unix.ENODEV)
}

// AttachMode says how TC programs are attached: "TCX" or "Legacy TC".
func (d *Datapath) AttachMode() string {
	if d.tcx {
		return "TCX"
	}
	return "Legacy TC"
}

func (d *Datapath) pin(dir, prog string, ifindex uint32) string {
	return filepath.Join(d.cfg.BPFFS, dir, prog+"_"+strconv.FormatUint(uint64(ifindex), 10))
}

// AttachPod puts the pod programs on the host side of a pod's veth. Where they are already, they are
// exchanged for this version's, without a gap.
func (d *Datapath) AttachPod(ifindex uint32) error {
	d.attach.Lock()
	defer d.attach.Unlock()
	return d.attachPod(ifindex)
}

func (d *Datapath) attachPod(ifindex uint32) error {
	for _, prog := range []string{progToPod, progFromPod} {
		if err := d.attachTC(prog, ifindex); err != nil {
			return fmt.Errorf("attach %s to interface %d: %w", prog, ifindex, err)
		}
	}
	return nil
}

// DetachPod takes the pod programs away. An interface that is gone, or never had them, is no error.
func (d *Datapath) DetachPod(ifindex uint32) error {
	d.attach.Lock()
	defer d.attach.Unlock()
	return d.detachPod(ifindex)
}

func (d *Datapath) detachPod(ifindex uint32) error {
	for _, prog := range []string{progFromPod, progToPod} {
		if err := d.detachTC(prog, ifindex); err != nil {
			return err
		}
	}
	return nil
}

// AttachedPods lists the interfaces that carry pod programs, in order of index.
func (d *Datapath) AttachedPods() ([]uint32, error) {
	d.attach.Lock()
	defer d.attach.Unlock()
	return d.carriers(progFromPod)
}

// attachBase attaches the programs of the overlay and host devices, and takes away those of devices
// that no longer have these roles. Without these two nothing is judged that they bring, and nobody would attach them
// later: it is an error if they are not there.
func (d *Datapath) attachBase() error {
	return errors.Join(
		d.attachExactly(progFromOverlay, []uint32{d.cfg.OverlayIfindex}, false),
		d.attachExactly(progFromHost, []uint32{d.cfg.HostIfindex}, false),
		d.AttachNetwork(d.cfg.Outside.Devices),
	)
}

// AttachNetwork implements ports.Datapath. A device that is gone keeps neither program nor pin.
func (d *Datapath) AttachNetwork(ifindexes []uint32) error {
	d.attach.Lock()
	defer d.attach.Unlock()
	// What comes in is only translated where its answers are, too.
	return errors.Join(
		d.attachExactly(progToNetwork, ifindexes, true),
		d.attachExactly(progFromNetwork, append([]uint32{cmp.Or(d.cfg.DirectIfindex, d.cfg.Tunnel.Device)}, ifindexes...), true),
	)
}

// AttachedNetwork implements ports.Datapath, in order of index.
func (d *Datapath) AttachedNetwork() ([]uint32, error) {
	d.attach.Lock()
	defer d.attach.Unlock()
	return d.carriers(progToNetwork)
}

// carriers lists the interfaces that carry a program.
func (d *Datapath) carriers(prog string) ([]uint32, error) {
	pins, err := d.pinned(prog)
	if err != nil {
		return nil, err
	}
	var out []uint32
	for _, ifindex := range pins {
		alive, err := d.attached(prog, ifindex)
		if err != nil {
			return nil, fmt.Errorf("look at interface %d: %w", ifindex, err)
		}
		if alive {
			out = append(out, ifindex)
		}
	}
	return out, nil
}

// attachExactly attaches a program to these interfaces (0 stands for none), and takes it away from all others. Where it is
// already, it is exchanged for this version's. An interface that is gone is no error if it may be: whoever named it will be told.
func (d *Datapath) attachExactly(prog string, ifindexes []uint32, mayBeGone bool) error {
	var errs []error
	for _, ifindex := range ifindexes {
		if ifindex == 0 {
			continue
		}
		err := d.attachTC(prog, ifindex)
		if err != nil && !(mayBeGone && deviceIsGone(err)) {
			errs = append(errs, fmt.Errorf("attach %s to interface %d: %w", prog, ifindex, err))
		}
	}
	pins, err := d.pinned(prog)
	errs = append(errs, err)
	for _, old := range pins {
		if slices.Contains(ifindexes, old) {
			continue
		}
		d.log.Info("removing program of a former device", "program", prog, "ifindex", old)
		if err := d.detachTC(prog, old); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// deviceIsGone says whether an interface or its link went while a program was put there.
func deviceIsGone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOLINK) }

// detachTC takes a program away, by whatever mechanism it was attached.
func (d *Datapath) detachTC(prog string, ifindex uint32) error {
	err := errors.Join(
		removeLink(d.pin(linksDir, prog, ifindex)),
		removeFilter(d.pin(filtersDir, prog, ifindex), prog, ifindex),
	)
	if err != nil {
		return fmt.Errorf("detach %s from interface %d: %w", prog, ifindex, err)
	}
	return nil
}

// adoptPods exchanges the programs of attached pods for this version's and forgets interfaces that are
// gone.
func (d *Datapath) adoptPods() error {
	d.attach.Lock()
	defer d.attach.Unlock()
	from, err := d.pinned(progFromPod)
	if err != nil {
		return err
	}
	to, err := d.pinned(progToPod)
	if err != nil {
		return err
	}
	all := append(from, to...)
	slices.Sort(all)
	for _, ifindex := range slices.Compact(all) {
		alive, err := d.attached(progFromPod, ifindex)
		if err == nil && !alive {
			alive, err = d.attached(progToPod, ifindex)
		}
		if err != nil {
			return fmt.Errorf("look at interface %d: %w", ifindex, err)
		}
		if alive {
			err = d.attachPod(ifindex)
		}
		if !alive || deviceIsGone(err) {
			d.log.Info("forgetting a pod whose interface is gone", "ifindex", ifindex)
			err = d.detachPod(ifindex)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attachTC attaches a program by the mechanism in use, or exchanges it where it is attached already;
// then it removes what the other mechanism left, so that no packet is judged twice.
func (d *Datapath) attachTC(prog string, ifindex uint32) error {
	if d.tcx {
		if err := d.attachLink(prog, ifindex); err != nil {
			return err
		}
		return removeFilter(d.pin(filtersDir, prog, ifindex), prog, ifindex)
	}
	if err := d.attachFilter(prog, ifindex); err != nil {
		return err
	}
	return removeLink(d.pin(linksDir, prog, ifindex))
}

func (d *Datapath) attachLink(prog string, ifindex uint32) error {
	path := d.pin(linksDir, prog, ifindex)
	l, err := openLink(path, ifindex)
	if err != nil {
		return err
	}
	if l != nil {
		defer l.Close()
		return l.Update(d.progs[prog])
	}
	l, err = link.AttachTCX(link.TCXOptions{
		Interface: int(ifindex), Program: d.progs[prog], Attach: hookSides[prog].tcx,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Pin(path)
}

// openLink opens a pinned tcx link if it still sits on the interface. A pin that does not is removed;
// nil is returned then, and when there is none.
func openLink(path string, ifindex uint32) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link %s: %w", filepath.Base(path), err)
	}
	info, err := l.Info()
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("pinned link %s: %w", filepath.Base(path), err)
	}
	if tcx := info.TCX(); tcx != nil && tcx.Ifindex == ifindex {
		return l, nil
	}
	_ = l.Close()
	return nil, removePin(path)
}

// pinned lists the interfaces for which a program has a pin of either mechanism.
func (d *Datapath) pinned(prog string) ([]uint32, error) {
	var out []uint32
	for _, dir := range []string{linksDir, filtersDir} {
		entries, err := os.ReadDir(filepath.Join(d.cfg.BPFFS, dir))
		if err != nil {
			return nil, fmt.Errorf("list pins: %w", err)
		}
		for _, e := range entries {
			rest, ok := strings.CutPrefix(e.Name(), prog+"_")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(rest, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("pin %s does not end in an interface index", e.Name())
			}
			out = append(out, uint32(n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// attached says whether an interface really carries a program that has a pin.
func (d *Datapath) attached(prog string, ifindex uint32) (bool, error) {
	l, err := openLink(d.pin(linksDir, prog, ifindex), ifindex)
	if err != nil {
		return false, err
	}
	if l != nil {
		return true, l.Close()
	}
	return haveFilter(d.pin(filtersDir, prog, ifindex), prog, ifindex)
}

// removeLink detaches a pinned link and removes the pin. Without the first, the kernel would detach it
// some time after the pin is gone, and refuse the same program until then.
func removeLink(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", filepath.Base(path), err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach %s: %w", filepath.Base(path), err)
	}
	return removePin(path)
}

// removeLinks detaches all links pinned in a directory.
func removeLinks(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeLink(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removePin removes a pin if it is there.
func removePin(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
