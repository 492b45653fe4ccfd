package lb

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

var (
	web     = Name{"shop", "web"}
	webAddr = Frontend{Addr: addr("10.96.0.10"), Port: 80, Proto: datapath.ProtoTCP, PortName: "http", Type: ClusterIP}
	webKey  = datapath.ServiceKey{Addr: addr("10.96.0.10"), Port: 80, Proto: datapath.ProtoTCP}
)

var testSettings = Settings{Node: "n1", NodePorts: true, HostPorts: true}

func webService() Service { return Service{Name: web, Frontends: []Frontend{webAddr}} }

func pod(a string) Backend {
	return Backend{Addr: addr(a), Port: 8080, Proto: datapath.ProtoTCP, PortName: "http", Weight: 1}
}

func podIn(a string, s State, weight uint16) Backend {
	b := pod(a)
	b.State, b.Weight = s, weight
	return b
}

func row(a string) datapath.Backend {
	return datapath.Backend{Addr: addr(a), Port: 8080, Proto: datapath.ProtoTCP}
}

// kinds names the operations' types, to check their order.
func kinds(ops []Op) []string {
	var out []string
	for _, op := range ops {
		out = append(out, fmt.Sprintf("%T", op)[len("lb."):])
	}
	return out
}

// setup compiles service web with the given backends, and returns tables that hold the outcome.
func setup(t *testing.T, backends ...Backend) (*Compiler, *tables) {
	t.Helper()
	c, tab := NewCompiler(testSettings), newTables()
	c.UpsertService(webService())
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: backends})
	require.NoError(t, tab.transition(c.Flush()))
	require.Empty(t, tab.leaks())
	return c, tab
}

// slots are the backends of the web frontend in slot order.
func (t *tables) slotsOf(key datapath.ServiceKey) []datapath.Backend {
	out := []datapath.Backend{}
	s := t.services[key]
	for i := uint32(1); i <= s.Count; i++ {
		out = append(out, t.backends[t.slots[datapath.SlotKey{Service: s.ID, Slot: i}]])
	}
	return out
}

func TestSlotsAreOrderedByAddressNotByHistory(t *testing.T) {
	_, a := setup(t, pod("10.0.0.9"), pod("10.0.0.10"), pod("10.0.0.1"))
	want := []datapath.Backend{row("10.0.0.1"), row("10.0.0.9"), row("10.0.0.10")}
	assert.Equal(t, want, a.slotsOf(webKey))

	c, b := setup(t, pod("10.0.0.10"))
	c.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{pod("10.0.0.1")}})
	require.NoError(t, b.transition(c.Flush()))
	c.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{pod("10.0.0.9"), pod("10.0.0.1")}})
	require.NoError(t, b.transition(c.Flush()))
	assert.Equal(t, a, b)
}

func TestOrderOfOperations(t *testing.T) {
	c, tab := setup(t, pod("10.0.0.1"), pod("10.0.0.2"), pod("10.0.0.3"))
	change := func(backends ...Backend) []string {
		c.UpsertSlice(Slice{Service: web, Name: "a", Backends: backends})
		ops := c.Flush()
		require.NoError(t, tab.transition(ops))
		require.Empty(t, tab.leaks())
		return kinds(ops)
	}
	assert.Equal(t, []string{"PutBackend", "PutSlot", "PutService"},
		change(pod("10.0.0.1"), pod("10.0.0.2"), pod("10.0.0.3"), pod("10.0.0.4")), "growth: only the new slot")
	assert.Equal(t, []string{"PutSlot", "PutSlot", "PutService", "DeleteSlot", "DeleteBackend"},
		change(pod("10.0.0.1"), pod("10.0.0.3"), pod("10.0.0.4")), "shrink: slots 2 and 3 move up")
	assert.Equal(t, []string{"PutBackend", "PutSlot", "DeleteBackend"},
		change(pod("10.0.0.1"), pod("10.0.0.3"), pod("10.0.0.5")), "exchange: the count stays, so the row does")
	assert.Equal(t, []string(nil), change(pod("10.0.0.5"), pod("10.0.0.3"), pod("10.0.0.1")), "another order of the same")
	assert.Equal(t, []string{"PutService", "DeleteSlot", "DeleteSlot", "DeleteSlot", "DeleteBackend", "DeleteBackend", "DeleteBackend"},
		change(), "empty: the row stays with count 0")
	assert.Equal(t, datapath.Service{ID: serviceHash(webKey)}, tab.services[webKey])

	c.DeleteService(web)
	assert.Equal(t, []string{"DeleteService"}, kinds(c.Flush()))
	assert.Nil(t, c.Flush())
}

