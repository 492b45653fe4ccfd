// Package kernel is a kernel in memory: it holds the tables of ports.Datapath, takes real frames and
// does with them what docs/datapath.md says, deterministically. It is what the eBPF programs are
// compared with, and what lets a whole cluster run inside one test (see Fabric).
//
// Beyond forwarding it keeps watch: an order of writes that the contract forbids is recorded (see
// Kernel.Violations), and any operation can be made to fail (see Kernel.Fail).
package kernel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// Capacities are the sizes of the tables in rows. 0 means the default.
type Capacities struct {
	Endpoints, IPCache, Policy, Nodes int
	Services, Slots, Backends         int
	Affinity, SockRev, Flows, Frags   int
	NAT                               int
	Events                            int // events that wait for a reader
}

func (c *Capacities) fill() {
	for _, f := range []struct {
		field *int
		size  int
	}{
		{&c.Endpoints, 65536}, {&c.IPCache, 512000}, {&c.Policy, 1 << 20}, {&c.Nodes, 65536},
		{&c.Services, 65536}, {&c.Slots, 1 << 20}, {&c.Backends, 65536},
		{&c.Affinity, 65536}, {&c.SockRev, 65536}, {&c.Flows, 524288}, {&c.Frags, 8192},
		{&c.NAT, 131072},
		{&c.Events, 65536},
	} {
		if *f.field == 0 {
			*f.field = f.size
		}
	}
}

// Options make a kernel. The zero value is usable.
type Options struct {
	Capacities Capacities
	Clock      ports.Clock // nil: a clock that stands still
	Seed       uint64      // of the choice of backends
	Overlay    uint32      // ifindex of the overlay device; 0: DefaultOverlay
	Direct     uint32      // ifindex of the device on which other nodes are neighbours; 0: none

	// Netns is the cookie of the node's own network namespace, whose sockets reach node ports by the loopback address;
	// 0: none. A fabric sets it.
	Netns uint64

	Outside Outside // where packets for services come from the network

	// Choose picks one of n slots of backends, counted from 0; nil: what comes from Seed. It must not call the
	// kernel.
	Choose func(n uint32) uint32
}

// DefaultOverlay is the overlay device's ifindex when Options names none.
const DefaultOverlay = 3

// Kernel implements ports.Datapath. Safe for concurrent use.
type Kernel struct {
	mu      sync.Mutex
	clock   ports.Clock
	boot    time.Time
	choose  func(n uint32) uint32
	overlay uint32
	direct  uint32
	netns   uint64
	outside Outside

	endpoints *table[netip.Addr, datapath.Endpoint]
	epPolicy  *table[datapath.EndpointID, datapath.EndpointPolicy]
	ipcache   *table[netip.Prefix, datapath.IPCache]
	classes   *table[datapath.ClassKey, datapath.Class]
	policy    *table[datapath.PolicyKey, datapath.PolicyRow]
	nodes     *table[netip.Addr, datapath.Node]
	services  *table[datapath.ServiceKey, datapath.Service]
	slots     *table[datapath.SlotKey, uint32]
	backends  *table[uint32, datapath.Backend]
	tables    ports.Tables
	watch     watch

	flows    *lru[datapath.FlowKey, *entry]
	frags    *lru[fragKey, fragPorts]
	nat      *lru[datapath.Tuple, *natRow]
	affinity *lru[affinityKey, affinityRow]
	sockRev  *lru[sockRevKey, sockRevRow]

	allEpoch  datapath.Epoch
	addrEpoch [datapath.AddrBuckets]datapath.Epoch
	counters  map[counterKey]*ports.Counter
	attached  map[uint32]bool
	network   []uint32 // devices
	events    events
	fail      func(op, table string, key any) error
}

var (
	_ ports.Datapath   = (*Kernel)(nil)
	_ ports.Translator = (*Kernel)(nil)
)

type counterKey struct {
	reason    datapath.Reason
	direction datapath.Direction
}

type stillClock struct{}

func (stillClock) Now() time.Time                       { return time.Unix(0, 0).UTC() }
func (stillClock) After(time.Duration) <-chan time.Time { return make(chan time.Time) }

// New makes a kernel with empty tables.
func New(o Options) *Kernel {
	o.Capacities.fill()
	if o.Clock == nil {
		o.Clock = stillClock{}
	}
	if o.Overlay == 0 {
		o.Overlay = DefaultOverlay
	}
	k := &Kernel{
		clock: o.Clock, boot: o.Clock.Now(), overlay: o.Overlay, direct: o.Direct, netns: o.Netns, outside: o.Outside,
		choose:   o.Choose,
		flows:    newLRU[datapath.FlowKey, *entry](o.Capacities.Flows),
		frags:    newLRU[fragKey, fragPorts](o.Capacities.Frags),
		nat:      newLRU[datapath.Tuple, *natRow](o.Capacities.NAT),
		affinity: newLRU[affinityKey, affinityRow](o.Capacities.Affinity),
		sockRev:  newLRU[sockRevKey, sockRevRow](o.Capacities.SockRev),
		counters: make(map[counterKey]*ports.Counter),
		attached: make(map[uint32]bool),
		events:   newEvents(o.Capacities.Events),
	}
	if k.choose == nil {
		source := rand.New(rand.NewPCG(o.Seed, 0))
		k.choose = func(n uint32) uint32 { return source.Uint32() % n }
	}
	k.makeTables(o.Capacities)
	return k
}

