package main

import (
	"os"
	"runtime/debug"
)

// readyGC is how much the heap may grow between collections once the agent has started, in percent: it
// allocates little then, and shares its machine with the pods, so that memory is worth more than the
// collector's time. While it starts it is the other way round, and the runtime's default is good.
const readyGC = 40

// settleHeap is called when the agent has started. What the environment says about the collector counts.
func settleHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readyGC)
	}
	debug.FreeOSMemory()
}
