package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
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
