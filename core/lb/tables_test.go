package lb

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// tables are the datapath's three tables as a writer would hold them.
type tables struct {
	services map[datapath.ServiceKey]datapath.Service
	slots    map[datapath.SlotKey]uint32
	backends map[uint32]datapath.Backend
	checks   map[Name]HealthCheck
}

func newTables() *tables {
	return &tables{map[datapath.ServiceKey]datapath.Service{}, map[datapath.SlotKey]uint32{}, map[uint32]datapath.Backend{}, map[Name]HealthCheck{}}
}

func (t *tables) clone() *tables {
	return &tables{maps.Clone(t.services), maps.Clone(t.slots), maps.Clone(t.backends), maps.Clone(t.checks)}
}

// dial is what the datapath does with a TCP connection of a socket or from the network on node n1; false if no
// row says anything about it.
func (t *tables) dial(to netip.Addr, port uint16, scope datapath.Scope) (map[datapath.Backend]bool, bool) {
	key := datapath.ServiceKey{Addr: to, Port: port, Proto: datapath.ProtoTCP, Scope: scope}
	row, ok := t.services[key]
	if !ok {
		at := slices.Index(machines, to.String())
		if key.Addr = netip.IPv4Unspecified(); to.Is6() {
			key.Addr = netip.IPv6Unspecified()
		}
		row, ok = t.services[key]
		own, other := at == 0 || at == 1, at > 1 && scope == datapath.Internal && !row.Local
		if !ok || !own && !other {
			return nil, false
		}
	}
	set, err := t.reachable(key)
	return set, err == nil
}

func (t *tables) apply(op Op) {
	switch op := op.(type) {
	case PutService:
		t.services[op.Key] = op.Row
	case DeleteService:
		delete(t.services, op.Key)
	case PutSlot:
		t.slots[op.Key] = op.Backend
	case DeleteSlot:
		delete(t.slots, op.Key)
	case PutBackend:
		t.backends[op.ID] = op.Row
	case DeleteBackend:
		delete(t.backends, op.ID)
	case PutHealth:
		t.checks[op.Service] = op.Check
	case DeleteHealth:
		delete(t.checks, op.Service)
	default:
		panic(fmt.Sprintf("unknown operation %T", op))
	}
}

// reachable is what a connect to the frontend may choose from.
func (t *tables) reachable(key datapath.ServiceKey) (map[datapath.Backend]bool, error) {
	out := map[datapath.Backend]bool{}
	row, ok := t.services[key]
	if !ok {
		return out, nil
	}
	for i := uint32(1); i <= row.Count; i++ {
		id, ok := t.slots[datapath.SlotKey{Service: row.ID, Slot: i}]
		if !ok {
			return nil, fmt.Errorf("%s counts %d slots, slot %d is missing", key, row.Count, i)
		}
		b, ok := t.backends[id]
		if !ok {
			return nil, fmt.Errorf("%s slot %d names backend %d, which is missing", key, i, id)
		}
		out[b] = true
	}
	return out, nil
}

// leaks lists rows that nothing reaches.
func (t *tables) leaks() []string {
	counts := map[uint32]uint32{}
	for key, row := range t.services {
		if _, twice := counts[row.ID]; twice {
			return []string{fmt.Sprintf("service id %d given twice, once to %s", row.ID, key)}
		}
		counts[row.ID] = row.Count
	}
	var out []string
	used := map[uint32]bool{}
	for key, id := range t.slots {
		used[id] = true
		if key.Slot < 1 || key.Slot > counts[key.Service] {
			out = append(out, fmt.Sprintf("slot %d/%d is left over", key.Service, key.Slot))
		}
	}
	for id, b := range t.backends {
		if !used[id] {
			out = append(out, fmt.Sprintf("backend %d %v is left over", id, b))
		}
	}
	slices.Sort(out)
	return out
}

// transition applies the operations one by one and says what was unsafe on the way.
func (t *tables) transition(ops []Op) error {
	keys := map[datapath.ServiceKey]bool{}
	for k := range t.services {
		keys[k] = true
	}
	end := t.clone()
	for _, op := range ops {
		end.apply(op)
		if p, ok := op.(PutService); ok {
			keys[p.Key] = true
		}
	}
	type sets struct{ old, new map[datapath.Backend]bool }
	allowed := map[datapath.ServiceKey]sets{}
	for k := range keys {
		old, err := t.reachable(k)
		if err != nil {
			return fmt.Errorf("before: %w", err)
		}
		now, err := end.reachable(k)
		if err != nil {
			return fmt.Errorf("after: %w", err)
		}
		allowed[k] = sets{old, now}
	}
	for i, op := range ops {
		t.apply(op)
		for k, s := range allowed {
			set, err := t.reachable(k)
			if err != nil {
				return fmt.Errorf("after operation %d of %d (%s): %w", i+1, len(ops), op, err)
			}
			for b := range set {
				if !s.old[b] && !s.new[b] {
					return fmt.Errorf("after operation %d of %d (%s): %s reaches %v, which is neither old nor new", i+1, len(ops), op, k, b)
				}
			}
		}
	}
	return nil
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func texts(ops []Op) []string {
	var out []string
	for _, op := range ops {
		out = append(out, op.String())
	}
	return out
}
