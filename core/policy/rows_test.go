package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
)

func drawContenders(t *rapid.T, port *rapid.Generator[uint16], passing bool) []contender {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) contender {
		c := contender{
			anyPort:  rapid.IntRange(0, 9).Draw(t, "anyPort") == 0,
			tier:     rapid.SampledFrom([]Tier{TierAdmin, TierOrdinary, TierBaseline}).Draw(t, "tier"),
			pass:     passing && rapid.IntRange(0, 3).Draw(t, "pass") == 0,
			decision: datapath.PolicyRow{Allow: rapid.Bool().Draw(t, "allow"), Cookie: datapath.Cookie(rapid.IntRange(1, 4).Draw(t, "cookie"))},
		}
		for range rapid.IntRange(0, 3).Draw(t, "spans") {
			a, b := port.Draw(t, "first"), port.Draw(t, "last")
			c.spans = append(c.spans, span{rapid.SampledFrom([]uint8{6, 17}).Draw(t, "proto"), min(a, b), max(a, b)})
		}
		return c
	}), 0, 6).Draw(t, "contenders")
}

// strongest reads the contenders one after the other.
func strongest(cs []contender, fallback datapath.PolicyRow, proto uint8, port uint16) datapath.PolicyRow {
	passed := map[Tier]bool{}
	for _, c := range cs {
		covers := c.anyPort
		for _, s := range c.spans {
			covers = covers || s.proto == proto && s.first <= port && port <= s.last
		}
		switch {
		case !covers || passed[c.tier]:
		case c.pass:
			passed[c.tier] = true
		default:
			return c.decision
		}
	}
	return fallback
}

func TestResolveDecidesAsTheStrongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := drawContenders(t, rapid.OneOf(rapid.SampledFrom(borderPorts), rapid.Uint16()), rapid.Bool().Draw(t, "passing"))
		rows := resolve(cs, datapath.PolicyRow{Cookie: 9})
		tab := newTables()
		for _, r := range rows {
			require.NoError(t, tab.do(PutRow{r.key(1, 0, 0), r.PolicyRow}))
		}
		ask := append([]uint16{}, borderPorts...)
		for _, c := range cs {
			for _, s := range c.spans {
				ask = append(ask, s.first-1, s.first, s.last, s.last+1)
			}
		}
		for _, proto := range []uint8{1, 6, 17} {
			for _, port := range ask {
				got, ok := tab.longest(tableIndex{1, 0, 0}, proto, port)
				require.True(t, ok)
				require.Equal(t, strongest(cs, datapath.PolicyRow{Cookie: 9}, proto, port), got, "%d/%d", proto, port)
			}
		}
	})
}

// TestResolveTakesTheFewestRows compares with a search over all ways to place rows, on ranges whose
// borders are multiples of 4096 (so that only the first four bits matter).
func TestResolveTakesTheFewestRows(t *testing.T) {
	coarse := rapid.Custom(func(t *rapid.T) uint16 { return uint16(rapid.IntRange(0, 15).Draw(t, "sixteenth")) << 12 })
	rapid.Check(t, func(t *rapid.T) {
		cs := drawContenders(t, coarse, rapid.Bool().Draw(t, "passing"))
		for i := range cs {
			for j := range cs[i].spans {
				cs[i].spans[j].last |= 0xfff
			}
		}
		fallback := datapath.PolicyRow{Cookie: 9}
		rows := resolve(cs, fallback)
		others := strongest(cs, fallback, 1, 0) // a protocol that nobody names
		want := 1
		for _, proto := range []uint8{6, 17} {
			want += fewest(cs, fallback, proto, 0, 0, others, map[string]int{})
		}
		require.Len(t, rows, want, "%v", rows)
	})
}

// fewest is the least number of rows for a prefix that inherits a decision.
func fewest(cs []contender, fallback datapath.PolicyRow, proto uint8, port uint16, bits uint8, have datapath.PolicyRow, memo map[string]int) int {
	if bits == 4 {
		if strongest(cs, fallback, proto, port) == have {
			return 0
		}
		return 1
	}
	key := fmt.Sprint(port, bits, have)
	if n, ok := memo[key]; ok {
		return n
	}
	below := func(have datapath.PolicyRow) int {
		return fewest(cs, fallback, proto, port, bits+1, have, memo) + fewest(cs, fallback, proto, port|1<<(15-bits), bits+1, have, memo)
	}
	best := below(have)
	options := []datapath.PolicyRow{fallback}
	for _, c := range cs {
		options = append(options, c.decision)
	}
	for _, o := range options {
		best = min(best, 1+below(o))
	}
	memo[key] = best
	return best
}

func TestResolveExamples(t *testing.T) {
	allow, deny := datapath.PolicyRow{Allow: true, Cookie: 1}, datapath.PolicyRow{Cookie: 2}
	any := func(d datapath.PolicyRow) row { return row{anyProto: true, PolicyRow: d} }
	tcp := func(first, last uint16, d datapath.PolicyRow) contender {
		return contender{spans: []span{{6, first, last}}, decision: d}
	}
	for name, c := range map[string]struct {
		in   []contender
		want []row
	}{
		"nothing":               {nil, []row{any(deny)}},
		"one port":              {[]contender{tcp(80, 80, allow)}, []row{any(deny), {proto: 6, port: 80, bits: 16, PolicyRow: allow}}},
		"all ports":             {[]contender{tcp(0, 65535, allow)}, []row{any(deny), {proto: 6, PolicyRow: allow}}},
		"all but privileged":    {[]contender{tcp(1024, 65535, allow)}, []row{any(deny), {proto: 6, PolicyRow: allow}, {proto: 6, bits: 6, PolicyRow: deny}}},
		"same as the rest":      {[]contender{tcp(80, 90, deny)}, []row{any(deny)}},
		"everything, and more":  {[]contender{{anyPort: true, decision: allow}, tcp(80, 80, deny)}, []row{any(allow)}},
		"a hole in everything":  {[]contender{tcp(80, 80, deny), {anyPort: true, decision: allow}}, []row{any(allow), {proto: 6, port: 80, bits: 16, PolicyRow: deny}}},
		"stronger, then weaker": {[]contender{tcp(80, 81, allow), tcp(80, 83, deny)}, []row{any(deny), {proto: 6, port: 80, bits: 15, PolicyRow: allow}}},
		"last port":             {[]contender{tcp(65535, 65535, allow)}, []row{any(deny), {proto: 6, port: 65535, bits: 16, PolicyRow: allow}}},
	} {
		require.Equal(t, c.want, resolve(c.in, deny), name)
	}
}
