package lb

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestHints(t *testing.T) {
	h := NewHints("b", "", "a", "b")
	assert.Equal(t, NewHints("a", "b"), h)
	assert.Equal(t, "a,b", h.String())
	assert.True(t, h.Has("a") && h.Has("b"))
	assert.False(t, h.Has("") || h.Has("a,b") && h.Has("c"))
	assert.Equal(t, Hints{}, NewHints(""))
	assert.False(t, Hints{}.Has(""))
	assert.False(t, NewHints("zone-ab").Has("zone-a"))
}

// hinted is a backend that is meant for clients in a zone or at a node.
func hinted(address, zone, node string) Backend {
	b := pod(address)
	b.ForZones, b.ForNodes = NewHints(zone), NewHints(node)
	return b
}

func TestHintsChooseWhoTakesConnections(t *testing.T) {
	one, two, three := hinted("10.0.0.1", "za", "n1"), hinted("10.0.0.2", "za", "n2"), hinted("10.0.0.3", "zb", "n3")
	leaving, idle, bare := pod("10.0.0.4"), pod("10.0.0.5"), pod("10.0.0.6")
	leaving.State, idle.Weight = Terminating, 0
	zones := func(all ...Backend) []Backend {
		for i := range all {
			all[i].ForNodes = Hints{}
		}
		return all
	}
	all := []datapath.Backend{row("10.0.0.1"), row("10.0.0.2"), row("10.0.0.3")}
	for _, c := range []struct {
		question   string
		node, zone string
		backends   []Backend
		want       []datapath.Backend
	}{
		{"the node goes before the zone", "n1", "za", []Backend{one, two, three}, all[:1]},
		{"the zone, where no backend is for the node", "n9", "za", []Backend{one, two, three}, all[:2]},
		{"all, where none is for the zone either", "n9", "zz", []Backend{one, two, three}, all},
		{"all, as long as the zone is unknown", "n9", "", []Backend{one, two, three}, all},
		{"the zone, where nodes are not hinted at", "n1", "zb", zones(one, two, three), all[2:]},
		{"all, as soon as one has no hint", "n1", "za", []Backend{one, two, bare}, []datapath.Backend{all[0], all[1], row("10.0.0.6")}},
		{"who takes no connections needs no hint", "n9", "zb", []Backend{one, three, leaving, idle}, all[2:]},
		{"terminating ones without a choice", "n9", "zb", []Backend{leaving}, []datapath.Backend{row("10.0.0.4")}},
	} {
		settings := testSettings
		settings.Node, settings.Topology = c.node, true
		compiler, tab := NewCompiler(settings), newTables()
		compiler.SetZone(c.zone)
		compiler.UpsertService(Service{Name: web, Frontends: []Frontend{webAddr, everywhere(NodePort, 30080)}})
		compiler.UpsertSlice(Slice{Service: web, Name: "a", Backends: c.backends})
		require.NoError(t, tab.transition(compiler.Flush()))
		assert.Equal(t, c.want, tab.slotsOf(webKey), c.question)
		port := datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP}
		assert.Equal(t, c.want, tab.slotsOf(outside(port)), "%s: from the network", c.question)
		f, _ := compiler.Frontend(webKey)
		assert.Len(t, f.Backends, len(c.backends), "%s: the others are known", c.question)
	}
}

func TestHintsFollowTheZoneAndYieldToPolicies(t *testing.T) {
	settings := testSettings
	settings.Topology = true
	c, tab := NewCompiler(settings), newTables()
	s := Service{Name: web, Frontends: []Frontend{webAddr}}
	c.UpsertService(s)
	here, near, far := on("n1", hinted("10.0.0.1", "zb", "")), on("n2", hinted("10.0.0.2", "za", "")), on("n3", hinted("10.0.0.3", "zb", ""))
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{here, near, far}})
	flush := func() []datapath.Backend {
		t.Helper()
		require.NoError(t, tab.transition(c.Flush()))
		require.Empty(t, tab.leaks())
		return tab.slotsOf(webKey)
	}
	assert.Len(t, flush(), 3)
	c.SetZone("za")
	assert.Equal(t, []datapath.Backend{row("10.0.0.2")}, flush())
	c.SetZone("zb")
	assert.Equal(t, []datapath.Backend{row("10.0.0.1"), row("10.0.0.3")}, flush())
	s.InternalLocal = true
	c.UpsertService(s)
	near.Node = "n1"
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{here, near, far}})
	c.SetZone("za")
	assert.Equal(t, []datapath.Backend{row("10.0.0.1"), row("10.0.0.2")}, flush(), "the policy counts, not the hint")

	off := NewCompiler(testSettings)
	off.SetZone("za")
	off.UpsertService(Service{Name: web, Frontends: []Frontend{webAddr}})
	off.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{here, near, far}})
	assert.Len(t, ops[PutSlot](off.Flush()), 3, "unless asked for hints do not count")
}

// ops are those of one type.
func ops[T Op](all []Op) (out []T) {
	for _, op := range all {
		if op, ok := op.(T); ok {
			out = append(out, op)
		}
	}
	return out
}
