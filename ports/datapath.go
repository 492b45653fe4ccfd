// Package ports holds the interfaces through which the pure core meets the world, one for each need,
// and the few errors that callers branch on. An adapter or a fake implements them; package porttest
// has the contract suite that each implementation passes.
package ports

import (
	"context"
	"errors"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// Errors that callers branch on. Implementations wrap them with the operation and the object.
var (
	ErrNotFound    = errors.New("not found")
	ErrFull        = errors.New("no space left in table")
	ErrUnsupported = errors.New("not supported here")
	ErrConflict    = errors.New("conflict")
	ErrClosed      = errors.New("closed")
)

// Translator is a Datapath whose services take packets from the network. Translations lists what becomes of such
// packets, expired rows included; it may be called at any time.
type Translator interface {
	Translations() ([]datapath.Translation, error)
}

// Row is a key with its value.
type Row[K comparable, V any] struct {
	Key   K
	Value V
}

// Table is one table of the kernel. It has one writer; Dump and Len may be called at any time.
type Table[K comparable, V any] interface {
	// Name as operators see it.
	Name() string
	// Capacity in rows.
	Capacity() int
	// Put inserts or overwrites. ErrFull if there is no room; the old value stays then.
	Put(K, V) error
	// Delete removes; a key that is absent is no error.
	Delete(K) error
	// Get returns ErrNotFound for a key that is absent.
	Get(K) (V, error)
	// Dump returns all rows, in no particular order.
	Dump() ([]Row[K, V], error)
}

// Batch is a Table that takes many rows in one go. PutAll does for each of them in turn what Put does and
// returns how many it wrote; the error is about the next. Readers may see any number of them meanwhile.
type Batch[K comparable, V any] interface {
	PutAll([]Row[K, V]) (int, error)
}

// RowCounter is a Table, FlowCounter a Datapath, that counts rows without a list of them. Both may be asked at
// any time; rows that come or go meanwhile may be counted or not.
type (
	RowCounter interface {
		CountRows() (int, error)
	}
	FlowCounter interface {
		CountFlows() (int, error)
	}
)

// Tables are all tables that the engine fills. For table kinds that are arrays in the kernel
// (EndpointPolicy, Classes) absent and zero are the same, and Dump leaves zero rows out.
type Tables struct {
	Endpoints      Table[netip.Addr, datapath.Endpoint]
	EndpointPolicy Table[datapath.EndpointID, datapath.EndpointPolicy]
	IPCache        Table[netip.Prefix, datapath.IPCache]
	Classes        Table[datapath.ClassKey, datapath.Class]
	Policy         Table[datapath.PolicyKey, datapath.PolicyRow]
	Nodes          Table[netip.Addr, datapath.Node]
	Services       Table[datapath.ServiceKey, datapath.Service]
	Slots          Table[datapath.SlotKey, uint32]
	Backends       Table[uint32, datapath.Backend]
}

// Datapath is a kernel (real or fake) that forwards packets by Tables.
type Datapath interface {
	// Tables gives access to the tables; the same value at every call.
	Tables() Tables

	// BumpAddr makes the recorded decisions of all flows with this remote address stale.
	BumpAddr(netip.Addr) error
	// BumpAll makes every recorded decision stale.
	BumpAll() error

	// AttachPod puts the pod programs on the host side of a pod's veth. Idempotent; the programs
	// stay when the agent goes. DetachPod undoes it; an interface that is gone is no error.
	AttachPod(ifindex uint32) error
	DetachPod(ifindex uint32) error
	// AttachedPods lists the interfaces that carry pod programs.
	AttachedPods() ([]uint32, error)

	// AttachNetwork makes the devices that carry the programs for packets from and to the network exactly these, beside
	// the one to other nodes. Idempotent; the programs stay when the agent goes. Devices that are gone are no error. Of
	// several errors none keeps the other devices from being served.
	AttachNetwork(ifindexes []uint32) error
	// AttachedNetwork lists these devices, but those that are gone.
	AttachedNetwork() ([]uint32, error)

	// Flows lists the flow table, expired rows included; CollectFlows removes those that are expired
	// and returns how many; it also removes expired translations. FlushFlows removes all flows.
	Flows() ([]datapath.Flow, error)
	CollectFlows() (int, error)
	FlushFlows() (int, error)

	// Events delivers events to the function until the context ends or the datapath is closed. One
	// caller at a time.
	Events(ctx context.Context, deliver func(datapath.Event)) error
	// Lost is the number of events that did not fit, since the datapath was made.
	Lost() (uint64, error)
	// Counters gives packets and bytes by reason and direction.
	Counters() ([]Counter, error)
}

// Counter counts packets. Reason 0 is "forwarded".
type Counter struct {
	Reason    datapath.Reason    `json:"reason"`
	Direction datapath.Direction `json:"direction"`
	Packets   uint64             `json:"packets"`
	Bytes     uint64             `json:"bytes"`
}
