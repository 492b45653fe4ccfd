package kernel_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEventsAreDeliveredInOrder(t *testing.T) {
	w := newWorld(t)
	w.clock.Advance(5 * time.Second)
	w.fromWeb().passes(t, forth(syn), kernel.RedirectPeer) // before anybody reads
	got := make(chan datapath.Event)
	done := make(chan error)
	go func() { done <- w.one.Events(context.Background(), func(e datapath.Event) { got <- e }) }()
	next := func() datapath.Event {
		t.Helper()
		select {
		case e := <-got:
			return e
		case <-time.After(10 * time.Second):
			require.Fail(t, "no event")
			return datapath.Event{}
		}
	}
	first := next()
	require.Equal(t, datapath.EventNew, first.Type)
	require.Equal(t, w.clock.Now(), first.Time)
	require.Equal(t, uint64(5*time.Second), first.Timestamp, "since the kernel was made")
	require.ErrorIs(t, w.one.Events(t.Context(), nil), ports.ErrConflict, "one reader at a time")

	res := w.fromDB().send(back(rst))
	require.Equal(t, res.Events[0], next())
	spoofed := w.fromWeb().send(back(ack))
	require.Equal(t, spoofed.Events[0], next())
	w.fromWeb().send(packet.UDP(at(web4, 1), at(db4, 2), ""))
	w.ok(w.one.Close())
	require.Equal(t, udp, next().Proto, "what waits is delivered before the end")
	w.ok(<-done)
	w.ok(w.one.Close())
	w.ok(w.one.Events(context.Background(), nil))
}

func TestLostEventsAreCounted(t *testing.T) {
	w := newWorldWith(t, kernel.Options{Capacities: kernel.Capacities{Events: 3}})
	for port := range uint16(5) {
		w.fromWeb().send(packet.UDP(at(web4, port), at(db4, 53), ""))
	}
	lost, err := w.one.Lost()
	w.ok(err)
	require.Equal(t, uint64(2), lost)
	require.Equal(t, uint64(3), w.one.Emitted())
	ctx, cancel := context.WithCancel(context.Background())
	var ports []uint16
	err = w.one.Events(ctx, func(e datapath.Event) {
		ports = append(ports, e.Src.Port())
		if len(ports) == 3 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []uint16{0, 1, 2}, ports, "those that fitted are the oldest")
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	w.fabric.Listen("db", tcp, 80)
	w.service(w.one, 1, frontend(vip4, 80, tcp), 60, at(db4, 80))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				w.fabric.Dial("web", tcp, vip4, 80)
				w.fabric.Ping("job", web6)
				_ = w.one.Tables().Nodes.Put(node2v4, datapath.Node{ID: 2})
				_, _ = w.one.Flows()
				_ = w.one.BumpAll()
				_ = w.one.DumpText()
				_, _ = w.one.Counters()
			}
		})
	}
	wg.Wait()
	a, trace := w.fabric.Dial("web", tcp, vip4, 80)
	require.True(t, a.Connected, "%s", trace)
}
