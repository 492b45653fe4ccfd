package lb

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

// TestIDsNeverChange guards the numbers that nodes and restarts agree on.
func TestIDsNeverChange(t *testing.T) {
	assert.Equal(t, uint32(0xce5ca29), backendHash(row("10.0.0.1")))
	assert.Equal(t, uint32(0xd67641d7), backendHash(row("fd00::1")))
	assert.Equal(t, uint32(0xdd34af83), serviceHash(webKey))
	same := datapath.ServiceKey{Addr: row("10.0.0.1").Addr, Port: row("10.0.0.1").Port, Proto: row("10.0.0.1").Proto}
	assert.NotEqual(t, backendHash(row("10.0.0.1")), serviceHash(same))
}

func TestCollidingKeysGetTheNextFreeID(t *testing.T) {
	a := newIDs(func(string) uint32 { return 1<<32 - 1 }, func(s string) string { return s })
	get := func(k string) uint32 {
		id, _ := a.get(k, func(uint32) string { return k })
		return id
	}
	assert.Equal(t, uint32(1<<32-1), get("a"))
	assert.Equal(t, uint32(1), get("b"), "0 is passed over")
	assert.Equal(t, uint32(2), get("c"))
	assert.Equal(t, uint32(1), get("b"))
	a.free("b")
	a.free("no such")
	assert.Equal(t, uint32(1), get("d"))
	assert.Equal(t, uint32(2), get("c"))
}

// collide makes all backend and service ids start from the same number.
func collide(c *Compiler) *Compiler {
	c.backends.hash = func(datapath.Backend) uint32 { return 7 }
	c.serviceIDs.hash = func(datapath.ServiceKey) uint32 { return 7 }
	return c
}

func TestAdoptKeepsCollidingIDsOverARestart(t *testing.T) {
	c, tab := collide(NewCompiler(testSettings)), newTables()
	c.UpsertService(webService())
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.9"), pod("10.0.0.8")}})
	require.NoError(t, tab.transition(c.Flush()))
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.9"), pod("10.0.0.1")}})
	require.NoError(t, tab.transition(c.Flush()))
	require.Equal(t, map[uint32]datapath.Backend{8: row("10.0.0.9"), 9: row("10.0.0.1")}, tab.backends,
		"the newcomer must not take the id that is being freed")

	again := collide(NewCompiler(testSettings))
	again.Adopt(tab.services, tab.backends)
	again.UpsertService(webService())
	again.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1"), pod("10.0.0.2")}})
	ops := again.Flush()
	assert.Contains(t, ops, PutBackend{ID: 9, Row: row("10.0.0.1")})
	assert.Contains(t, ops, PutBackend{ID: 7, Row: row("10.0.0.2")})
	again.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{pod("10.0.0.3")}})
	assert.Contains(t, again.Flush(), PutBackend{ID: 10, Row: row("10.0.0.3")}, "8 is still reserved for 10.0.0.9")

	again.ReleaseUnused()
	again.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{pod("10.0.0.3"), pod("10.0.0.4")}})
	assert.Contains(t, again.Flush(), PutBackend{ID: 8, Row: row("10.0.0.4")})
}

// TestIDsOfScopes: the numbers of what sockets dial are what they were before there were scopes.
func TestIDsOfScopes(t *testing.T) {
	assert.Equal(t, uint32(0xdd34af83), serviceHash(webKey))
	assert.NotEqual(t, serviceHash(webKey), serviceHash(outside(webKey)))
	v4, v6 := datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 80, Proto: 6}, datapath.ServiceKey{Addr: addr("::"), Port: 80, Proto: 6}
	assert.NotEqual(t, serviceHash(v4), serviceHash(v6))
}

func TestAdoptTellsScopesApart(t *testing.T) {
	c, tab := collide(NewCompiler(testSettings)), newTables()
	s := Service{Name: web, Frontends: []Frontend{everywhere(NodePort, 30080)}}
	c.UpsertService(s)
	require.NoError(t, tab.transition(c.Flush()))
	for k, v := range tab.services { // as if history had given them the other way round
		v.ID = 15 - v.ID
		tab.services[k] = v
	}
	again := collide(NewCompiler(testSettings))
	again.Adopt(tab.services, tab.backends)
	again.UpsertService(s)
	for _, op := range again.Flush() {
		if op, ok := op.(PutService); ok {
			assert.Equal(t, tab.services[op.Key].ID, op.Row.ID)
		}
	}
}
