package rtnetlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// reservePorts keeps the kernel from giving a range of ports to connections of its own, if it would: their answers
// could not be told from requests. What others reserved stays so.
func reservePorts(first, last uint16) error {
	if first == 0 {
		return nil
	}
	const reserved = "ipv4/ip_local_reserved_ports"
	ephemeral, err := os.ReadFile(sysctlRoot + "ipv4/ip_local_port_range")
	if err != nil {
		return fmt.Errorf("protect ports %d to %d: %w", first, last, err)
	}
	have, err := os.ReadFile(sysctlRoot + reserved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("protect ports %d to %d: %w", first, last, err)
	}
	var low, high int
	if _, err := fmt.Sscan(string(ephemeral), &low, &high); err != nil {
		return fmt.Errorf("protect ports %d to %d: ip_local_port_range is %q", first, last, ephemeral)
	}
	all := strings.TrimSpace(string(have))
	if int(last) < low || int(first) > high || covers(all, int(first), int(last)) {
		return nil
	}
	if all != "" {
		all += ","
	}
	return setSysctls([]sysctl{{path: reserved, value: all + fmt.Sprintf("%d-%d", first, last)}})
}

// covers says whether one of the ranges of a list like "53,30000-32767" holds all of first to last.
func covers(list string, first, last int) bool {
	for _, r := range strings.Split(list, ",") {
		a, b, isRange := strings.Cut(strings.TrimSpace(r), "-")
		if !isRange {
			b = a
		}
		low, err := strconv.Atoi(a)
		high, err2 := strconv.Atoi(b)
		if err == nil && err2 == nil && low <= first && last <= high {
			return true
		}
	}
	return false
}
