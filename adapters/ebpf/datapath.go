package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Datapath is the kernel's datapath. Its methods may be called at the same time, but every table has one
// writer.
type Datapath struct {
	cfg     Config
	log     *slog.Logger
	maps    map[string]*ebpf.Map
	progs   map[string]*ebpf.Program
	tables  ports.Tables
	epochs  *words
	words   []*words
	tcx     bool
	attach  sync.Mutex // one attachment change at a time
	reading sync.Mutex // one reader of events at a time

	closing sync.Once
	closed  chan struct{}
}

var (
	_ ports.Datapath   = (*Datapath)(nil)
	_ ports.Translator = (*Datapath)(nil)
)

// Open loads the programs, opens or creates the pinned maps, attaches the programs of the overlay, the
// host and the cgroup, and exchanges those of the pods that are attached already. Pods whose interface
// is gone are cleaned up.
func Open(cfg Config) (_ *Datapath, err error) { return open(cfg, nil, ebpf.ProgramOptions{}) }

// open also sets constants of the programs and verifier options, for tests.
func open(cfg Config, constants map[string]any, opts ebpf.ProgramOptions) (_ *Datapath, err error) {
	d := &Datapath{cfg: cfg, log: cfg.Logger, closed: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if err := prepareDirs(cfg.BPFFS); err != nil {
		return nil, err
	}
	if err := d.load(opts, constants); err != nil {
		return nil, err
	}
	d.tcx = !cfg.ClassicTC && haveTCX(d.progs[progFromPod])
	if err := d.attachBase(); err != nil {
		return nil, err
	}
	if err := d.adoptPods(); err != nil {
		return nil, err
	}
	if err := d.attachSockets(); err != nil {
		return nil, err
	}
	if err := forgetFormer(cfg.BPFFS); err != nil {
		return nil, err
	}
	return d, nil
}

// prepareDirs makes the pin directory and those for links inside.
func prepareDirs(dir string) error {
	if !filepath.IsAbs(dir) || strings.Contains(filepath.Base(dir), ".") {
		return fmt.Errorf("BPFFS %q: an absolute path without dots in its name is needed", dir)
	}
	for _, sub := range []string{"", linksDir, filtersDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("pin directory: %w", err)
		}
	}
	if ok, err := onBPFFS(dir); err != nil {
		return fmt.Errorf("pin directory: %w", err)
	} else if !ok {
		return fmt.Errorf("pin directory %s is not on a BPF file system (mount -t bpf bpf /sys/fs/bpf)", dir)
	}
	return nil
}

// load opens the maps and loads the programs over them.
func (d *Datapath) load(opts ebpf.ProgramOptions, constants map[string]any) error {
	specs, err := loadSpecs()
	if err != nil {
		return err
	}
	shared := sharedMaps(specs)
	d.cfg.Sizes.apply(shared)
	if d.maps, err = openMaps(d.cfg.BPFFS, shared); err != nil {
		d.maps = nil
		return err
	}
	cookie, err := netnsCookie()
	if err != nil {
		return err
	}
	all := map[string]any{"overlay_ifindex": d.cfg.OverlayIfindex, "direct_ifindex": d.cfg.DirectIfindex, "node_netns_cookie": cookie}
	if t := d.cfg.Tunnel; t.Device != 0 && d.cfg.OverlayIfindex != 0 {
		if !t.Address.Is4() || t.Port == 0 {
			return fmt.Errorf("tunnel of device %d: address %s and port %d: an IPv4 address and a port are needed", t.Device, t.Address, t.Port)
		}
		addr := t.Address.As4()
		all["underlay_ifindex"], all["underlay_addr4"] = t.Device, binary.NativeEndian.Uint32(addr[:])
		all["vxlan_port"] = bits.ReverseBytes16(t.Port)
	}
	if err := outsideConstants(d.cfg.Outside, all); err != nil {
		return err
	}
	for k, v := range constants {
		all[k] = v
	}
	if d.progs, err = loadPrograms(specs, d.maps, all, opts); err != nil {
		d.progs = nil
		return err
	}
	return d.makeTables()
}

