package lb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
)

// The generators draw from few values, so that services share frontends and backends often.

// machines are the addresses of the nodes, those of this one first.
var machines = []string{"192.168.0.1", "fd01::1", "192.168.0.2", "fd01::2"}

func genName() *rapid.Generator[Name] {
	return rapid.Custom(func(t *rapid.T) Name {
		return Name{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "ns"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")}
	})
}

func genAddr(v4, v6 string, n int) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		i := rapid.IntRange(1, n).Draw(t, "host")
		switch rapid.IntRange(0, 9).Draw(t, "form") {
		case 0, 1, 2:
			return addr(fmt.Sprintf(v6, i))
		case 3:
			return addr("::ffff:" + fmt.Sprintf(v4, i))
		}
		return addr(fmt.Sprintf(v4, i))
	})
}

var (
	genProto    = rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP})
	genPortName = rapid.SampledFrom([]string{"http", "http", "dns"})
)

func genService() *rapid.Generator[Service] {
	return rapid.Custom(func(t *rapid.T) Service {
		types := []Type{ClusterIP, NodePort, LoadBalancer, ExternalIPs}
		if rapid.IntRange(0, 3).Draw(t, "a pod's") == 0 {
			types = []Type{HostPort} // these have a service of their own
		}
		return Service{
			Name: genName().Draw(t, "service"),
			Frontends: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Frontend {
				f := Frontend{
					Addr: genAddr("10.96.0.%d", "fd96::%d", 3).Draw(t, "frontend"), Port: uint16(rapid.IntRange(80, 81).Draw(t, "port")),
					Proto: genProto.Draw(t, "proto"), PortName: genPortName.Draw(t, "port name"),
					Type: rapid.SampledFrom(types).Draw(t, "type"),
				}
				if f.Type == NodePort || f.Type == HostPort && rapid.Bool().Draw(t, "at every address") {
					f.Addr = addr(rapid.SampledFrom([]string{"0.0.0.0", "::"}).Draw(t, "family"))
				} else if rapid.IntRange(0, 3).Draw(t, "at a node") == 0 {
					f.Addr = addr(rapid.SampledFrom(machines).Draw(t, "machine"))
				}
				return f
			}), 0, 3).Draw(t, "frontends"),
			Affinity:        time.Duration(rapid.IntRange(0, 1).Draw(t, "affinity")) * time.Hour,
			ExternalLocal:   rapid.Bool().Draw(t, "external local"),
			InternalLocal:   rapid.Bool().Draw(t, "internal local"),
			HealthCheckPort: rapid.SampledFrom([]uint16{0, 0, 32000, 32001}).Draw(t, "health check"),
		}
	})
}

func genSlice() *rapid.Generator[Slice] {
	return rapid.Custom(func(t *rapid.T) Slice {
		return Slice{
			Service: genName().Draw(t, "of"),
			Name:    rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "slice"),
			Backends: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Backend {
				return Backend{
					Addr: genAddr("10.0.0.%d", "fd00::%d", 6).Draw(t, "backend"), Port: uint16(rapid.IntRange(8080, 8081).Draw(t, "port")),
					Proto: genProto.Draw(t, "proto"), PortName: genPortName.Draw(t, "port name"),
					Node:   rapid.SampledFrom([]string{"n1", "n1", "n2", ""}).Draw(t, "node"),
					Weight: uint16(rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "weight")),
					State:  rapid.SampledFrom([]State{Active, Active, Terminating}).Draw(t, "state"),
				}
			}), 0, 7).Draw(t, "backends"),
		}
	})
}

type sliceKey struct {
	service Name
	slice   string
}

// world is what the compiler was told, kept as plainly as possible.
type world struct {
	services map[Name]Service
	slices   map[sliceKey]Slice
}

