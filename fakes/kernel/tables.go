package kernel

import (
	"fmt"
	"net/netip"
	"sort"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// table implements ports.Table. Keys are kept in the one form in which the kernel compares them.
type table[K comparable, V comparable] struct {
	check     func(K, V) error // nil: every row is fine
	k         *Kernel
	name      string
	capacity  int
	array     bool // absent and zero are the same
	rows      map[K]V
	canonical func(K) (K, error)
	// wrote is told about every change after it was made, for the watch.
	wrote func(key K, old, new V, had, has bool)
}

var (
	_ ports.Table[uint32, datapath.Backend] = (*table[uint32, datapath.Backend])(nil)
	_ ports.Batch[uint32, datapath.Backend] = (*table[uint32, datapath.Backend])(nil)
)

func (t *table[K, V]) Name() string  { return t.name }
func (t *table[K, V]) Capacity() int { return t.capacity }

func (t *table[K, V]) begin(op string, key K) (K, error) {
	if err := t.k.failure(op, t.name, key); err != nil {
		return key, err
	}
	c, err := t.canonical(key)
	if err != nil {
		return key, fmt.Errorf("%s: %s %v: %w", t.name, op, key, err)
	}
	return c, nil
}

func (t *table[K, V]) Put(key K, value V) error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	key, err := t.begin("put", key)
	if err != nil {
		return err
	}
	if t.check != nil {
		if err := t.check(key, value); err != nil {
			return fmt.Errorf("%s: put %v: %w", t.name, key, err)
		}
	}
	var zero V
	old, had := t.rows[key]
	if t.array && value == zero {
		delete(t.rows, key)
		t.wrote(key, old, zero, had, false)
		return nil
	}
	if !had && len(t.rows) >= t.capacity {
		return fmt.Errorf("%s: put %v: %d rows: %w", t.name, key, t.capacity, ports.ErrFull)
	}
	t.rows[key] = value
	t.wrote(key, old, value, had, true)
	return nil
}

// PutAll implements ports.Batch, with faults between any two rows.
func (t *table[K, V]) PutAll(rows []ports.Row[K, V]) (int, error) {
	for i, r := range rows {
		if err := t.Put(r.Key, r.Value); err != nil {
			return i, err
		}
	}
	return len(rows), nil
}

func (t *table[K, V]) Delete(key K) error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	key, err := t.begin("delete", key)
	if err != nil {
		return err
	}
	old, had := t.rows[key]
	if had {
		var zero V
		delete(t.rows, key)
		t.wrote(key, old, zero, true, false)
	}
	return nil
}

func (t *table[K, V]) Get(key K) (V, error) {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	var zero V
	key, err := t.begin("get", key)
	if err != nil {
		return zero, err
	}
	v, ok := t.rows[key]
	if !ok {
		return zero, fmt.Errorf("%s: get %v: %w", t.name, key, ports.ErrNotFound)
	}
	return v, nil
}

// Dump returns the rows ordered by the text of their keys, so that tests repeat.
func (t *table[K, V]) Dump() ([]ports.Row[K, V], error) {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	if err := t.k.failure("dump", t.name, nil); err != nil {
		return nil, err
	}
	return t.sorted(), nil
}

