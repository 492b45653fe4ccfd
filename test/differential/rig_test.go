package differential_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	adapter "github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

// needs skips where programs cannot be loaded, and says what is missing; with REQUIRE=root or REQUIRE=bpf in
// the environment that is a failure.
func needs(t *testing.T) {
	t.Helper()
	what, missing := "bpf", ""
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	switch {
	case os.Geteuid() != 0:
		what, missing = "root", "root is needed"
	case err != nil:
		missing = "BPF maps cannot be created: " + err.Error()
	default:
		_ = m.Close()
	}
	if _, err := exec.LookPath("ip"); err != nil && missing == "" {
		missing = "the ip command is needed (iproute2)"
	}
	if missing == "" {
		return
	}
	required := strings.Split(os.Getenv("REQUIRE"), ",")
	if slices.Contains(required, what) || slices.Contains(required, "bpf") {
		t.Fatalf("REQUIRE=%s: %s", os.Getenv("REQUIRE"), missing)
	}
	t.Skip(missing)
}

// Slots are interfaces: those of pods, then the overlay device, one of the node, and the one on which other nodes are
// neighbours.
const (
	podSlots    = 5
	slotOverlay = podSlots
	slotHost    = podSlots + 1
	slotNetwork = podSlots + 2
	slots       = podSlots + 3
)

// networkMAC is the address of slotNetwork: frames to it are for this machine.
var networkMAC = datapath.MAC{2, 0xcc, 2}

// forThisMachine says that the kernel takes the frame for one of this machine's own.
func (i *injection) forThisMachine() bool {
	return i.Slot == slotNetwork && len(i.Frame) >= 6 && datapath.MAC(i.Frame[:6]) == networkMAC
}

// rig is a datapath in the kernel, and what is needed to run its programs on frames. It belongs to the
// test's goroutine, whose thread is in a network namespace of its own.
type rig struct {
	real     *adapter.Datapath
	tables   ports.Tables
	ifindex  [slots]uint32
	progs    map[kernel.Hook]*ebpf.Program
	wire     *wire
	notes    *ebpf.Map
	flows    *ebpf.Map
	frags    *ebpf.Map
	nat      *ebpf.Map
	ends     uint32 // offset of the time in a row of nat
	affinity *ebpf.Map
	used     uint32   // offset of the time in a row of affinity
	sockets  *sockets // nil: none, and no socket hooks
	expires  uint32   // offset of the time in a flow entry
	ticks    []uint32 // offsets of when each side renewed it
	events   chan datapath.Event
	marks    int                     // that were sent, but not read yet
	undo     map[string]func() error // deletes of the rows that were written since reset
	counters map[counterKey]ports.Counter
}

type counterKey struct {
	reason    datapath.Reason
	direction datapath.Direction
}

// newRig makes a rig for packets.
func newRig(t *testing.T) *rig {
	t.Helper()
	return makeRig(t, false)
}

// newSocketRig makes one for packets and for calls of sockets. Until the test ends this process is in another cgroup.
func newSocketRig(t *testing.T) *rig {
	t.Helper()
	return makeRig(t, true)
}