// inOrder are the services in the order in which they get what several want.
var inOrder = []Name{{"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "y"}}

// expect says, straight from the documentation, what a connect to each frontend may reach.
func (w world) expect() map[datapath.ServiceKey]map[datapath.Backend]bool {
	out := map[datapath.ServiceKey]map[datapath.Backend]bool{}
	for _, hostPorts := range []bool{false, true} {
		for _, n := range inOrder {
			for _, f := range w.services[n].Frontends {
				for _, scope := range []datapath.Scope{datapath.Internal, datapath.External} {
					key := datapath.ServiceKey{Addr: f.Addr.Unmap(), Port: f.Port, Proto: f.Proto, Scope: scope}
					_, taken := out[key]
					if taken || hostPorts != (f.Type == HostPort) || scope == datapath.External && f.Type == ClusterIP {
						continue
					}
					out[key] = w.serving(n, f, scope)
				}
			}
		}
	}
	return out
}

// serving are the backends that a connection to a service's frontend may get.
func (w world) serving(n Name, f Frontend, scope datapath.Scope) map[datapath.Backend]bool {
	here := false // only backends of n1
	switch s := w.services[n]; f.Type {
	case ClusterIP:
		here = s.InternalLocal
	case NodePort, LoadBalancer, ExternalIPs:
		here = scope == datapath.External && s.ExternalLocal
	}
	best := map[State]map[datapath.Backend]bool{Active: {}, Terminating: {}}
	active := map[datapath.Backend]bool{} // whatever the weight
	for k, s := range w.slices {
		if k.service != n {
			continue
		}
		for _, b := range s.Backends {
			if b.PortName != f.PortName || b.Proto != f.Proto || b.Addr.Unmap().Is4() != f.Addr.Unmap().Is4() || here && b.Node != "n1" {
				continue
			}
			to := datapath.Backend{Addr: b.Addr.Unmap(), Port: b.Port, Proto: b.Proto}
			if b.Weight > 0 {
				best[b.State][to] = true
			}
			if b.State == Active {
				active[to] = true
			}
		}
	}
	if len(best[Active]) > 0 {
		return best[Active]
	}
	// One that is active with weight 0 somewhere is not terminating, whatever another slice says.
	for b := range active {
		delete(best[Terminating], b)
	}
	return best[Terminating]
}

// checks says what load balancers are to be told.
func (w world) checks() map[Name]HealthCheck {
	out := map[Name]HealthCheck{}
	for n, s := range w.services {
		if s.HealthCheckPort == 0 {
			continue
		}
		v4, v6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
		for k, slice := range w.slices {
			for _, b := range slice.Backends {
				if k.service == n && b.Node == "n1" && b.State == Active && b.Weight > 0 {
					if a := b.Addr.Unmap(); a.Is4() {
						v4[a] = true
					} else {
						v6[a] = true
					}
				}
			}
		}
		out[n] = HealthCheck{Port: s.HealthCheckPort, Local: max(len(v4), len(v6))}
	}
	return out
}

// feed tells a compiler everything at once.
func (w world) feed(c *Compiler) {
	for _, s := range w.slices {
		c.UpsertSlice(s)
	}
	for _, s := range w.services {
		c.UpsertService(s)
	}
}

// runRandomNews drives a compiler with random news and checks each flush. It returns the compiler,
// the tables and what was told.
func runRandomNews(t *rapid.T, c *Compiler) (*tables, world) {
	w := world{map[Name]Service{}, map[sliceKey]Slice{}}
	tab := newTables()
	t.Repeat(map[string]func(*rapid.T){
		"service": func(t *rapid.T) {
			s := genService().Draw(t, "service")
			w.services[s.Name] = s
			c.UpsertService(s)
		},
		"service gone": func(t *rapid.T) {
			n := genName().Draw(t, "name")
			delete(w.services, n)
			c.DeleteService(n)
		},
		"slice": func(t *rapid.T) {
			s := genSlice().Draw(t, "slice")
			w.slices[sliceKey{s.Service, s.Name}] = s
			c.UpsertSlice(s)
		},
		"slice gone": func(t *rapid.T) {
			k := sliceKey{genName().Draw(t, "of"), rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "slice")}
			delete(w.slices, k)
			c.DeleteSlice(k.service, k.slice)
		},
		"flush": func(t *rapid.T) { flushAndCheck(t, c, tab, w) },
	})
	flushAndCheck(t, c, tab, w)
	return tab, w
}

func flushAndCheck(t *rapid.T, c *Compiler, tab *tables, w world) {
	if err := tab.transition(c.Flush()); err != nil {
		t.Fatal(err)
	}
	if leaks := tab.leaks(); leaks != nil {
		t.Fatal(leaks)
	}
	want := w.expect()
	if len(want) != len(tab.services) {
		t.Fatalf("%d frontends, want %d", len(tab.services), len(want))
	}
	for key, set := range want {
		if _, ok := tab.services[key]; !ok {
			t.Fatalf("%s has no row", key)
		}
		got, err := tab.reachable(key)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(set) {
			t.Fatalf("%s reaches %v, want %v", key, got, set)
		}
	}
	if fmt.Sprint(tab.checks) != fmt.Sprint(w.checks()) {
		t.Fatalf("load balancers are told %v, want %v", tab.checks, w.checks())
	}
	if len(c.Frontends()) != len(want) {
		t.Fatalf("snapshot has %d frontends, want %d", len(c.Frontends()), len(want))
	}
}

func TestIncrementalEqualsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCompiler(testSettings)
		tab, w := runRandomNews(t, c)

		fresh, scratch := NewCompiler(testSettings), newTables()
		w.feed(fresh)
		for _, op := range fresh.Flush() {
			scratch.apply(op)
		}
		if fmt.Sprint(tab) != fmt.Sprint(scratch) {
			t.Fatalf("incremental %v\nfrom scratch %v", tab, scratch)
		}
		if a, b := fmt.Sprint(c.Frontends()), fmt.Sprint(fresh.Frontends()); a != b {
			t.Fatalf("snapshots differ:\n%s\n%s", a, b)
		}
		if a, b := fmt.Sprint(c.Conflicts()), fmt.Sprint(fresh.Conflicts()); a != b {
			t.Fatalf("conflicts differ:\n%s\n%s", a, b)
		}
	})
}

