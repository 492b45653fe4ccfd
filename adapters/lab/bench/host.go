package bench

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"
	"runtime"
	"strings"
)

// Values of Host.CPUSource.
const (
	sourceProcesses = "the processor clocks of client and server, with the interrupts that they served"
	sourceWithIRQ   = "the processor clocks of client and server, and all interrupts of the machine"
)

// readHost describes this machine. What cannot be read stays empty.
func readHost() Host {
	h := Host{Kernel: firstLine("/proc/sys/kernel/osrelease"), Count: runtime.NumCPU(), CPUSource: sourceProcesses}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			key, value, _ := strings.Cut(s.Text(), ":")
			switch strings.TrimSpace(key) {
			case "model name", "Model", "cpu model":
				h.CPU = strings.TrimSpace(value)
			}
			if h.CPU != "" {
				break
			}
		}
	}
	if h.irqTime = accountsIRQs(h.Kernel); h.irqTime {
		h.CPUSource = sourceWithIRQ
	}
	return h
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// accountsIRQs says whether the kernel keeps the time of interrupts apart from that of processes, by its
// configuration; false if that cannot be read.
func accountsIRQs(release string) bool {
	const option = "\nCONFIG_IRQ_TIME_ACCOUNTING=y\n"
	if b, err := os.ReadFile("/boot/config-" + release); err == nil {
		return strings.Contains(string(b), option)
	}
	f, err := os.Open("/proc/config.gz")
	if err != nil {
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(z)
	return err == nil && strings.Contains(string(b), option)
}
