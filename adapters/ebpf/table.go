package ebpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// mapTable is a table in a hash or LPM map. K and V are the port's types, RK and RV what lies in the map.
type mapTable[K comparable, V any, RK comparable, RV any] struct {
	name  string
	m     *ebpf.Map
	key   func(K) (RK, error)
	value func(K, V) (RV, error)
	row   func(RK, RV) (K, V)
	// exact says whether the value found belongs to the key asked for; an LPM map also returns that of a
	// shorter prefix. Nil: always.
	exact func(RK, RV) bool
}

func (t *mapTable[K, V, RK, RV]) Name() string { return tableName(t.name) }

func (t *mapTable[K, V, RK, RV]) Capacity() int { return int(t.m.MaxEntries()) }

func (t *mapTable[K, V, RK, RV]) Put(k K, v V) error {
	rk, err := t.key(k)
	if err != nil {
		return tableError(t.name, "put", k, err)
	}
	rv, err := t.value(k, v)
	if err != nil {
		return tableError(t.name, "put", k, err)
	}
	return tableError(t.name, "put", k, t.m.Put(&rk, &rv))
}

// PutAll implements ports.Batch.
func (t *mapTable[K, V, RK, RV]) PutAll(rows []ports.Row[K, V]) (int, error) {
	const chunk = 4096
	keys, values := make([]RK, 0, min(chunk, len(rows))), make([]RV, 0, min(chunk, len(rows)))
	for done := 0; done < len(rows); {
		keys, values = keys[:0], values[:0]
		var invalid error
		for _, r := range rows[done:min(done+chunk, len(rows))] {
			rk, err := t.key(r.Key)
			var rv RV
			if err == nil {
				rv, err = t.value(r.Key, r.Value)
			}
			if err != nil {
				invalid = tableError(t.name, "put", r.Key, err)
				break
			}
			keys, values = append(keys, rk), append(values, rv)
		}
		n := 0
		if len(keys) > 0 {
			var err error
			n, err = t.m.BatchUpdate(keys, values, nil)
			if errors.Is(err, ebpf.ErrNotSupported) {
				if n, err = 0, t.m.Put(&keys[0], &values[0]); err == nil {
					n = 1
				}
			}
			if err != nil {
				if n >= len(keys) { // refused before the kernel counted
					n = 0
				}
				return done + n, tableError(t.name, "put", rows[done+n].Key, err)
			}
		}
		done += n
		if invalid != nil {
			return done, invalid
		}
	}
	return len(rows), nil
}

func (t *mapTable[K, V, RK, RV]) Delete(k K) error {
	rk, err := t.key(k)
	if err != nil {
		return tableError(t.name, "delete", k, err)
	}
	if err := t.m.Delete(&rk); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return tableError(t.name, "delete", k, err)
	}
	return nil
}

func (t *mapTable[K, V, RK, RV]) Get(k K) (V, error) {
	var rv RV
	var none V
	rk, err := t.key(k)
	if err != nil {
		return none, tableError(t.name, "get", k, err)
	}
	err = t.m.Lookup(&rk, &rv)
	if err == nil && t.exact != nil && !t.exact(rk, rv) {
		err = ebpf.ErrKeyNotExist
	}
	if err != nil {
		return none, tableError(t.name, "get", k, err)
	}
	_, v := t.row(rk, rv)
	return v, nil
}

func (t *mapTable[K, V, RK, RV]) Dump() ([]ports.Row[K, V], error) {
	raw, err := dump[RK, RV](t.m)
	if err != nil {
		return nil, tableError(t.name, "dump", "", err)
	}
	rows := make([]ports.Row[K, V], len(raw))
	for i, r := range raw {
		rows[i].Key, rows[i].Value = t.row(r.key, r.value)
	}
	return rows, nil
}

// CountRows implements ports.RowCounter.
func (t *mapTable[K, V, RK, RV]) CountRows() (int, error) {
	n, err := countRows[RK, RV](t.m)
	return n, tableError(t.name, "count", "", err)
}

func countRows[RK comparable, RV any](m *ebpf.Map) (n int, err error) {
	err = scan(m, func(*RK, *RV) { n++ })
	return min(n, int(m.MaxEntries())), err
}

type rawRow[RK comparable, RV any] struct {
	key   RK
	value RV
}

// dumpChunk is the number of rows read at once. A hash map needs room for its fullest bucket.
const dumpChunk = 1024

// dump reads a whole map while others may change it: every row that stays is returned once, rows that
// come or go meanwhile are or are not.
func dump[RK comparable, RV any](m *ebpf.Map) ([]rawRow[RK, RV], error) {
	seen := map[RK]struct{}{}
	var rows []rawRow[RK, RV]
	err := scan(m, func(k *RK, v *RV) {
		if _, dup := seen[*k]; !dup {
			seen[*k] = struct{}{}
			rows = append(rows, rawRow[RK, RV]{*k, *v})
		}
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// scan shows every row of a map, some perhaps twice if rows are deleted meanwhile. The arguments are
// overwritten after each call.
func scan[RK comparable, RV any](m *ebpf.Map, see func(*RK, *RV)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]RK, dumpChunk), make([]RV, dumpChunk)
	// An LPM map starts over when the row that it stood on is deleted: the bound ends that race.
	limit := 4 * (int(m.MaxEntries()) + dumpChunk)
	for read := 0; read <= limit; {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			see(&keys[i], &values[i])
		}
		read += n
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case errors.Is(err, unix.ENOSPC):
			keys, values = make([]RK, 2*len(keys)), make([]RV, 2*len(values))
		case err != nil:
			return err
		}
	}
	return fmt.Errorf("the rows change faster than they can be read: %w", unix.EAGAIN)
}
