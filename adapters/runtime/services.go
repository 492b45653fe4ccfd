package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// servicePhase is a row's turn: what is named is written before what names it, and goes after it. The
// order in which the rows were wished for does not matter, as newer wishes have taken the place of older
// ones.
func servicePhase(op engine.Op) int {
	switch {
	case op.Table == engine.Backends && op.Row != nil:
		return 0
	case op.Table == engine.Slots && op.Row != nil:
		return 1
	case op.Table == engine.Services:
		return 2
	case op.Table == engine.Slots:
		return 3
	}
	return 4
}

// runServices writes the rows of services that are due.
func (x *executor) runServices(now time.Time) {
	if len(x.order) == 0 {
		return
	}
	var phases [5][]*serviceRow
	for _, r := range x.order {
		if r.due(now) {
			p := servicePhase(r.op)
			phases[p] = append(phases[p], r)
		}
	}
	for phase, rows := range phases {
		if len(rows) > 0 {
			x.runServicePhase(now, phase, rows)
		}
	}
	x.order = slices.DeleteFunc(x.order, func(r *serviceRow) bool { return r.done })
	if len(x.order) == 0 {
		// A start's worth of rows must not stay in memory.
		x.order, x.services = nil, map[rowKey]*serviceRow{}
	}
}

// runServicePhase writes the rows of one phase. Neighbours of one table are written together.
func (x *executor) runServicePhase(now time.Time, phase int, rows []*serviceRow) {
	blocked := x.blockedInPhase(phase)
	for i := 0; i < len(rows); {
		if blocked(rows[i].op) {
			i++
			continue
		}
		end := i + 1
		for end < len(rows) && rows[end].op.Table == rows[i].op.Table && !blocked(rows[end].op) {
			end++
		}
		x.writeServices(now, rows[i:end])
		i = end
	}
}

// writeServices writes rows of one table. Those that the kernel is known to hold already are not written.
func (x *executor) writeServices(now time.Time, rows []*serviceRow) {
	if x.adoption != nil && len(x.adoption.have) > 0 {
		left := make([]*serviceRow, 0, len(rows))
		for _, r := range rows {
			if x.adoption.holds(r.op) {
				x.drop(r)
			} else {
				left = append(left, r)
			}
		}
		rows = left
	}
	together := true // until the first failure
	for len(rows) > 0 {
		n, err := x.executeSome(rows, together)
		for _, r := range rows[:n] {
			x.drop(r)
		}
		if err != nil {
			r := rows[n]
			if r.stall == nil {
				x.log.Warn("service row not written", "err", err)
				r.stall = &stall{}
			}
			r.stall.fail(now, err)
			together = false
			n++
		}
		rows = rows[n:]
	}
}

// executeSome writes rows of one table, as many as the table takes at once or the first alone, and returns how
// many were written. The error is about the next.
func (x *executor) executeSome(rows []*serviceRow, together bool) (int, error) {
	if together && len(rows) > 1 {
		t := x.dp.Tables()
		switch rows[0].op.Table {
		case engine.Services:
			if n, ok, err := putAll(t.Services, rows); ok {
				return n, err
			}
		case engine.Slots:
			if n, ok, err := putAll(t.Slots, rows); ok {
				return n, err
			}
		case engine.Backends:
			if n, ok, err := putAll(t.Backends, rows); ok {
				return n, err
			}
		}
	}
	if err := x.execute(rows[0].op); err != nil {
		return 0, err
	}
	return 1, nil
}

// putAll writes the rows up to the first that is to be deleted, if the table can do that at once.
func putAll[K comparable, V any](t ports.Table[K, V], rows []*serviceRow) (n int, ok bool, err error) {
	many, can := t.(ports.Batch[K, V])
	if !can || rows[0].op.Row == nil {
		return 0, false, nil
	}
	batch := make([]ports.Row[K, V], 0, len(rows))
	for _, r := range rows {
		if r.op.Row == nil {
			break
		}
		batch = append(batch, ports.Row[K, V]{Key: r.op.Key.(K), Value: r.op.Row.(V)})
	}
	if n, err = many.PutAll(batch); err != nil {
		err = fmt.Errorf("%s: write %v: %w", t.Name(), batch[n].Key, err)
	}
	return n, true, err
}

// blockedInPhase says which rows of a phase must wait for rows of earlier ones that failed.
func (x *executor) blockedInPhase(phase int) func(engine.Op) bool {
	switch phase {
	case 1: // a slot waits for its backend
		if !x.hasWish(engine.Backends) {
			break
		}
		return func(op engine.Op) bool { return x.wishesPut(engine.Backends, op.Row) }
	case 2: // a service waits for its slots
		if !x.hasWish(engine.Slots) {
			break
		}
		return func(op engine.Op) bool {
			s, ok := op.Row.(datapath.Service)
			for slot := uint32(1); ok && slot <= s.Count; slot++ {
				if x.wishesPut(engine.Slots, datapath.SlotKey{Service: s.ID, Slot: slot}) {
					return true
				}
			}
			return false
		}
	case 3: // a slot stays as long as the kernel's service may count it
		named, all := namedBy(x, engine.Services, x.dp.Tables().Services, func(s datapath.Service) uint32 { return s.ID })
		return func(op engine.Op) bool { return all || named[op.Key.(datapath.SlotKey).Service] }
	case 4: // a backend stays as long as a slot in the kernel names it
		named, all := namedBy(x, engine.Slots, x.dp.Tables().Slots, func(id uint32) uint32 { return id })
		return func(op engine.Op) bool { return all || named[op.Key.(uint32)] }
	}
	return func(engine.Op) bool { return false }
}

// wishesPut says whether a row still waits to be written.
func (x *executor) wishesPut(table engine.Table, key any) bool {
	r, ok := x.services[rowKey{table, key}]
	return ok && r.op.Row != nil
}

func (x *executor) hasWish(table engine.Table) bool {
	return slices.ContainsFunc(x.order, func(r *serviceRow) bool { return !r.done && r.op.Table == table })
}

// namedBy collects what the kernel's rows name of those that wait to be changed. A row that can't be
// read might name anything.
func namedBy[K comparable, V any](x *executor, table engine.Table, t ports.Table[K, V], name func(V) uint32) (named map[uint32]bool, all bool) {
	named = map[uint32]bool{}
	for _, r := range x.order { // not the map: what is read when must not be left to chance
		if r.done || r.op.Table != table {
			continue
		}
		switch row, err := t.Get(r.op.Key.(K)); {
		case err == nil:
			named[name(row)] = true
		case !errors.Is(err, ports.ErrNotFound):
			return nil, true
		}
	}
	return named, false
}
