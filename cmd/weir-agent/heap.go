package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// readyGC is how much the heap may grow between collections once the agent has started, in percent: it
// allocates little then, and shares its machine with the pods, so that memory is worth more than the
// collector's time.
const readyGC = 40

// startGrowth is how many bytes the heap may grow between collections while the agent starts, but by readyGC at least and
// to the double at most. The start of a big cluster takes in all objects, and then writes all rows at once: beside
// what it keeps it leaves a hundred thousand operations behind. By the runtime's default, the double, a heap of 60 MiB
// would grow by another 60 in the last tenth of a second; a limit to the whole heap would make a bigger cluster's
// start a collection without end. In a small heap the double is less than this, and the default stays.
const startGrowth = 24 << 20

// heap steers the collector while the agent starts, from steer to settle.
type heap struct {
	mu      sync.Mutex
	settled bool
}

// steer begins, unless the environment says how the collector is to work.
func (h *heap) steer() {
	if os.Getenv("GOGC") == "" {
		h.afterNext()
	}
}

// afterNext looks at the heap after the next collection: that is when what is unreachable now is cleaned up.
func (h *heap) afterNext() {
	type sentinel struct{ _ [4]*byte } // not so small that it shares its memory with others
	runtime.AddCleanup(&sentinel{}, func(h *heap) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.settled {
			return
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetGCPercent(startGC(live[0].Value.Uint64()))
		h.afterNext()
	}, h)
}

// startGC is how much a heap of this size may grow while the agent starts, in percent.
func startGC(live uint64) int {
	return int(min(max(100*startGrowth/max(live, 1), readyGC), 100))
}

// settle is called when the agent has started. What the environment says about the collector counts.
func (h *heap) settle() {
	h.mu.Lock()
	h.settled = true
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(readyGC)
	}
	h.mu.Unlock()
	debug.FreeOSMemory()
	_ = forgetStart()
}

// forgetStart takes the pages of the program's own file out of memory that only its start needed: most of its code
// serves decoding, dialling and describing what happens once. Those that are used come back at their next use.
func forgetStart() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// "start-end perms offset device inode path"; what is never written is as the file has it
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[5] != self || f[1] != "r-xp" && f[1] != "r--p" {
			continue
		}
		var start, end uintptr
		if _, err := fmt.Sscanf(f[0], "%x-%x", &start, &end); err != nil {
			return err
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); e != 0 {
			return e
		}
	}
	return nil
}
