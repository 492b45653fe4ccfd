package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGrowthWhileStarting(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, 24 << 20: 100, 32 << 20: 75, 48 << 20: 50, 60 << 20: 40, 500 << 20: 40} {
		assert.Equal(t, want, startGC(live), "%d MiB", live>>20)
	}
}

func collectorPercent() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// The collector is steered by what the heap holds, until the agent has started.
func TestHeapIsSteered(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	h := &heap{}
	h.steer()
	ballast := make([]byte, 64<<20)
	require.Eventually(t, func() bool {
		runtime.GC()
		return collectorPercent() < 40+10
	}, 10*time.Second, time.Millisecond, "a big heap")
	runtime.KeepAlive(ballast)
	ballast = nil
	require.Eventually(t, func() bool {
		runtime.GC()
		return collectorPercent() == 100
	}, 10*time.Second, time.Millisecond, "a small one")
	h.settle()
	require.Equal(t, readyGC, collectorPercent())
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, readyGC, collectorPercent(), "what was to come after settle does nothing")
}

// Who says how the collector works is obeyed.
func TestHeapIsLeftToTheEnvironment(t *testing.T) {
	t.Setenv("GOGC", "70")
	before := debug.SetGCPercent(70)
	defer debug.SetGCPercent(before)
	h := &heap{}
	h.steer()
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	h.settle()
	assert.Equal(t, 70, collectorPercent())
}