// Tables gives access to the tables.
func (k *Kernel) Tables() ports.Tables { return k.tables }

// Fail makes operations fail: f is asked before each one and its error, if any, is returned wrapped,
// with nothing changed. Operations are "put", "delete", "get" and "dump" of a table (key is nil for
// dump); "bump" of "addr_epoch" (key netip.Addr or nil); "attach", "detach" and "list" of "pods" (key
// is the ifindex); "list", "collect" and "flush" of "flows"; "list" of "nat"; "insert" of "flows" (key is the
// datapath.FlowKey; the packet is dropped with FlowInsert); "read" of "events" and "counters". nil makes
// everything work again. f must not call the kernel.
func (k *Kernel) Fail(f func(op, table string, key any) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = f
}

// failure asks the fault injection; the caller holds the lock.
func (k *Kernel) failure(op, table string, key any) error {
	if k.fail == nil {
		return nil
	}
	err := k.fail(op, table, key)
	if err == nil {
		return nil
	}
	if key == nil {
		return fmt.Errorf("%s: %s: %w", table, op, err)
	}
	return fmt.Errorf("%s: %s %v: %w", table, op, key, err)
}

// BumpAddr makes the recorded decisions of all flows with this remote address stale. Addresses that
// share its bucket are touched too.
func (k *Kernel) BumpAddr(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("bump", "addr_epoch", a); err != nil {
		return err
	}
	k.addrEpoch[datapath.AddrBucket(a)]++
	return nil
}

// BumpAll makes every recorded decision stale.
func (k *Kernel) BumpAll() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("bump", "addr_epoch", nil); err != nil {
		return err
	}
	k.allEpoch++
	return nil
}

// AttachPod notes that an interface carries the pod programs; ifindex 0 is refused.
func (k *Kernel) AttachPod(ifindex uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("attach", "pods", ifindex); err != nil {
		return err
	}
	if ifindex == 0 {
		return fmt.Errorf("attach pod programs: ifindex 0: %w", ports.ErrNotFound)
	}
	k.attached[ifindex] = true
	return nil
}

// DetachPod undoes AttachPod.
func (k *Kernel) DetachPod(ifindex uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("detach", "pods", ifindex); err != nil {
		return err
	}
	delete(k.attached, ifindex)
	return nil
}

// AttachedPods lists the interfaces that carry pod programs, in ascending order.
func (k *Kernel) AttachedPods() ([]uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("list", "pods", nil); err != nil {
		return nil, err
	}
	out := make([]uint32, 0, len(k.attached))
	for i := range k.attached {
		out = append(out, i)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}

// AttachNetwork notes which devices carry the programs for packets from and to the network; ifindex 0 is refused. Packets are not
// translated for that unless Options.Outside asks for it.
func (k *Kernel) AttachNetwork(ifindexes []uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("attach", "network", fmt.Sprint(ifindexes)); err != nil {
		return err
	}
	if slices.Contains(ifindexes, 0) {
		return fmt.Errorf("attach network programs: ifindex 0: %w", ports.ErrNotFound)
	}
	k.network = slices.Sorted(slices.Values(ifindexes))
	if k.outside.on() {
		k.outside.Devices = k.network
	}
	return nil
}

// AttachedNetwork lists the devices of the last AttachNetwork, in ascending order.
func (k *Kernel) AttachedNetwork() ([]uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("list", "network", nil); err != nil {
		return nil, err
	}
	return slices.Clone(k.network), nil
}

// Counters gives packets and bytes by reason and direction, ordered by these.
func (k *Kernel) Counters() ([]ports.Counter, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("read", "counters", nil); err != nil {
		return nil, err
	}
	out := make([]ports.Counter, 0, len(k.counters))
	for _, c := range k.counters {
		out = append(out, *c)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Reason != out[j].Reason {
			return out[i].Reason < out[j].Reason
		}
		return out[i].Direction < out[j].Direction
	})
	return out, nil
}

func (k *Kernel) count(reason datapath.Reason, d datapath.Direction, bytes int) {
	key := counterKey{reason, d}
	c := k.counters[key]
	if c == nil {
		c = &ports.Counter{Reason: reason, Direction: d}
		k.counters[key] = c
	}
	c.Packets++
	c.Bytes += uint64(bytes)
}

// lookupIPCache finds the longest prefix that holds an address of the same family.
func (k *Kernel) lookupIPCache(a netip.Addr) (datapath.IPCache, bool) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		p, _ := a.Prefix(bits)
		if row, ok := k.ipcache.rows[p]; ok {
			return row, true
		}
	}
	return datapath.IPCache{Identity: worldOf(a)}, false
}

func worldOf(a netip.Addr) identity.ID {
	if a.Is4() {
		return identity.WorldIPv4
	}
	return identity.WorldIPv6
}
