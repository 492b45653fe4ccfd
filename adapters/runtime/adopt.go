package runtime

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// adoption remembers what a predecessor left in the kernel until the new agent has written its own
// state beside it: rows that are already as wanted are not written again, and what nobody wants is
// pruned once, at the end.
type adoption struct {
	have map[rowKey]any
	want map[rowKey]bool
	// Classes of generations other than the agent's own are written for the policies of before, and go
	// with them.
	generation uint8
	passing    []engine.Op
}

// note records a wish.
func (a *adoption) note(op engine.Op) {
	k := rowKey{op.Table, op.Key}
	if op.Table > engine.Backends {
		return
	}
	if c, ok := op.Key.(datapath.ClassKey); ok && op.Row != nil && c.Generation != a.generation {
		a.passing = append(a.passing, op)
		return
	}
	if _, had := a.have[k]; !had && op.Table >= engine.Services {
		return // nothing that would have to be pruned
	}
	a.want[k] = op.Row != nil
}

// holds says whether the kernel has the row as wanted. Every other write makes it forget what it
// knew of the row.
func (a *adoption) holds(op engine.Op) bool {
	if op.Table > engine.Backends {
		return false
	}
	k := rowKey{op.Table, op.Key}
	have, ok := a.have[k]
	if ok && op.Row != nil && have == op.Row {
		return true
	}
	delete(a.have, k)
	return false
}

// leaves says whether the removal of a row is left to pruning: the predecessor's services and slots, of
// which nobody speaks any more, may still name its slots and backends.
func (a *adoption) leaves(op engine.Op) bool {
	_, ok := a.have[rowKey{op.Table, op.Key}]
	return ok && op.Row == nil && op.Table != engine.Services
}

// unwanted lists the rows of a table that nobody wants, always in the same order.
func (a *adoption) unwanted(table engine.Table) []rowKey {
	type named struct {
		key  rowKey
		name string
	}
	var out []named
	for k := range a.have {
		if k.table == table && !a.want[k] {
			out = append(out, named{k, fmt.Sprint(k.key)})
		}
	}
	slices.SortFunc(out, func(x, y named) int { return strings.Compare(x.name, y.name) })
	keys := make([]rowKey, len(out))
	for i, n := range out {
		keys[i] = n.key
	}
	return keys
}

// adopt reads the kernel. It is called once, before the engine's first operation.
func (x *executor) adopt() (engine.Adopted, error) {
	x.adoption = &adoption{have: map[rowKey]any{}, want: map[rowKey]bool{}}
	a, err := x.read(x.adoption)
	if err != nil {
		return a, fmt.Errorf("adopt kernel state: %w", err)
	}
	return a, nil
}

// readAdopted reads what a new plan starts from.
func (x *executor) readAdopted() (engine.Adopted, error) { return x.read(nil) }

// read reads the tables once, for the engine, and all of them into the adoption if there is one.
func (x *executor) read(into *adoption) (engine.Adopted, error) {
	a := engine.Adopted{
		EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{},
		IPCache:        map[netip.Prefix]datapath.IPCache{},
		Classes:        map[datapath.ClassKey]datapath.Class{},
		Services:       map[datapath.ServiceKey]datapath.Service{},
		Backends:       map[uint32]datapath.Backend{},
	}
	serial := func(p datapath.PolicyID) { a.MaxSerial = max(a.MaxSerial, uint32(p)&datapath.MaxPolicySerial) }
	t := x.dp.Tables()
	err := errors.Join(
		collect(into, engine.Services, t.Services, a.Services, nil),
		collect(into, engine.Backends, t.Backends, a.Backends, nil),
		collect(into, engine.EndpointPolicy, t.EndpointPolicy, a.EndpointPolicy, nil),
		collect(into, engine.IPCache, t.IPCache, a.IPCache, nil),
		collect(into, engine.Classes, t.Classes, a.Classes, nil),
		collect(into, engine.Policy, t.Policy, nil, func(k datapath.PolicyKey) { serial(k.Policy) }),
	)
	for _, w := range a.EndpointPolicy {
		serial(w.Policy)
	}
	if into != nil {
		err = errors.Join(err,
			collect(into, engine.Endpoints, t.Endpoints, nil, nil),
			collect(into, engine.Nodes, t.Nodes, nil, nil),
			collect(into, engine.Slots, t.Slots, nil, nil),
		)
	}
	return a, err
}

// collect reads a table into the adoption and the map, where they are not nil, and shows each key.
func collect[K comparable, V any](a *adoption, table engine.Table, t ports.Table[K, V], into map[K]V, each func(K)) error {
	rows, err := t.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.Name(), err)
	}
	for _, r := range rows {
		if a != nil {
			a.have[rowKey{table, r.Key}] = r.Value
		}
		if into != nil {
			into[r.Key] = r.Value
		}
		if each != nil {
			each(r.Key)
		}
	}
	return nil
}

// prune removes what the predecessor left and nobody wants, users before what they use. It is
// called when the engine is live and every operation was executed.
func (x *executor) prune() error {
	if x.adoption == nil {
		return nil
	}
	for _, op := range x.adoption.passing {
		x.adoption.have[rowKey{op.Table, op.Key}] = op.Row
	}
	x.adoption.passing = nil
	pruned := 0
	for _, table := range []engine.Table{engine.Endpoints, engine.EndpointPolicy, engine.Services, engine.Slots,
		engine.Backends, engine.Nodes, engine.IPCache, engine.Policy, engine.Classes} {
		for _, k := range x.adoption.unwanted(table) {
			row := x.adoption.have[k]
			if err := x.execute(engine.Op{Table: k.table, Key: k.key}); err != nil {
				x.adoption.have[k] = row // executing made it forgotten; it is still there
				return fmt.Errorf("prune: %w", err)
			}
			pruned++
		}
	}
	x.adoption = nil
	x.log.Info("adopted the datapath", "pruned", pruned)
	return nil
}
