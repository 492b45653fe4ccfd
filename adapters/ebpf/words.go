package ebpf

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// words is an array map mapped into memory, so that a word changes with one store that no reader in the
// kernel can see half of; the map system calls promise less. Each element fills 8 bytes, whatever
// its size; a value of 4 bytes lies in the low half (the objects are little-endian).
type words struct {
	name string
	mu   sync.RWMutex // held for reading around every access: after close the memory is gone
	mem  []byte
	n    uint32
}

func newWords(name string, m *ebpf.Map) (*words, error) {
	size := (int(m.MaxEntries())*8 + unix.Getpagesize() - 1) &^ (unix.Getpagesize() - 1)
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: mmap: %w", name, err)
	}
	return &words{name: name, mem: mem, n: m.MaxEntries()}, nil
}

// with calls f with a pointer to element i.
func (w *words) with(i uint32, f func(*uint64)) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.mem == nil {
		return ports.ErrClosed
	}
	if i >= w.n {
		return fmt.Errorf("index %d is not below %d", i, w.n)
	}
	f((*uint64)(unsafe.Pointer(&w.mem[uintptr(i)*8])))
	return nil
}

func (w *words) load(i uint32) (v uint64, err error) {
	err = w.with(i, func(p *uint64) { v = atomic.LoadUint64(p) })
	return v, err
}

func (w *words) store(i uint32, v uint64) error {
	return w.with(i, func(p *uint64) { atomic.StoreUint64(p, v) })
}

// bump adds one to a value of 4 bytes.
func (w *words) bump(i uint32) error {
	return w.with(i, func(p *uint64) { atomic.AddUint32((*uint32)(unsafe.Pointer(p)), 1) })
}

// or sets bits of an element.
func (w *words) or(i uint32, bits uint64) error {
	return w.with(i, func(p *uint64) { atomic.OrUint64(p, bits) })
}

// each calls f for every word that is not zero.
func (w *words) each(f func(i uint32, v uint64)) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.mem == nil {
		return ports.ErrClosed
	}
	for i := range w.n {
		if v := atomic.LoadUint64((*uint64)(unsafe.Pointer(&w.mem[uintptr(i)*8]))); v != 0 {
			f(i, v)
		}
	}
	return nil
}

func (w *words) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mem == nil {
		return nil
	}
	mem := w.mem
	w.mem = nil
	return unix.Munmap(mem)
}

// wordTable is a table over words. Zero and absent are the same.
type wordTable[K comparable, V any] struct {
	w     *words
	index func(K) (uint32, error)
	key   func(uint32) K
	pack  func(V) uint64
	open  func(uint64) V
}

func (t *wordTable[K, V]) Name() string { return tableName(t.w.name) }

func (t *wordTable[K, V]) Capacity() int { return int(t.w.n) }

func (t *wordTable[K, V]) set(op string, k K, v uint64) error {
	i, err := t.index(k)
	if err == nil {
		err = t.w.store(i, v)
	}
	return tableError(t.w.name, op, k, err)
}

func (t *wordTable[K, V]) Put(k K, v V) error { return t.set("put", k, t.pack(v)) }

func (t *wordTable[K, V]) Delete(k K) error { return t.set("delete", k, 0) }

func (t *wordTable[K, V]) Get(k K) (V, error) {
	var none V
	i, err := t.index(k)
	if err != nil {
		return none, tableError(t.w.name, "get", k, err)
	}
	v, err := t.w.load(i)
	if err == nil && v == 0 {
		err = ebpf.ErrKeyNotExist
	}
	if err != nil {
		return none, tableError(t.w.name, "get", k, err)
	}
	return t.open(v), nil
}

func (t *wordTable[K, V]) Dump() ([]ports.Row[K, V], error) {
	var rows []ports.Row[K, V]
	err := t.w.each(func(i uint32, v uint64) {
		rows = append(rows, ports.Row[K, V]{Key: t.key(i), Value: t.open(v)})
	})
	return rows, tableError(t.w.name, "dump", "", err)
}

// CountRows implements ports.RowCounter.
func (t *wordTable[K, V]) CountRows() (n int, err error) {
	err = t.w.each(func(uint32, uint64) { n++ })
	return n, tableError(t.w.name, "count", "", err)
}

func endpointPolicyTable(w *words) ports.Table[datapath.EndpointID, datapath.EndpointPolicy] {
	return &wordTable[datapath.EndpointID, datapath.EndpointPolicy]{
		w: w,
		index: func(id datapath.EndpointID) (uint32, error) {
			if id == 0 {
				return 0, fmt.Errorf("endpoint id 0 is not an endpoint; 1 to 65535 are")
			}
			return uint32(id), nil
		},
		key:  func(i uint32) datapath.EndpointID { return datapath.EndpointID(i) },
		pack: func(p datapath.EndpointPolicy) uint64 { return uint64(p.Policy) | uint64(p.Epoch)<<32 },
		open: func(v uint64) datapath.EndpointPolicy {
			return datapath.EndpointPolicy{Policy: datapath.PolicyID(uint32(v)), Epoch: datapath.Epoch(v >> 32)}
		},
	}
}

// classCount is the number of classes in one generation.
const classCount = 131072

func classTable(w *words) ports.Table[datapath.ClassKey, datapath.Class] {
	return &wordTable[datapath.ClassKey, datapath.Class]{
		w: w,
		index: func(k datapath.ClassKey) (uint32, error) {
			if k.Generation >= datapath.GenerationCount {
				return 0, fmt.Errorf("generation %d is not below %d", k.Generation, datapath.GenerationCount)
			}
			return uint32(k.Generation)*classCount + datapath.ClassIndex(k.Identity), nil
		},
		key: func(i uint32) datapath.ClassKey {
			k := datapath.ClassKey{Generation: uint8(i / classCount)}
			if i %= classCount; i < 65536 {
				k.Identity = identity.ID(i)
			} else {
				k.Identity = identity.MinLocal | identity.ID(i-65536)
			}
			return k
		},
		pack: func(c datapath.Class) uint64 { return uint64(c) },
		open: func(v uint64) datapath.Class { return datapath.Class(v) },
	}
}
