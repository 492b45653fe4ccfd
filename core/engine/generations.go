package engine

import (
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// chooseGeneration picks the generation for new policies: one that no policy in force uses, and if
// there are several one without rows. It returns what has to be written before anything else, so that the
// generation's rows are nobody's but the new policies': a row that a predecessor left behind would put an
// identity into a class that means something else by now.
//
// All generations are in force only after as many agents in a row were killed while they put their
// policies in force. Then the endpoints of the one with the fewest lose theirs until they get the new
// one: nothing passes meanwhile, which is better than what should not.
func (e *Engine) chooseGeneration() (g uint8, clean []Op) {
	var endpoints, rows [datapath.GenerationCount]int
	for _, w := range e.adopted.EndpointPolicy {
		if w.Policy != 0 {
			endpoints[w.Policy.Generation()]++
		}
	}
	for k := range e.adopted.Classes {
		rows[k.Generation]++
	}
	for i := range uint8(datapath.GenerationCount) {
		if endpoints[i] < endpoints[g] || endpoints[i] == endpoints[g] && rows[i] < rows[g] {
			g = i
		}
	}
	for _, id := range sortedKeys(e.adopted.EndpointPolicy) {
		if w := e.adopted.EndpointPolicy[id]; w.Policy != 0 && w.Policy.Generation() == g {
			clean = append(clean, Op{EndpointPolicy, id, nil})
		}
	}
	var stale []datapath.ClassKey
	for k := range e.adopted.Classes {
		if k.Generation == g {
			stale = append(stale, k)
		}
	}
	slices.SortFunc(stale, func(a, b datapath.ClassKey) int { return int(a.Identity) - int(b.Identity) })
	for _, k := range stale {
		clean = append(clean, Op{Classes, k, nil})
		delete(e.adopted.Classes, k)
	}
	return g, clean
}
