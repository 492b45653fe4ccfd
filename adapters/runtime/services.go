package runtime

import (
	"errors"
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
	for phase := range 5 {
		x.runServicePhase(now, phase)
	}
	left := x.order[:0]
	for _, k := range x.order {
		if _, waits := x.services[k]; waits {
			left = append(left, k)
		}
	}
	x.order = left
}

func (x *executor) runServicePhase(now time.Time, phase int) {
	var blocked func(engine.Op) bool
	for _, k := range x.order {
		r, waits := x.services[k]
		if !waits || servicePhase(r.op) != phase || !r.stall.next.IsZero() && now.Before(r.stall.next) {
			continue
		}
		if blocked == nil {
			blocked = x.blockedInPhase(phase)
		}
		if blocked(r.op) {
			continue
		}
		if err := x.execute(r.op); err != nil {
			if r.stall.err == nil {
				x.log.Warn("service row not written", "err", err)
			}
			r.stall.fail(now, err)
			continue
		}
		delete(x.services, k)
	}
}

// blockedInPhase says which rows of a phase must wait for rows of earlier ones that failed.
func (x *executor) blockedInPhase(phase int) func(engine.Op) bool {
	switch phase {
	case 1: // a slot waits for its backend
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
	for k := range x.services {
		if k.table == table {
			return true
		}
	}
	return false
}

// namedBy collects what the kernel's rows name of those that wait to be changed. A row that can't be
// read might name anything.
func namedBy[K comparable, V any](x *executor, table engine.Table, t ports.Table[K, V], name func(V) uint32) (named map[uint32]bool, all bool) {
	named = map[uint32]bool{}
	for _, k := range x.order { // not the map: what is read when must not be left to chance
		if _, waits := x.services[k]; !waits || k.table != table {
			continue
		}
		switch row, err := t.Get(k.key.(K)); {
		case err == nil:
			named[name(row)] = true
		case !errors.Is(err, ports.ErrNotFound):
			return nil, true
		}
	}
	return named, false
}