// With every id colliding the numbers depend on history, but safety and outcome must not.
func TestCollisionsKeepEveryPrefixSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runRandomNews(t, collide(NewCompiler(testSettings))) })
}

func TestNothingIsHeldWhenEverythingIsGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCompiler(testSettings)
		tab, w := runRandomNews(t, c)
		for n := range w.services {
			c.DeleteService(n)
		}
		for k := range w.slices {
			c.DeleteSlice(k.service, k.slice)
		}
		if err := tab.transition(c.Flush()); err != nil {
			t.Fatal(err)
		}
		held := len(tab.services) + len(tab.slots) + len(tab.backends) +
			len(c.services) + len(c.claims) + len(c.contested) + len(c.dirty) + len(c.frontends) +
			len(c.checks) + len(c.unchecked) + len(tab.checks) + len(c.serviceIDs.byID) + len(c.serviceIDs.moved) + len(c.backends.byID) + len(c.backends.moved)
		if held != 0 {
			t.Fatalf("still held: tables %v, compiler %+v", tab, c)
		}
	})
}

// TestDial reads the documentation of the rows' addresses once more, from the client's side: what does a
// connection to an address of anybody reach, that comes from a socket or from the network?
func TestDial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab, w := runRandomNews(t, NewCompiler(testSettings))
		addrs := append([]string{"10.96.0.1", "10.96.0.2", "fd96::1", "fd96::3", "10.0.0.1"}, machines...)
		for _, text := range addrs {
			for _, scope := range []datapath.Scope{datapath.Internal, datapath.External} {
				for port := uint16(80); port <= 81; port++ {
					want, wantOK := w.dial(addr(text), port, scope)
					got, gotOK := tab.dial(addr(text), port, scope)
					if gotOK != wantOK || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("%s port %d %s reaches %v (%v), want %v (%v)", text, port, scope, got, gotOK, want, wantOK)
					}
				}
			}
		}
	})
}

// dial is a TCP connection as the services' descriptions have it; false if it is none to a service.
func (w world) dial(to netip.Addr, port uint16, scope datapath.Scope) (map[datapath.Backend]bool, bool) {
	own, machine := text(to) == machines[0] || text(to) == machines[1], false
	for _, m := range machines {
		machine = machine || text(to) == m
	}
	for _, everywhere := range []bool{false, true} {
		for _, hostPorts := range []bool{false, true} {
			for _, n := range inOrder {
				for _, f := range w.services[n].Frontends {
					a := f.Addr.Unmap()
					if f.Port != port || f.Proto != datapath.ProtoTCP || hostPorts != (f.Type == HostPort) ||
						everywhere != a.IsUnspecified() || a.Is4() != to.Is4() || scope == datapath.External && f.Type == ClusterIP {
						continue
					}
					switch {
					case !everywhere && a == to, everywhere && own:
						return w.serving(n, f, scope), true
					case everywhere && machine && scope == datapath.Internal:
						// Another node's: node ports are everywhere, host ports are not known here; a policy is that node's.
						if f.Type == HostPort || w.services[n].ExternalLocal {
							return nil, false
						}
						return w.serving(n, f, scope), true
					}
				}
			}
		}
	}
	return nil, false
}

func text(a netip.Addr) string { return a.String() }