func (t *table[K, V]) sorted() []ports.Row[K, V] {
	type named struct {
		name string
		row  ports.Row[K, V]
	}
	all := make([]named, 0, len(t.rows))
	for key, v := range t.rows {
		all = append(all, named{fmt.Sprint(key), ports.Row[K, V]{Key: key, Value: v}})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	out := make([]ports.Row[K, V], len(all))
	for i, n := range all {
		out[i] = n.row
	}
	return out
}

func newTable[K, V comparable](k *Kernel, name string, capacity int, array bool, canonical func(K) (K, error), wrote func(K, V, V, bool, bool)) *table[K, V] {
	return &table[K, V]{k: k, name: name, capacity: capacity, array: array, rows: make(map[K]V), canonical: canonical, wrote: wrote}
}

// classCount is the number of words of the class array.
const classCount = datapath.GenerationCount * 131072

func (k *Kernel) makeTables(c Capacities) {
	w := &k.watch
	*w = newWatch(k)
	k.endpoints = newTable(k, "endpoints", c.Endpoints, false, canonicalAddr, w.endpoint)
	k.epPolicy = newTable(k, "ep_policy", 65536, true, same[datapath.EndpointID], w.endpointPolicy)
	k.ipcache = newTable(k, "ipcache", c.IPCache, false, canonicalPrefix, ignore[netip.Prefix, datapath.IPCache])
	k.ipcache.check = func(p netip.Prefix, row datapath.IPCache) error { return row.CheckNextHop(p) }
	k.classes = newTable(k, "classes", classCount, true, canonicalClass, w.class)
	k.policy = newTable(k, "policy", c.Policy, false, canonicalPolicy, w.policyRow)
	k.nodes = newTable(k, "nodes", c.Nodes, false, canonicalAddr, ignore[netip.Addr, datapath.Node])
	k.services = newTable(k, "services", c.Services, false, canonicalService, w.service)
	k.slots = newTable(k, "slots", c.Slots, false, same[datapath.SlotKey], w.slot)
	k.backends = newTable(k, "backends", c.Backends, false, same[uint32], w.backend)
	k.tables = ports.Tables{
		Endpoints: k.endpoints, EndpointPolicy: k.epPolicy, IPCache: k.ipcache, Classes: k.classes,
		Policy: k.policy, Nodes: k.nodes, Services: k.services, Slots: k.slots, Backends: k.backends,
	}
}

func ignore[K, V comparable](K, V, V, bool, bool) {}

func same[K comparable](key K) (K, error) { return key, nil }

func canonicalAddr(a netip.Addr) (netip.Addr, error) {
	if !a.IsValid() || a.Zone() != "" {
		return a, fmt.Errorf("address %q: want one without zone", a)
	}
	return a.Unmap(), nil
}

func canonicalPrefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() || p.Addr().Is4In6() {
		return p, fmt.Errorf("prefix %q: want an IPv4 or IPv6 prefix", p)
	}
	return p.Masked(), nil
}

func canonicalService(key datapath.ServiceKey) (datapath.ServiceKey, error) {
	a, err := canonicalAddr(key.Addr)
	key.Addr = a
	if err == nil && key.Scope > datapath.External {
		err = fmt.Errorf("scope %d: want %d or %d", key.Scope, datapath.Internal, datapath.External)
	}
	return key, err
}

// classAt names the word of the class array that an identity uses: identities that share a word share
// the name.
func classAt(generation uint8, id identity.ID) datapath.ClassKey {
	index := datapath.ClassIndex(id)
	if index < 65536 {
		return datapath.ClassKey{Generation: generation, Identity: identity.ID(index)}
	}
	return datapath.ClassKey{Generation: generation, Identity: identity.LocalFlag | identity.ID(index-65536)}
}

func canonicalClass(key datapath.ClassKey) (datapath.ClassKey, error) {
	if key.Generation >= datapath.GenerationCount {
		return key, fmt.Errorf("generation %d: want 0 to %d", key.Generation, datapath.GenerationCount-1)
	}
	return classAt(key.Generation, key.Identity), nil
}

func canonicalPolicy(key datapath.PolicyKey) (datapath.PolicyKey, error) {
	switch {
	case key.PortBits > 16:
		return key, fmt.Errorf("port bits %d: want 0 to 16", key.PortBits)
	case key.Direction > datapath.Egress:
		return key, fmt.Errorf("direction %d: want 0 or 1", key.Direction)
	case key.AnyProto:
		key.Proto, key.Port, key.PortBits = 0, 0, 0
	default:
		key.Port = maskPort(key.Port, key.PortBits)
	}
	return key, nil
}
