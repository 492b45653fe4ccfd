package lb

import "iter"

// Source yields random numbers; *rand.Rand of math/rand/v2 is one.
type Source interface{ Uint32() uint32 }

// Pick chooses one of the slots 1 to count for a new connection, as the datapath does. False if
// there is none.
func Pick(count uint32, src Source) (slot uint32, ok bool) {
	if count == 0 {
		return 0, false
	}
	return src.Uint32()%count + 1, true
}

// Taking returns the backends that new connections go to: the Active ones with a weight above 0, or
// if there is none, the Terminating ones with a weight above 0. The order stays.
func Taking(backends []Backend) []Backend {
	state, ok := takingState(func(yield func(*Backend) bool) {
		for i := range backends {
			if !yield(&backends[i]) {
				return
			}
		}
	})
	if !ok {
		return nil
	}
	var out []Backend
	for _, b := range backends {
		if b.State == state && b.Weight > 0 {
			out = append(out, b)
		}
	}
	return out
}

// takingState is the state whose backends take new connections; false if none does.
func takingState(backends iter.Seq[*Backend]) (State, bool) {
	found := false
	for b := range backends {
		if b.Weight == 0 {
			continue
		}
		if b.State == Active {
			return Active, true
		}
		found = true
	}
	return Terminating, found
}
