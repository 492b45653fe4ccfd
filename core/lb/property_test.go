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
		return Service{
			Name: genName().Draw(t, "service"),
			Frontends: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Frontend {
				return Frontend{
					Addr: genAddr("10.96.0.%d", "fd96::%d", 3).Draw(t, "frontend"), Port: uint16(rapid.IntRange(80, 81).Draw(t, "port")),
					Proto: genProto.Draw(t, "proto"), PortName: genPortName.Draw(t, "port name"),
				}
			}), 0, 3).Draw(t, "frontends"),
			Affinity: time.Duration(rapid.IntRange(0, 1).Draw(t, "affinity")) * time.Hour,
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
					Node:   rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"),
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

// expect says, straight from the documentation, what a connect to each frontend may reach.
func (w world) expect() map[datapath.ServiceKey]map[datapath.Backend]bool {
	out := map[datapath.ServiceKey]map[datapath.Backend]bool{}
	for _, n := range []Name{{"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "y"}} {
		for _, f := range w.services[n].Frontends {
			key := datapath.ServiceKey{Addr: f.Addr.Unmap(), Port: f.Port, Proto: f.Proto}
			if _, taken := out[key]; taken {
				continue
			}
			best := map[State]map[datapath.Backend]bool{Active: {}, Terminating: {}}
			for k, s := range w.slices {
				if k.service != n {
					continue
				}
				for _, b := range s.Backends {
					b.Addr = b.Addr.Unmap()
					if b.PortName == f.PortName && b.Proto == f.Proto && b.Addr.Is4() == key.Addr.Is4() && b.Weight > 0 {
						best[b.State][datapath.Backend{Addr: b.Addr, Port: b.Port, Proto: b.Proto}] = true
					}
				}
			}
			out[key] = best[Active]
			// One that is active with weight 0 somewhere is not terminating, whatever another slice says.
			if len(out[key]) == 0 {
				for k, s := range w.slices {
					for _, b := range s.Backends {
						if k.service == n && b.State == Active && b.PortName == f.PortName {
							delete(best[Terminating], datapath.Backend{Addr: b.Addr.Unmap(), Port: b.Port, Proto: b.Proto})
						}
					}
				}
				out[key] = best[Terminating]
			}
		}
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
	if len(c.Frontends()) != len(want) {
		t.Fatalf("snapshot has %d frontends, want %d", len(c.Frontends()), len(want))
	}
}

func TestIncrementalEqualsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCompiler()
		tab, w := runRandomNews(t, c)

		fresh, scratch := NewCompiler(), newTables()
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
	rapid.Check(t, func(t *rapid.T) { runRandomNews(t, collide(NewCompiler())) })
}

func TestNothingIsHeldWhenEverythingIsGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCompiler()
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
			len(c.serviceIDs.byID) + len(c.serviceIDs.moved) + len(c.backends.byID) + len(c.backends.moved)
		if held != 0 {
			t.Fatalf("still held: tables %v, compiler %+v", tab, c)
		}
	})
}
