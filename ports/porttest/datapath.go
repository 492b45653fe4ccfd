package porttest

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Sizes are the capacities in rows that a test asks for; 0: any that holds a few dozen.
type Sizes struct {
	Endpoints, IPCache, Policy, Nodes, Services, Slots, Backends int
}

// OpenDatapath makes a datapath with empty tables for one test, which cleans up when the test ends.
// links are the indexes of at least two interfaces that programs can be attached to.
type OpenDatapath func(t *testing.T, s Sizes) (dp ports.Datapath, links []uint32)

// noLink is an interface index that no machine gives out.
const noLink uint32 = 1<<31 - 2

// TestDatapath is the suite of ports.Datapath. It does not send packets.
func TestDatapath(t *testing.T, open OpenDatapath) {
	t.Run("tables", func(t *testing.T) { testTables(t, open) })
	t.Run("tables are the same at every call", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		a := netip.MustParseAddr("192.0.2.1")
		require.NoError(t, dp.Tables().Nodes.Put(a, datapath.Node{ID: 3}))
		v, err := dp.Tables().Nodes.Get(a)
		require.NoError(t, err)
		require.Equal(t, datapath.Node{ID: 3}, v)
	})
	t.Run("array capacities", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		require.Equal(t, 65536, dp.Tables().EndpointPolicy.Capacity(), "one for each endpoint id")
		require.Equal(t, 131072*datapath.GenerationCount, dp.Tables().Classes.Capacity())
	})
	t.Run("identities that share a class", func(t *testing.T) {
		classes := tables(t, open, Sizes{}).Classes
		require.NoError(t, classes.Put(datapath.ClassKey{Generation: 1, Identity: 70000}, 5))
		v, err := classes.Get(datapath.ClassKey{Generation: 1})
		require.NoError(t, err)
		require.Equal(t, datapath.Class(5), v, "identities outside of all ranges share the place of Unknown")
		require.Error(t, classes.Put(datapath.ClassKey{Generation: datapath.GenerationCount, Identity: 256}, 1))
	})
	t.Run("prefixes are stored masked", func(t *testing.T) {
		ipcache := tables(t, open, Sizes{}).IPCache
		require.NoError(t, ipcache.Put(netip.MustParsePrefix("10.1.2.3/8"), datapath.IPCache{Identity: 300}))
		dump, err := ipcache.Dump()
		require.NoError(t, err)
		require.Equal(t, []ports.Row[netip.Prefix, datapath.IPCache]{
			{Key: netip.MustParsePrefix("10.0.0.0/8"), Value: datapath.IPCache{Identity: 300}},
		}, dump)
	})
	t.Run("bump", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		for range 3 {
			require.NoError(t, dp.BumpAddr(netip.MustParseAddr("10.0.0.1")))
			require.NoError(t, dp.BumpAddr(netip.MustParseAddr("fd00::1")))
			require.NoError(t, dp.BumpAll())
		}
	})
	t.Run("attach", func(t *testing.T) { testAttach(t, open) })
	t.Run("attach network", func(t *testing.T) { testAttachNetwork(t, open) })
	t.Run("flows", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		flows, err := dp.Flows()
		require.NoError(t, err)
		require.Empty(t, flows)
		for _, remove := range []func() (int, error){dp.CollectFlows, dp.FlushFlows} {
			n, err := remove()
			require.NoError(t, err)
			require.Zero(t, n)
		}
	})
	t.Run("translations", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		if translator, ok := dp.(ports.Translator); ok {
			rows, err := translator.Translations()
			require.NoError(t, err)
			require.Empty(t, rows)
		}
	})
	t.Run("counters", func(t *testing.T) {
		dp, _ := open(t, Sizes{})
		counters, err := dp.Counters()
		require.NoError(t, err)
		for _, c := range counters {
			require.Zero(t, c.Packets, "%+v", c)
			require.Zero(t, c.Bytes, "%+v", c)
		}
		lost, err := dp.Lost()
		require.NoError(t, err)
		require.Zero(t, lost)
	})
	t.Run("events", func(t *testing.T) { testEvents(t, open) })
}

func tables(t *testing.T, open OpenDatapath, s Sizes) ports.Tables {
	t.Helper()
	dp, _ := open(t, s)
	return dp.Tables()
}

func testAttach(t *testing.T, open OpenDatapath) {
	dp, links := open(t, Sizes{})
	require.GreaterOrEqual(t, len(links), 2, "the suite needs two interfaces")
	a, b := links[0], links[1]
	attached := func(want ...uint32) {
		t.Helper()
		got, err := dp.AttachedPods()
		require.NoError(t, err)
		require.ElementsMatch(t, want, got)
	}
	attached()
	require.NoError(t, dp.DetachPod(a), "nothing attached")
	require.NoError(t, dp.AttachPod(a))
	require.NoError(t, dp.AttachPod(a), "again")
	attached(a)
	require.NoError(t, dp.AttachPod(b))
	attached(a, b)
	require.NoError(t, dp.DetachPod(a))
	require.NoError(t, dp.DetachPod(a), "again")
	attached(b)
	require.NoError(t, dp.DetachPod(noLink), "an interface that is gone")
	require.NoError(t, dp.AttachPod(a))
	attached(a, b)
}

func testAttachNetwork(t *testing.T, open OpenDatapath) {
	dp, links := open(t, Sizes{})
	a, b := links[0], links[1]
	attached := func(want ...uint32) {
		t.Helper()
		got, err := dp.AttachedNetwork()
		require.NoError(t, err)
		require.ElementsMatch(t, want, got)
	}
	attached()
	require.NoError(t, dp.AttachNetwork(nil))
	require.NoError(t, dp.AttachNetwork([]uint32{a}))
	require.NoError(t, dp.AttachNetwork([]uint32{a}), "again")
	attached(a)
	require.NoError(t, dp.AttachNetwork([]uint32{a, b}))
	attached(a, b)
	require.NoError(t, dp.AttachNetwork([]uint32{b}))
	attached(b)
	require.NoError(t, dp.AttachPod(a))
	require.NoError(t, dp.AttachNetwork(nil))
	attached()
	require.NoError(t, dp.AttachNetwork(nil), "again")
	pods, err := dp.AttachedPods()
	require.NoError(t, err)
	require.Equal(t, []uint32{a}, pods, "pods are none of its business")
}

// patience is how long something may take that should happen at once.
const patience = 10 * time.Second

func testEvents(t *testing.T, open OpenDatapath) {
	ended := func(t *testing.T, done <-chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			require.Fail(t, "Events did not return")
			return nil
		}
	}
	dp, _ := open(t, Sizes{})
	start := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() { done <- dp.Events(ctx, func(datapath.Event) {}) }()
		return done
	}
	for range 2 { // a second reader may follow the first
		ctx, cancel := context.WithCancel(context.Background())
		done := start(ctx)
		select {
		case err := <-done:
			require.Fail(t, "Events returned", "%v", err)
		case <-time.After(20 * time.Millisecond):
		}
		cancel()
		if err := ended(t, done); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	closer, ok := dp.(io.Closer)
	if !ok {
		return
	}
	done := start(context.Background())
	time.Sleep(20 * time.Millisecond) // either order must end it
	require.NoError(t, closer.Close())
	if err := ended(t, done); err != nil {
		require.ErrorIs(t, err, ports.ErrClosed)
	}
}
