// Package porttest holds the contract suite of each port: what every implementation, real or fake, must
// do. A suite assumes nothing that the port's documentation does not say.
package porttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/ports"
)

// TableKind says which of the contract's exceptions a table makes use of.
type TableKind int

const (
	// Sparse tables hold rows; a key is there or not.
	Sparse TableKind = iota
	// Array tables hold a word for every key; absent and zero are the same, and they are never full.
	Array
)

// TestTable is the suite of ports.Table. open returns an empty table, of the given capacity unless that is
// 0. The samples are at least three rows with different keys, non-zero values, and keys in the form in
// which Dump returns them; for tables of prefixes some of them should be inside others.
func TestTable[K comparable, V any](t *testing.T, kind TableKind, open func(t *testing.T, capacity int) ports.Table[K, V], samples []ports.Row[K, V]) {
	require.GreaterOrEqual(t, len(samples), 3, "too few samples")
	absent := func(t *testing.T, table ports.Table[K, V], key K) {
		t.Helper()
		v, err := table.Get(key)
		if kind == Array && err == nil {
			var zero V
			require.Equal(t, zero, v, "key %v", key)
			return
		}
		require.ErrorIs(t, err, ports.ErrNotFound, "key %v", key)
	}
	holds := func(t *testing.T, table ports.Table[K, V], rows ...ports.Row[K, V]) {
		t.Helper()
		for _, r := range rows {
			v, err := table.Get(r.Key)
			require.NoError(t, err, "key %v", r.Key)
			require.Equal(t, r.Value, v, "key %v", r.Key)
		}
		dump, err := table.Dump()
		require.NoError(t, err)
		require.ElementsMatch(t, rows, dump)
		if c, ok := table.(ports.RowCounter); ok {
			n, err := c.CountRows()
			require.NoError(t, err)
			require.Equal(t, len(rows), n)
		}
	}
	other := func(i int) V { return samples[(i+1)%len(samples)].Value }

	t.Run("empty", func(t *testing.T) {
		table := open(t, 0)
		require.NotEmpty(t, table.Name())
		require.GreaterOrEqual(t, table.Capacity(), len(samples))
		holds(t, table)
		for _, r := range samples {
			absent(t, table, r.Key)
		}
	})
	t.Run("put and get", func(t *testing.T) {
		table := open(t, 0)
		for i, r := range samples {
			require.NoError(t, table.Put(r.Key, r.Value))
			holds(t, table, samples[:i+1]...)
			for _, later := range samples[i+1:] {
				absent(t, table, later.Key)
			}
		}
	})
	t.Run("overwrite", func(t *testing.T) {
		table := open(t, 0)
		want := append([]ports.Row[K, V](nil), samples...)
		for _, r := range samples {
			require.NoError(t, table.Put(r.Key, r.Value))
			require.NoError(t, table.Put(r.Key, r.Value), "the same again")
		}
		for i := range want {
			want[i].Value = other(i)
			require.NoError(t, table.Put(want[i].Key, want[i].Value))
		}
		holds(t, table, want...)
	})
	t.Run("delete", func(t *testing.T) {
		table := open(t, 0)
		for _, r := range samples {
			require.NoError(t, table.Delete(r.Key), "absent")
			require.NoError(t, table.Put(r.Key, r.Value))
		}
		for i, r := range samples {
			require.NoError(t, table.Delete(r.Key))
			absent(t, table, r.Key)
			require.NoError(t, table.Delete(r.Key), "absent again")
			holds(t, table, samples[i+1:]...)
		}
		require.NoError(t, table.Put(samples[0].Key, samples[0].Value))
		holds(t, table, samples[0])
	})
	if _, ok := open(t, 0).(ports.Batch[K, V]); ok {
		t.Run("many at once", func(t *testing.T) {
			many := open(t, 0).(ports.Batch[K, V])
			n, err := many.PutAll(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			n, err = many.PutAll(samples)
			require.NoError(t, err)
			require.Equal(t, len(samples), n)
			holds(t, many.(ports.Table[K, V]), samples...)
			again := []ports.Row[K, V]{{Key: samples[0].Key, Value: other(0)}, {Key: samples[0].Key, Value: samples[0].Value}}
			n, err = many.PutAll(again)
			require.NoError(t, err)
			require.Equal(t, 2, n)
			holds(t, many.(ports.Table[K, V]), samples...)
			if kind == Array {
				return
			}
			full := open(t, 2)
			n, err = full.(ports.Batch[K, V]).PutAll(samples)
			require.ErrorIs(t, err, ports.ErrFull)
			require.Equal(t, 2, n, "those before the one that failed")
			holds(t, full, samples[:2]...)
		})
	}
	if kind == Array {
		t.Run("zero is absent", func(t *testing.T) {
			table := open(t, 0)
			var zero V
			require.NoError(t, table.Put(samples[0].Key, zero))
			holds(t, table)
			require.NoError(t, table.Put(samples[0].Key, samples[0].Value))
			require.NoError(t, table.Put(samples[1].Key, samples[1].Value))
			require.NoError(t, table.Put(samples[0].Key, zero))
			absent(t, table, samples[0].Key)
			holds(t, table, samples[1])
		})
		return
	}
	t.Run("full", func(t *testing.T) {
		table := open(t, 2)
		require.Equal(t, 2, table.Capacity())
		a, b, c := samples[0], samples[1], samples[2]
		require.NoError(t, table.Put(a.Key, a.Value))
		require.NoError(t, table.Put(b.Key, b.Value))
		require.ErrorIs(t, table.Put(c.Key, c.Value), ports.ErrFull)
		absent(t, table, c.Key)
		holds(t, table, a, b)

		// Some kernels refuse even to overwrite; what matters is that the old value survives.
		changed := ports.Row[K, V]{Key: a.Key, Value: other(0)}
		if err := table.Put(changed.Key, changed.Value); err != nil {
			require.ErrorIs(t, err, ports.ErrFull)
			changed = a
		}
		holds(t, table, changed, b)

		require.NoError(t, table.Delete(b.Key))
		require.NoError(t, table.Put(c.Key, c.Value), "room again")
		holds(t, table, changed, c)
	})
}