func TestWhichBackendsTakeSlots(t *testing.T) {
	for _, tc := range []struct {
		name     string
		backends []Backend
		want     []datapath.Backend
	}{
		{"active only", []Backend{pod("10.0.0.1"), podIn("10.0.0.2", Terminating, 1)}, []datapath.Backend{row("10.0.0.1")}},
		{"terminating if no active", []Backend{podIn("10.0.0.1", Terminating, 1), podIn("10.0.0.2", Terminating, 1)},
			[]datapath.Backend{row("10.0.0.1"), row("10.0.0.2")}},
		{"weight 0 takes none", []Backend{podIn("10.0.0.1", Active, 0), pod("10.0.0.2")}, []datapath.Backend{row("10.0.0.2")}},
		{"an active one with weight 0 does not keep terminating ones out",
			[]Backend{podIn("10.0.0.1", Active, 0), podIn("10.0.0.2", Terminating, 1)}, []datapath.Backend{row("10.0.0.2")}},
		{"all of weight 0", []Backend{podIn("10.0.0.1", Active, 0), podIn("10.0.0.2", Terminating, 0)}, []datapath.Backend{}},
		{"other family", []Backend{pod("fd00::1"), pod("10.0.0.1")}, []datapath.Backend{row("10.0.0.1")}},
		{"mapped address", []Backend{pod("::ffff:10.0.0.1")}, []datapath.Backend{row("10.0.0.1")}},
		{"other port name and protocol", []Backend{
			{Addr: addr("10.0.0.1"), Port: 8080, Proto: datapath.ProtoTCP, PortName: "metrics", Weight: 1},
			{Addr: addr("10.0.0.2"), Port: 8080, Proto: datapath.ProtoUDP, PortName: "http", Weight: 1},
		}, []datapath.Backend{}},
		{"undiallable", []Backend{{Port: 8080, Proto: datapath.ProtoTCP, PortName: "http", Weight: 1},
			{Addr: addr("10.0.0.1"), Proto: datapath.ProtoTCP, PortName: "http", Weight: 1}}, []datapath.Backend{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, tab := setup(t, tc.backends...)
			assert.Equal(t, tc.want, tab.slotsOf(webKey))
			assert.Contains(t, tab.services, webKey, "the frontend keeps its row")
		})
	}
}

func TestOverlappingSlicesCountABackendOnce(t *testing.T) {
	c, tab := setup(t, podIn("10.0.0.1", Terminating, 1))
	c.UpsertSlice(Slice{Service: web, Name: "b", Backends: []Backend{pod("10.0.0.1"), podIn("10.0.0.2", Terminating, 1)}})
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.1")}, tab.slotsOf(webKey))

	c.DeleteSlice(web, "b")
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.1")}, tab.slotsOf(webKey), "still there, terminating")
}

func TestBackendSharedByServicesIsOneRow(t *testing.T) {
	c, tab := setup(t, pod("10.0.0.1"))
	other := Name{"shop", "canary"}
	c.UpsertService(Service{Name: other, Frontends: []Frontend{{Addr: addr("10.96.0.11"), Port: 80, Proto: datapath.ProtoTCP, PortName: "http"}}})
	c.UpsertSlice(Slice{Service: other, Name: "x", Backends: []Backend{pod("10.0.0.1")}})
	ops := c.Flush()
	require.NoError(t, tab.transition(ops))
	assert.Equal(t, []string{"PutSlot", "PutService"}, kinds(ops))
	assert.Len(t, tab.backends, 1)

	c.DeleteService(web)
	ops = c.Flush()
	require.NoError(t, tab.transition(ops))
	assert.Equal(t, []string{"DeleteService", "DeleteSlot"}, kinds(ops), "the other service still has it")

	c.DeleteService(other)
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, newTables(), tab)
}

func TestConflictGoesToTheLeastNameAndIsReported(t *testing.T) {
	c, tab := setup(t, pod("10.0.0.2"))
	first := Name{"shop", "a"}
	s := webService()
	s.Name = first
	c.UpsertSlice(Slice{Service: first, Name: "s", Backends: []Backend{pod("10.0.0.1")}})
	c.UpsertService(s)
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.1")}, tab.slotsOf(webKey))
	require.Equal(t, []Conflict{{Frontend: webKey, Winner: first, Loser: web, Port: "http"}}, c.Conflicts())
	assert.Equal(t, `frontend 10.96.0.10:80/TCP of service shop/web (port "http") is already taken by service shop/a`, c.Conflicts()[0].String())
	require.Len(t, c.Frontends(), 1)
	assert.Equal(t, first, c.Frontends()[0].Service)

	c.DeleteService(first)
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.2")}, tab.slotsOf(webKey))
	assert.Empty(t, c.Conflicts())
	assert.Empty(t, tab.leaks())
}

