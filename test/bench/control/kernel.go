package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// awaitServices waits until the kernel holds n services of per endpoints, and returns the time since the
// agent's start. It looks for the row that is likely the last, then counts all rows.
func (b *bed) awaitServices(n, per int, limit time.Duration) (time.Duration, error) {
	var services *ebpf.Map
	for services == nil {
		m, err := ebpf.LoadPinnedMap(filepath.Join(b.pins(), "services_v2"), nil)
		if err == nil {
			services = m
			break
		}
		if time.Since(b.started) > limit {
			return 0, fmt.Errorf("no table of services after %s: %w; %s", limit, err, b.logTail())
		}
		time.Sleep(time.Millisecond)
	}
	defer services.Close()
	key := serviceKey(vip(n-1), 80)
	value := make([]byte, services.ValueSize())
	for services.Lookup(key, value) != nil {
		if time.Since(b.started) > limit {
			return 0, fmt.Errorf("%d services are not programmed after %s; %s", n, limit, b.logTail())
		}
		time.Sleep(time.Millisecond)
	}
	for {
		took := time.Since(b.started)
		missing, err := b.missing(n, n*per)
		if err != nil {
			return 0, err
		}
		if missing == "" {
			return took, nil
		}
		if took > limit {
			return 0, fmt.Errorf("%s after %s", missing, limit)
		}
	}
}

func serviceKey(a netip.Addr, port uint16) []byte {
	k := make([]byte, 20)
	addr := a.As16()
	copy(k, addr[:])
	binary.NativeEndian.PutUint16(k[16:], port)
	k[18] = 6
	return k
}

// missing says which table has fewer rows than wanted; empty if none.
func (b *bed) missing(services, slots int) (string, error) {
	for _, t := range []struct {
		name string
		rows func(string) (int, error)
		want int
	}{
		{"services_v2", countRows[[20]byte, [16]byte], services},
		{"slots_v1", countRows[[8]byte, [4]byte], slots},
		{"backends_v1", countRows[[4]byte, [20]byte], slots},
	} {
		have, err := t.rows(filepath.Join(b.pins(), t.name))
		if err != nil {
			return "", err
		}
		if have < t.want {
			return fmt.Sprintf("table %s has %d of %d rows", t.name, have, t.want), nil
		}
	}
	return "", nil
}

// countRows counts the rows of a pinned hash map with keys and values of the sizes of K and V.
func countRows[K, V any](path string) (int, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	const chunk = 8192
	keys, values := make([]K, chunk), make([]V, chunk)
	var cursor ebpf.MapBatchCursor
	for n := 0; ; {
		got, err := m.BatchLookup(&cursor, keys, values, nil)
		n += got
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("count rows of %s: %w", filepath.Base(path), err)
		}
	}
}

// memory of the agent in bytes. Tables are the kernel's; those parts of them that the agent has mapped
// count as File, too.
type memory struct {
	Resident, Anonymous, File, Peak uint64
	Tables                          uint64
}

func (b *bed) memory() (m memory, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(b.agent.Process.Pid))
	f, err := os.Open(filepath.Join(proc, "status"))
	if err != nil {
		return m, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		to := map[string]*uint64{"VmRSS": &m.Resident, "RssAnon": &m.Anonymous, "RssFile": &m.File, "VmHWM": &m.Peak}[name]
		if fields := strings.Fields(rest); to != nil && len(fields) > 0 {
			kib, _ := strconv.ParseUint(fields[0], 10, 64)
			*to = kib << 10
		}
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fdinfo"))
	if err != nil {
		return m, err
	}
	seen := map[string]bool{}
	for _, fd := range fds {
		data, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err != nil {
			continue
		}
		var id string
		var size uint64
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch name {
			case "memlock":
				size, _ = strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			case "map_id":
				id = strings.TrimSpace(value)
			}
		}
		if id != "" && !seen[id] {
			seen[id] = true
			m.Tables += size
		}
	}
	return m, nil
}

// cpu is the processor time that the agent used.
func (b *bed) cpu() time.Duration {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.agent.Process.Pid), "stat"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
