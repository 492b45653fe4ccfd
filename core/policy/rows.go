package policy

import (
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// span is an interval of ports of one protocol.
type span struct {
	proto       uint8
	first, last uint16
}

// contender is a rule that takes part in deciding for one class, strongest first in its list. One that passes
// takes what it covers away from the weaker ones of its tier, and decides nothing.
type contender struct {
	tier     Tier
	pass     bool
	anyPort  bool
	spans    []span
	decision datapath.PolicyRow
}

// row is a policy row before it has a policy and a class.
type row struct {
	anyProto bool
	proto    uint8
	port     uint16
	bits     uint8
	datapath.PolicyRow
}

func (r row) key(p datapath.PolicyID, c datapath.Class, d datapath.Direction) datapath.PolicyKey {
	return datapath.PolicyKey{Policy: p, Class: c, Direction: d, AnyProto: r.anyProto, Proto: r.proto, Port: r.port, PortBits: r.bits}
}

// resolve turns contenders into the fewest rows whose longest match gives, for every protocol and
// port, the decision of the strongest contender that covers it, and fallback where none does. The
// first row is the one for all protocols. Equal decisions give equal rows, whichever contenders
// they come from.
func resolve(contenders []contender, fallback datapath.PolicyRow) []row {
	if slices.ContainsFunc(contenders, func(c contender) bool { return c.pass }) {
		return resolvePassing(contenders, fallback)
	}
	for i := range contenders {
		if contenders[i].anyPort { // weaker ones cannot win any more
			fallback = contenders[i].decision
			contenders = contenders[:i]
			break
		}
	}
	rows := []row{{anyProto: true, PolicyRow: fallback}}
	byProto := map[uint8][]painted{}
	for rank := range contenders {
		for _, s := range contenders[rank].spans {
			if s.first <= s.last {
				byProto[s.proto] = append(byProto[s.proto], painted{s.first, s.last, rank})
			}
		}
	}
	protos := make([]uint8, 0, len(byProto))
	for p := range byProto {
		protos = append(protos, p)
	}
	slices.Sort(protos)
	for _, proto := range protos {
		segs := paint(byProto[proto], contenders, fallback)
		rows = cover(rows, proto, segs, fallback)
	}
	return rows
}

// resolvePassing is resolve where some contenders pass. It asks them one after the other for each piece of the
// ports: only administrators write such rules, and few.
func resolvePassing(contenders []contender, fallback datapath.PolicyRow) []row {
	ask := func(covers func(*contender) bool) datapath.PolicyRow {
		var passed [TierBaseline + 1]bool
		for i := range contenders {
			switch c := &contenders[i]; {
			case passed[c.tier] || !covers(c):
			case c.pass:
				passed[c.tier] = true
			default:
				return c.decision
			}
		}
		return fallback
	}
	others := ask(func(c *contender) bool { return c.anyPort }) // of protocols that no contender names
	rows := []row{{anyProto: true, PolicyRow: others}}
	cuts := map[uint8][]int{}
	for i := range contenders {
		if contenders[i].anyPort {
			continue
		}
		for _, s := range contenders[i].spans {
			if s.first <= s.last {
				cuts[s.proto] = append(cuts[s.proto], int(s.first), int(s.last)+1)
			}
		}
	}
	protos := make([]uint8, 0, len(cuts))
	for p := range cuts {
		protos = append(protos, p)
	}
	slices.Sort(protos)
	for _, proto := range protos {
		at := append(cuts[proto], 0, 1<<16)
		slices.Sort(at)
		at = slices.Compact(at)
		var segs []segment
		for _, first := range at[:len(at)-1] {
			port := uint16(first)
			decision := ask(func(c *contender) bool {
				return c.anyPort || slices.ContainsFunc(c.spans, func(s span) bool { return s.proto == proto && s.first <= port && port <= s.last })
			})
			if n := len(segs); n == 0 || segs[n-1].decision != decision {
				segs = append(segs, segment{port, decision})
			}
		}
		rows = cover(rows, proto, segs, others)
	}
	return rows
}

// painted is an interval with the rank of its contender; a lower rank is stronger.
type painted struct {
	first, last uint16
	rank        int
}

// segment is a maximal run of ports with one decision, from first up to the next segment's first.
type segment struct {
	first    uint16
	decision datapath.PolicyRow
}

// paint cuts 0 to 65535 at the borders of the spans and gives every piece its strongest span's
// decision. Spans come strongest first. Each piece is painted once: next[] leads past painted ones.
func paint(spans []painted, contenders []contender, fallback datapath.PolicyRow) []segment {
	cuts := make([]int, 0, 2*len(spans)+2)
	cuts = append(cuts, 0, 1<<16)
	for _, s := range spans {
		cuts = append(cuts, int(s.first), int(s.last)+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	pieces := len(cuts) - 1
	decision := make([]datapath.PolicyRow, pieces)
	next := make([]int, pieces+1)
	for i := range next {
		next[i] = i
	}
	for i := range decision {
		decision[i] = fallback
	}
	free := func(i int) int { // first piece from i on that is not painted
		root := i
		for next[root] != root {
			root = next[root]
		}
		for next[i] != root {
			i, next[i] = next[i], root
		}
		return root
	}
	for _, s := range spans {
		from, _ := slices.BinarySearch(cuts, int(s.first))
		to, _ := slices.BinarySearch(cuts, int(s.last)+1)
		for i := free(from); i < to; i = free(i) {
			decision[i] = contenders[s.rank].decision
			next[i] = i + 1
		}
	}
	segs := make([]segment, 0, pieces)
	for i := range decision {
		if n := len(segs); n == 0 || segs[n-1].decision != decision[i] {
			segs = append(segs, segment{uint16(cuts[i]), decision[i]})
		}
	}
	return segs
}

// cover appends the fewest rows for one protocol that together with the inherited decision give the
// segments. It is the optimal construction of Draves, King, Venkatachary and Zill ("Constructing
// optimal IP routing tables", INFOCOM 1999) over the 16 bits of the port: from the leaves up, each
// prefix learns which decisions it could hold at least cost (those common to its halves, else those
// of either); from the root down, a prefix that cannot inherit gets a row.
func cover(rows []row, proto uint8, segs []segment, inherited datapath.PolicyRow) []row {
	var decisions []datapath.PolicyRow
	numbers := map[datapath.PolicyRow]uint16{}
	index := make([]uint16, len(segs))
	for i, s := range segs {
		n, ok := numbers[s.decision]
		if !ok {
			n = uint16(len(decisions))
			numbers[s.decision] = n
			decisions = append(decisions, s.decision)
		}
		index[i] = n
	}
	have := -1
	if n, ok := numbers[inherited]; ok {
		have = int(n)
	}
	return grow(segs, index, 0, 0).emit(rows, proto, 0, 0, have, decisions)
}

// trieNode is a prefix of ports that holds more than one decision, or a leaf that holds one.
type trieNode struct {
	could       []uint16 // decisions it could hold, ascending
	left, right *trieNode
}

// grow builds the trie below a prefix; segs are those that reach into it.
func grow(segs []segment, index []uint16, port uint16, bits uint8) *trieNode {
	if len(segs) == 1 {
		return &trieNode{could: index[:1]}
	}
	middle := port | 1<<(15-bits)
	// split is the first segment that begins at or after the middle.
	split, exact := slices.BinarySearchFunc(segs, middle, func(s segment, m uint16) int { return int(s.first) - int(m) })
	right := split
	if !exact {
		right--
	}
	n := &trieNode{
		left:  grow(segs[:split], index[:split], port, bits+1),
		right: grow(segs[right:], index[right:], middle, bits+1),
	}
	n.could = common(n.left.could, n.right.could)
	if len(n.could) == 0 {
		n.could = append(append(n.could, n.left.could...), n.right.could...)
		slices.Sort(n.could)
	}
	return n
}

func common(a, b []uint16) []uint16 {
	var out []uint16
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			out = append(out, a[i])
			i++
			j++
		}
	}
	return out
}

// emit writes the rows of a prefix that inherits decision have (-1: one that no segment has).
func (n *trieNode) emit(rows []row, proto uint8, port uint16, bits uint8, have int, decisions []datapath.PolicyRow) []row {
	if have < 0 || !slices.Contains(n.could, uint16(have)) {
		have = int(n.could[0])
		rows = append(rows, row{proto: proto, port: port, bits: bits, PolicyRow: decisions[have]})
	}
	if n.left == nil {
		return rows
	}
	rows = n.left.emit(rows, proto, port, bits+1, have, decisions)
	return n.right.emit(rows, proto, port|1<<(15-bits), bits+1, have, decisions)
}