// outsideConstants tells the programs about packets for services from the network.
func outsideConstants(o ports.Outside, all map[string]any) error {
	if len(o.Devices) == 0 && len(o.Addresses) == 0 {
		return nil
	}
	all["translates"] = uint8(1)
	for _, a := range o.Addresses {
		raw := a.As16()
		switch {
		case !a.IsValid() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "":
			return fmt.Errorf("address %q for clients of services: an IPv4 or IPv6 address of the node without zone is needed", a)
		case a.Is4():
			all["node_addr4"] = binary.NativeEndian.Uint32(raw[12:])
		default:
			var words [4]uint32
			for i := range words {
				words[i] = binary.NativeEndian.Uint32(raw[4*i:])
			}
			all["node_addr6"] = words
		}
	}
	return nil
}

func (d *Datapath) makeTables() error {
	var policies, classes, used *words
	for _, w := range []struct {
		to   **words
		name string
	}{{&policies, mapEPPolicy}, {&classes, mapClasses}, {&d.epochs, mapAddrEpoch}, {&used, mapNATPorts}} {
		mapped, err := newWords(w.name, d.maps[w.name])
		if err != nil {
			return err
		}
		*w.to = mapped
		d.words = append(d.words, mapped)
	}
	d.tables = ports.Tables{
		Endpoints:      endpointTable(d.maps[mapEndpoints]),
		EndpointPolicy: endpointPolicyTable(policies),
		IPCache:        ipcacheTable(d.maps[mapIPCache]),
		Classes:        classTable(classes),
		Policy:         policyTable(d.maps[mapPolicy]),
		Nodes:          nodeTable(d.maps[mapNodes]),
		Services:       serviceTable(d.maps[mapServices], used),
		Slots:          slotTable(d.maps[mapSlots]),
		Backends:       backendTable(d.maps[mapBackends], used),
	}
	return nil
}

// Tables gives access to the tables.
func (d *Datapath) Tables() ports.Tables { return d.tables }

// BumpAddr makes the recorded decisions of all flows with this remote address stale.
func (d *Datapath) BumpAddr(a netip.Addr) error {
	if _, err := addrKey(a); err != nil {
		return fmt.Errorf("bump epoch: %w", err)
	}
	if err := d.epochs.bump(datapath.AddrBucket(a)); err != nil {
		return fmt.Errorf("bump epoch of %v: %w", a, err)
	}
	return nil
}

// BumpAll makes every recorded decision stale.
func (d *Datapath) BumpAll() error {
	if err := d.epochs.bump(datapath.AddrBuckets); err != nil {
		return fmt.Errorf("bump epoch of everything: %w", err)
	}
	return nil
}

// Close releases what the process holds and ends Events. Maps, links and programs stay in force.
func (d *Datapath) Close() error {
	var errs []error
	d.closing.Do(func() {
		close(d.closed)
		for _, w := range d.words {
			errs = append(errs, w.close())
		}
		closePrograms(d.progs)
		closeMaps(d.maps)
	})
	return errors.Join(errs...)
}

// Destroy takes the datapath whose pins are in dir out of the kernel: its programs are detached and its
// tables freed as soon as no process holds them. A directory that is absent is no error. Programs
// attached by clsact (kernels without tcx) are detached if their interface belongs to the
// namespace of the calling thread; otherwise they go with their interface.
func Destroy(dir string) error {
	if ok, err := onBPFFS(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove datapath: %w", err)
	} else if !ok {
		return fmt.Errorf("remove datapath: %s is not on a BPF file system", dir)
	}
	err := errors.Join(removeLinks(filepath.Join(dir, linksDir)), removeFilters(filepath.Join(dir, filtersDir)))
	if err != nil {
		return fmt.Errorf("remove datapath %s: %w", dir, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove datapath: %w", err)
	}
	return nil
}