func makeRig(t *testing.T, withSockets bool) *rig {
	t.Helper()
	needs(t)
	runtime.LockOSThread() // never unlocked: the thread and its namespace go with the test's goroutine
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	r := &rig{progs: map[kernel.Hook]*ebpf.Program{}, events: make(chan datapath.Event, 1024), undo: map[string]func() error{}}
	for i := range slots {
		name := fmt.Sprintf("slot%d", i)
		out, err := exec.Command("ip", "link", "add", name, "type", "veth", "peer", "name", name+"p").CombinedOutput()
		require.NoError(t, err, "%s", out)
		if i == slotNetwork {
			out, err := exec.Command("ip", "link", "set", name, "address", networkMAC.String()).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		dev, err := net.InterfaceByName(name)
		require.NoError(t, err)
		r.ifindex[i] = uint32(dev.Index)
	}
	r.wire = newWire(t)
	r.makeRoutes(t)
	bpffs := filepath.Join(t.TempDir(), "bpf")
	require.NoError(t, os.Mkdir(bpffs, 0o700))
	require.NoError(t, unix.Mount("bpf", bpffs, "bpf", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(bpffs, unix.MNT_DETACH)) })
	dir := filepath.Join(bpffs, "weir")
	var groups cgroups
	if withSockets {
		groups = newCgroups(t)
		r.sockets = newSockets(t, groups)
	}

	var err error
	if withSockets { // the first client is the node itself
		require.NoError(t, unix.Setns(r.sockets.places[nodeNetns-1].ns, unix.CLONE_NEWNET))
	}
	r.real, err = adapter.Open(adapter.Config{
		BPFFS:  dir, // and no interfaces: its own programs must not meet what is on the wire
		Cgroup: groups.balanced,
		Sizes: adapter.Sizes{
			Endpoints: 256, IPCache: 1024, Policy: 4096, Nodes: 64, Services: 256, Slots: 1024, Backends: 256,
			Affinity: 4096, SockRev: 16384, Flows: 4096, Frags: 1024, NAT: 4096, EventRing: 1 << 18,
		},
	})
	require.NoError(t, err)
	if withSockets {
		require.NoError(t, unix.Setns(r.sockets.home, unix.CLONE_NEWNET))
	}
	t.Cleanup(func() { require.NoError(t, r.real.Close()) })
	r.tables, r.notes = r.real.Tables(), newNotes(t)
	r.load(t, dir)
	r.affinity = pinned(t, dir, bpf.SockMapAffinityV1)
	sock, err := bpf.LoadSock()
	require.NoError(t, err)
	r.used = offsetOf(t, sock.Maps[bpf.SockMapAffinityV1].Value, "used_ns")
	r.listen(t)
	if withSockets {
		groups.enter(t)
	}
	return r
}

// load loads the programs once more over the same maps: with the tunnel key taken from skb->cb, and spied on.
func (r *rig) load(t *testing.T, dir string) {
	t.Helper()
	for hook, load := range map[kernel.Hook]func() (*ebpf.CollectionSpec, error){
		kernel.FromPod: bpf.LoadFromPod, kernel.ToPod: bpf.LoadToPod,
		kernel.FromOverlay: bpf.LoadFromOverlay, kernel.FromHost: bpf.LoadFromHost,
		kernel.FromNetwork: bpf.LoadFromNetwork, kernel.ToNetwork: bpf.LoadToNetwork,
	} {
		spec, err := load()
		require.NoError(t, err)
		for name, v := range map[string]any{"overlay_ifindex": r.ifindex[slotOverlay], "direct_ifindex": r.ifindex[slotNetwork], "test_tunnel_from_cb": uint8(1),
			"translates": uint8(1), "node_addr4": native.Uint32(outsideAddrs[0].AsSlice()), "node_addr6": words(outsideAddrs[1]),
		} {
			if x := spec.Variables[name]; x != nil {
				require.NoError(t, x.Set(v))
			}
		}
		replace := map[string]*ebpf.Map{}
		for name, ms := range spec.Maps {
			if ms.Pinning != ebpf.PinByName {
				continue
			}
			m := pinned(t, dir, name)
			ms.Pinning, ms.MaxEntries, replace[name] = ebpf.PinNone, m.MaxEntries(), m
			switch name {
			case bpf.FromPodMapFlowsV1:
				r.flows, r.expires = m, offsetOf(t, ms.Value, "expires_ns")
				r.ticks = ticksOf(t, ms.Value)
			case bpf.FromPodMapFragsV1:
				r.frags = m
			case bpf.FromPodMapNatV1:
				r.nat, r.ends = m, offsetOf(t, ms.Value, "expires_ns")
			}
		}
		spyOn(spec.Programs[hook.String()], r.notes)
		wired := spec.Programs[hook.String()].Copy()
		r.wire.wrap(wired, r.notes)
		spec.Programs["wire"] = wired
		coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
		require.NoError(t, err)
		r.progs[hook], r.wire.progs[hook] = coll.DetachProgram(hook.String()), coll.DetachProgram("wire")
		t.Cleanup(func() { _ = r.progs[hook].Close(); _ = r.wire.progs[hook].Close() })
		coll.Close()
	}
}

