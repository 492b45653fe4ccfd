package runtime

import (
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
	t := x.dp.Tables()
	read := []func() error{
		func() error { return remember(x.adoption, engine.Endpoints, t.Endpoints) },
		func() error { return remember(x.adoption, engine.EndpointPolicy, t.EndpointPolicy) },
		func() error { return remember(x.adoption, engine.IPCache, t.IPCache) },
		func() error { return remember(x.adoption, engine.Classes, t.Classes) },
		func() error { return remember(x.adoption, engine.Policy, t.Policy) },
		func() error { return remember(x.adoption, engine.Nodes, t.Nodes) },
		func() error { return remember(x.adoption, engine.Services, t.Services) },
		func() error { return remember(x.adoption, engine.Slots, t.Slots) },
		func() error { return remember(x.adoption, engine.Backends, t.Backends) },
	}
	for _, f := range read {
		if err := f(); err != nil {
			return engine.Adopted{}, fmt.Errorf("adopt kernel state: %w", err)
		}
	}
	return x.readAdopted()
}

func remember[K comparable, V any](a *adoption, table engine.Table, t ports.Table[K, V]) error {
	rows, err := t.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.Name(), err)
	}
	for _, r := range rows {
		a.have[rowKey{table, r.Key}] = r.Value
	}
	return nil
}

func (x *executor) readAdopted() (engine.Adopted, error) {
	a := engine.Adopted{
		EndpointPolicy: map[datapath.EndpointID]datapath.EndpointPolicy{},
		IPCache:        map[netip.Prefix]datapath.IPCache{},
		Classes:        map[datapath.ClassKey]datapath.Class{},
		Services:       map[datapath.ServiceKey]datapath.Service{},
		Backends:       map[uint32]datapath.Backend{},
	}
	t := x.dp.Tables()
	if err := collect(t.Services, a.Services); err != nil {
		return a, err
	}
	if err := collect(t.Backends, a.Backends); err != nil {
		return a, err
	}
	if err := collect(t.EndpointPolicy, a.EndpointPolicy); err != nil {
		return a, err
	}
	if err := collect(t.IPCache, a.IPCache); err != nil {
		return a, err
	}
	if err := collect(t.Classes, a.Classes); err != nil {
		return a, err
	}
	serial := func(p datapath.PolicyID) { a.MaxSerial = max(a.MaxSerial, uint32(p)&datapath.MaxPolicySerial) }
	for _, w := range a.EndpointPolicy {
		serial(w.Policy)
	}
	rows, err := t.Policy.Dump()
	if err != nil {
		return a, fmt.Errorf("%s: dump: %w", t.Policy.Name(), err)
	}
	for _, r := range rows {
		serial(r.Key.Policy)
	}
	return a, nil
}

func collect[K comparable, V any](t ports.Table[K, V], into map[K]V) error {
	rows, err := t.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.Name(), err)
	}
	for _, r := range rows {
		into[r.Key] = r.Value
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