func TestFrontendListedTwiceByItsOwnService(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	twice, otherPort := webAddr, webAddr
	twice.Type = ExternalIPs
	otherPort.PortName = "admin"
	c.UpsertService(Service{Name: web, Frontends: []Frontend{webAddr, twice, otherPort}})
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1")}})
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.1")}, tab.slotsOf(webKey))
	assert.Equal(t, []Conflict{{Frontend: webKey, Winner: web, Loser: web, Port: "admin"}}, c.Conflicts())
	external := webKey
	external.Scope = datapath.External
	assert.Len(t, c.Frontends(), 2)
	assert.Equal(t, tab.slotsOf(webKey), tab.slotsOf(external), "the external address is one, too")

	c.UpsertService(Service{Name: web, Frontends: []Frontend{otherPort}})
	require.NoError(t, tab.transition(c.Flush()))
	assert.Empty(t, tab.slotsOf(webKey))
	assert.Empty(t, c.Conflicts())
	assert.Empty(t, tab.leaks())
}

func TestNewsOfNothingNewWritesNothing(t *testing.T) {
	c, _ := setup(t, pod("10.0.0.1"))
	c.UpsertService(webService())
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1")}})
	c.DeleteService(Name{"no", "such"})
	c.DeleteSlice(web, "no such")
	c.DeleteSlice(Name{"no", "such"}, "x")
	assert.Nil(t, c.Flush())

	c.DeleteSlice(web, "a")
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1")}})
	assert.Empty(t, c.Flush(), "gone and back between two flushes")
}

func TestCallerMayReuseItsSlices(t *testing.T) {
	c, tab := NewCompiler(testSettings), newTables()
	s, sl := webService(), Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1")}}
	c.UpsertService(s)
	c.UpsertSlice(sl)
	s.Frontends[0].Port, sl.Backends[0] = 9999, pod("10.0.0.66")
	require.NoError(t, tab.transition(c.Flush()))
	assert.Equal(t, []datapath.Backend{row("10.0.0.1")}, tab.slotsOf(webKey))
}

func TestAffinityTimeoutIsInSecondsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		0: 0, -time.Second: 0, time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2, 3 * time.Hour: 10800, 1<<63 - 1: 1<<32 - 1,
	} {
		assert.Equal(t, want, seconds(d), "%s", d)
	}
	c, tab := setup(t, pod("10.0.0.1"))
	s := webService()
	s.Affinity = 3 * time.Hour
	c.UpsertService(s)
	ops := c.Flush()
	assert.Equal(t, []string{"PutService"}, kinds(ops))
	require.NoError(t, tab.transition(ops))
	assert.Equal(t, uint32(10800), tab.services[webKey].AffinityTimeout)
}

func TestFrontendsSnapshot(t *testing.T) {
	c, _ := setup(t, pod("10.0.0.2"), podIn("10.0.0.1", Terminating, 1))
	got := c.Frontends()
	require.Len(t, got, 1)
	assert.Equal(t, FrontendState{
		ID: serviceHash(webKey), Service: web, Frontend: webAddr,
		Backends: []BackendState{
			{ID: backendHash(row("10.0.0.1")), Backend: podIn("10.0.0.1", Terminating, 1)},
			{ID: backendHash(row("10.0.0.2")), Backend: pod("10.0.0.2"), InUse: true},
		},
	}, got[0])
	one, ok := c.Frontend(webKey)
	assert.True(t, ok)
	assert.Equal(t, got[0], one)
	_, ok = c.Frontend(datapath.ServiceKey{})
	assert.False(t, ok)
}

func TestOperationTexts(t *testing.T) {
	c := NewCompiler(testSettings)
	s := webService()
	s.Affinity = time.Minute
	c.UpsertService(s)
	c.UpsertSlice(Slice{Service: web, Name: "a", Backends: []Backend{pod("10.0.0.1")}})
	sid, bid := serviceHash(webKey), backendHash(row("10.0.0.1"))
	assert.Equal(t, []string{
		fmt.Sprintf("put backend %d: 10.0.0.1:8080/TCP", bid),
		fmt.Sprintf("put slot %d/1: backend %d", sid, bid),
		fmt.Sprintf("put service 10.96.0.10:80/TCP: id %d, 1 slots, affinity 60s", sid),
	}, texts(c.Flush()))
	c.DeleteService(web)
	assert.Equal(t, []string{
		"delete service 10.96.0.10:80/TCP",
		fmt.Sprintf("delete slot %d/1", sid),
		fmt.Sprintf("delete backend %d", bid),
	}, texts(c.Flush()))
}
