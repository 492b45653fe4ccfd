package main

import (
	"os"
	"runtime/debug"
)

// How much the heap may grow between collections, in percent. Once it has started the agent allocates little,
// and it shares its machine with the pods: memory is worth more then than the collector's time. While it
// starts it is the other way round.
const (
	startGC = 200
	readyGC = 40
)

// boundHeap sets the collector, unless the environment does.
func boundHeap(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// settleHeap is called when the agent has started.
func settleHeap() {
	boundHeap(readyGC)
	debug.FreeOSMemory()
}
