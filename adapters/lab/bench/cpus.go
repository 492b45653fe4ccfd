package bench

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// allowedCPUs are the processors that this process may run on.
func allowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var out []int
	for i := 0; len(out) < set.Count(); i++ {
		if set.IsSet(i) {
			out = append(out, i)
		}
	}
	return out
}

// chooseCPUs checks the processors that were asked for. nil takes the last one for both ends: between two processors
// that sleep in turns, and the more so of a virtual machine, waking them costs several times what is to be measured.
func chooseCPUs(asked, allowed []int) ([]int, error) {
	if len(asked) == 0 {
		return allowed[len(allowed)-1:], nil
	}
	if len(asked) > 2 {
		return nil, fmt.Errorf("processors %v: one for both ends or two are allowed", asked)
	}
	for _, c := range asked {
		if !slices.Contains(allowed, c) {
			return nil, fmt.Errorf("processor %d: allowed are %v", c, allowed)
		}
	}
	return asked, nil
}
