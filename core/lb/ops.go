package lb

import (
	"fmt"

	"github.com/weirnet/weir/core/datapath"
)

// Op is one write to the datapath's tables or, PutHealth and DeleteHealth, to the answers for load balancers. The set of types is closed: those below. A writer
// carries them out in the order given; every prefix of that order is a safe state.
type Op interface {
	fmt.Stringer
	lbOp()
}

// The operations.
type (
	// PutService inserts or overwrites a frontend's row.
	PutService struct {
		Key datapath.ServiceKey
		Row datapath.Service
	}
	// DeleteService removes a frontend's row.
	DeleteService struct{ Key datapath.ServiceKey }
	// PutSlot inserts or overwrites a slot.
	PutSlot struct {
		Key     datapath.SlotKey
		Backend uint32
	}
	// DeleteSlot removes a slot.
	DeleteSlot struct{ Key datapath.SlotKey }
	// PutBackend inserts a backend's row.
	PutBackend struct {
		ID  uint32
		Row datapath.Backend
	}
	// DeleteBackend removes a backend's row.
	DeleteBackend struct{ ID uint32 }
	// PutHealth says what to answer about a service.
	PutHealth struct {
		Service Name
		Check   HealthCheck
	}
	// DeleteHealth ends the answers about a service.
	DeleteHealth struct{ Service Name }
)

func (PutService) lbOp()    {}
func (DeleteService) lbOp() {}
func (PutSlot) lbOp()       {}
func (DeleteSlot) lbOp()    {}
func (PutBackend) lbOp()    {}
func (DeleteBackend) lbOp() {}
func (PutHealth) lbOp()     {}
func (DeleteHealth) lbOp()  {}

func (o PutService) String() string {
	s := fmt.Sprintf("put service %s: id %d, %d slots", o.Key, o.Row.ID, o.Row.Count)
	if o.Row.AffinityTimeout > 0 {
		s += fmt.Sprintf(", affinity %ds", o.Row.AffinityTimeout)
	}
	if o.Row.Local {
		s += ", this node only"
	}
	return s
}

func (o DeleteService) String() string { return "delete service " + o.Key.String() }

func (o PutSlot) String() string {
	return fmt.Sprintf("put slot %d/%d: backend %d", o.Key.Service, o.Key.Slot, o.Backend)
}

func (o DeleteSlot) String() string {
	return fmt.Sprintf("delete slot %d/%d", o.Key.Service, o.Key.Slot)
}

func (o PutBackend) String() string {
	return fmt.Sprintf("put backend %d: %s", o.ID, o.Row)
}

func (o DeleteBackend) String() string { return fmt.Sprintf("delete backend %d", o.ID) }

func (o PutHealth) String() string {
	return fmt.Sprintf("put health check of %s: port %d, %d local", o.Service, o.Check.Port, o.Check.Local)
}

func (o DeleteHealth) String() string { return "delete health check of " + o.Service.String() }