// pinned opens a map of the datapath.
func pinned(t *testing.T, dir, name string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// offsetOf finds a field.
func offsetOf(t *testing.T, typ btf.Type, field string) uint32 {
	t.Helper()
	s, ok := btf.UnderlyingType(typ).(*btf.Struct)
	require.True(t, ok, "%v", typ)
	for _, m := range s.Members {
		if m.Name == field {
			return m.Offset.Bytes()
		}
	}
	t.Fatalf("%v has no field %s", typ, field)
	return 0
}

// ticksOf finds the field "tick" of both sides of a flow entry.
func ticksOf(t *testing.T, flow btf.Type) (out []uint32) {
	t.Helper()
	s, ok := btf.UnderlyingType(flow).(*btf.Struct)
	require.True(t, ok, "%v", flow)
	for _, m := range s.Members {
		if sides, ok := btf.UnderlyingType(m.Type).(*btf.Array); ok && m.Name == "side" {
			size, err := btf.Sizeof(sides.Type)
			require.NoError(t, err)
			for i := range sides.Nelems {
				out = append(out, m.Offset.Bytes()+i*uint32(size)+offsetOf(t, sides.Type, "tick"))
			}
		}
	}
	require.Len(t, out, 2)
	return out
}

// listen starts the reader of events. It ends when the datapath is closed.
func (r *rig) listen(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- r.real.Events(ctx, func(e datapath.Event) {
			select {
			case r.events <- e:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// age makes all flow entries of the kernel older.
func (r *rig) age(d time.Duration) error {
	return r.eachFlow(func(key, value []byte) error {
		at := value[r.expires:]
		before := native.Uint64(at)
		native.PutUint64(at, before-min(before, uint64(d)))
		for _, tick := range r.ticks {
			native.PutUint32(value[tick:], 0) // that was another time
		}
		return r.flows.Put(key, value)
	})
}

func (r *rig) eachFlow(f func(key, value []byte) error) error {
	type row struct{ key, value []byte }
	var rows []row
	var key, value []byte
	it := r.flows.Iterate()
	for it.Next(&key, &value) {
		rows = append(rows, row{slices.Clone(key), slices.Clone(value)})
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	for _, x := range rows {
		if err := f(x.key, x.value); err != nil {
			return fmt.Errorf("change flow: %w", err)
		}
	}
	return nil
}

// reset empties the tables.
func (r *rig) reset() error {
	for name, f := range r.undo {
		if err := f(); err != nil {
			return fmt.Errorf("reset %s: %w", name, err)
		}
	}
	clear(r.undo)
	if _, err := r.real.FlushFlows(); err != nil {
		return err
	}
	if err := errors.Join(emptyMap(r.frags), emptyMap(r.nat), emptyMap(r.affinity), r.forgetSockets()); err != nil {
		return err
	}
	var err error
	r.counters, err = r.count()
	return err
}

func emptyMap(m *ebpf.Map) error {
	var keys [][]byte
	var key, value []byte
	it := m.Iterate()
	for it.Next(&key, &value) {
		keys = append(keys, slices.Clone(key))
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %v: %w", m, err)
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil {
			return fmt.Errorf("reset %v: %w", m, err)
		}
	}
	return nil
}

func (r *rig) count() (map[counterKey]ports.Counter, error) {
	rows, err := r.real.Counters()
	if err != nil {
		return nil, err
	}
	return byKey(rows), nil
}

func byKey(rows []ports.Counter) map[counterKey]ports.Counter {
	out := map[counterKey]ports.Counter{}
	for _, c := range rows {
		out[counterKey{c.Reason, c.Direction}] = c
	}
	return out
}
