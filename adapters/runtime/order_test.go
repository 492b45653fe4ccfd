package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/network"
)

// newTestExecutor writes to a fake kernel, which watches the order.
func newTestExecutor(t *testing.T) (*executor, *kernel.Kernel) {
	k := kernel.New(kernel.Options{})
	t.Cleanup(func() { require.Empty(t, k.Violations()) })
	return newExecutor(k, network.New(), slog.New(slog.DiscardHandler)), k
}

var testFrontend = datapath.ServiceKey{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Proto: datapath.ProtoTCP}

// service writes a service with as many backends, numbered from 1.
func service(backends uint32) []engine.Op {
	var ops []engine.Op
	for i := uint32(1); i <= backends; i++ {
		addr := netip.AddrFrom4([4]byte{10, 244, 0, byte(i)})
		ops = append(ops,
			engine.Op{Table: engine.Backends, Key: i, Row: datapath.Backend{Addr: addr, Port: 80, Proto: datapath.ProtoTCP}},
			engine.Op{Table: engine.Slots, Key: datapath.SlotKey{Service: 1, Slot: i}, Row: i})
	}
	return append(ops, engine.Op{Table: engine.Services, Key: testFrontend, Row: datapath.Service{ID: 1, Count: backends}})
}

// A slot that could not be changed keeps its backend: it goes when nothing names it any more.
func TestBackendStaysWhileASlotNamesIt(t *testing.T) {
	x, k := newTestExecutor(t)
	now := time.Unix(0, 0)
	x.submit(service(2))
	require.True(t, x.run(now).IsZero())

	k.Fail(func(op, table string, key any) error {
		if table == "slots" && op == "put" {
			return errors.New("busy")
		}
		return nil
	})
	x.submit([]engine.Op{
		{Table: engine.Slots, Key: datapath.SlotKey{Service: 1, Slot: 1}, Row: uint32(2)},
		{Table: engine.Backends, Key: uint32(1)},
	})
	next := x.run(now)
	require.False(t, next.IsZero())
	_, err := k.Tables().Backends.Get(1)
	require.NoError(t, err)

	k.Fail(nil)
	for range 5 {
		if next = x.run(now.Add(time.Minute)); next.IsZero() {
			break
		}
	}
	require.True(t, next.IsZero(), "nothing waits")
	rows, err := k.Tables().Backends.Dump()
	require.NoError(t, err)
	require.Len(t, rows, 1)
}

// What a predecessor left and nobody wants goes with its users first.
func TestPruningTakesUsersFirst(t *testing.T) {
	x, k := newTestExecutor(t)
	x.submit(service(8))
	require.True(t, x.run(time.Unix(0, 0)).IsZero())

	successor := newExecutor(k, network.New(), slog.New(slog.DiscardHandler))
	_, err := successor.adopt()
	require.NoError(t, err)
	require.NoError(t, successor.prune())
	require.Empty(t, k.DumpText())
}

// A slot or backend that came and went while the predecessor's service still stands is the service's until pruning.
func TestRemovalsWaitForPruning(t *testing.T) {
	x, k := newTestExecutor(t)
	x.submit(service(2))
	require.True(t, x.run(time.Unix(0, 0)).IsZero())

	successor := newExecutor(k, network.New(), slog.New(slog.DiscardHandler))
	_, err := successor.adopt()
	require.NoError(t, err)
	successor.submit([]engine.Op{{Table: engine.Slots, Key: datapath.SlotKey{Service: 1, Slot: 2}}, {Table: engine.Backends, Key: uint32(2)}})
	require.True(t, successor.run(time.Unix(0, 0)).IsZero())
	rows, err := k.Tables().Backends.Dump()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.NoError(t, successor.prune())
	require.Empty(t, k.DumpText())
}

// A row that a predecessor left with other content is written, and a row that was written since is not taken
// for the predecessor's.
func TestAdoptedRowsAreComparedByContent(t *testing.T) {
	x, k := newTestExecutor(t)
	addr := netip.MustParseAddr("192.0.2.2")
	put := func(x *executor, id uint16) {
		t.Helper()
		x.submit([]engine.Op{{Table: engine.Nodes, Key: addr, Row: datapath.Node{ID: id}}})
		require.True(t, x.run(time.Unix(0, 0)).IsZero())
		row, err := k.Tables().Nodes.Get(addr)
		require.NoError(t, err)
		require.Equal(t, id, row.ID, fmt.Sprint("wish ", id))
	}
	put(x, 1)
	successor := newExecutor(k, network.New(), slog.New(slog.DiscardHandler))
	_, err := successor.adopt()
	require.NoError(t, err)
	for _, id := range []uint16{1, 2, 1} {
		put(successor, id)
	}
	require.NoError(t, successor.prune())
	row, err := k.Tables().Nodes.Get(addr)
	require.NoError(t, err)
	require.Equal(t, uint16(1), row.ID)
}
