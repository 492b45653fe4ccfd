package policy

import (
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// tables executes ops and judges as docs/datapath.md says, with a linear search for the longest match.
type tables struct {
	rows    map[datapath.PolicyKey]datapath.PolicyRow
	classes map[datapath.ClassKey]datapath.Class
	policy  map[datapath.EndpointID]datapath.PolicyID
	index   map[tableIndex][]datapath.PolicyKey // of rows
}

type tableIndex struct {
	policy datapath.PolicyID
	class  datapath.Class
	dir    datapath.Direction
}

func newTables() *tables {
	return &tables{
		rows: map[datapath.PolicyKey]datapath.PolicyRow{}, classes: map[datapath.ClassKey]datapath.Class{},
		policy: map[datapath.EndpointID]datapath.PolicyID{}, index: map[tableIndex][]datapath.PolicyKey{},
	}
}

// do executes one op and says what is wrong with it, if anything is.
func (t *tables) do(op Op) error {
	switch op := op.(type) {
	case PutRow:
		if _, ok := t.rows[op.Key]; ok {
			return fmt.Errorf("row %s is overwritten", op.Key)
		}
		if op.Key.Port<<op.Key.PortBits != 0 && op.Key.PortBits < 16 || op.Key.AnyProto && (op.Key.Proto != 0 || op.Key.PortBits != 0) {
			return fmt.Errorf("row %s has bits outside its prefix", op.Key)
		}
		t.rows[op.Key] = op.Row
		i := tableIndex{op.Key.Policy, op.Key.Class, op.Key.Direction}
		t.index[i] = append(t.index[i], op.Key)
	case DeleteRow:
		if _, ok := t.rows[op.Key]; !ok {
			return fmt.Errorf("row %s is deleted but absent", op.Key)
		}
		delete(t.rows, op.Key)
		i := tableIndex{op.Key.Policy, op.Key.Class, op.Key.Direction}
		t.index[i] = slices.DeleteFunc(slices.Clone(t.index[i]), func(k datapath.PolicyKey) bool { return k == op.Key })
		if len(t.index[i]) == 0 {
			delete(t.index, i)
		}
	case SetClass:
		if t.classes[op.Key] == op.Class {
			return fmt.Errorf("%v is set to class %d which it has", op.Key, op.Class)
		}
		if op.Class == 0 {
			delete(t.classes, op.Key)
		} else {
			t.classes[op.Key] = op.Class
		}
	case SetPolicy:
		if t.policy[op.Endpoint] == op.Policy {
			return fmt.Errorf("endpoint %d is set to policy %d which it has", op.Endpoint, op.Policy)
		}
		if op.Policy == 0 {
			delete(t.policy, op.Endpoint)
		} else {
			t.policy[op.Endpoint] = op.Policy
		}
	}
	return nil
}

// judged is a kernel's decision.
type judged struct {
	ready, found bool
	row          datapath.PolicyRow
}

func (t *tables) judge(ep datapath.EndpointID, dir datapath.Direction, peer identity.ID, proto uint8, port uint16) judged {
	p := t.policy[ep]
	if p == 0 {
		return judged{}
	}
	class := t.classes[datapath.ClassKey{Generation: p.Generation(), Identity: peer}]
	row, ok := t.longest(tableIndex{p, class, dir}, proto, port)
	if !ok && class != 0 {
		row, ok = t.longest(tableIndex{p, 0, dir}, proto, port)
	}
	return judged{true, ok, row}
}

func (t *tables) longest(i tableIndex, proto uint8, port uint16) (datapath.PolicyRow, bool) {
	best := -1
	var row datapath.PolicyRow
	for _, k := range t.index[i] {
		bits := 72
		if !k.AnyProto {
			bits = 80 + int(k.PortBits)
		}
		if k.Covers(proto, port) && bits > best {
			best, row = bits, t.rows[k]
		}
	}
	return row, best >= 0
}
