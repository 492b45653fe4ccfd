package cluster

import (
	"fmt"
	"sort"

	"github.com/weirnet/weir/core/cluster"
)

// Op names a call that can be made to fail.
type Op string

// The calls.
const (
	OpWatch            Op = "watch"
	OpPublishNode      Op = "publish node"
	OpPublishEndpoint  Op = "publish endpoint"
	OpWithdrawEndpoint Op = "withdraw endpoint"
	OpAllocate         Op = "allocate identity"
	OpCollect          Op = "collect identities"
	OpSave             Op = "save attachment"
	OpDelete           Op = "delete attachment"
	OpLoad             Op = "load attachments"
)

// Fault makes calls fail.
type Fault struct {
	Op    Op
	Err   error
	Times int // how many calls; 0: until ClearFaults
	// Done: the call takes effect and fails all the same, as when an answer is lost.
	Done bool
}

// Fail adds a fault of this node. Faults of one call are used up in the order in which they were added.
func (n *Node) Fail(f Fault) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.faults = append(n.faults, f)
}

// ClearFaults removes every fault of Fail.
func (n *Node) ClearFaults() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.faults = nil
}

// Hold keeps events from this node from now on. They queue.
func (n *Node) Hold() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.held, n.released = true, 0
}

// Release lets that many events pass although held, now or when they come.
func (n *Node) Release(count int) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.released += count
	n.poke()
}

// Flow ends Hold.
func (n *Node) Flow() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.held = false
	n.poke()
}

// Pending is how many events are queued.
func (n *Node) Pending() int {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return len(n.queue)
}

// Double delivers every event that comes from now on twice, or ends that. Synced still comes once.
func (n *Node) Double(on bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.double = on
}

// Drop loses the next events of this node. What they would have said becomes known with Resync or a
// new Watch, as with a source that lists again after an outage.
func (n *Node) Drop(count int) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.drop += count
}

// Resync ends Drop and says everything again: first what is there, then the end of whatever this
// node believes in and is gone.
func (n *Node) Resync() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.drop = 0
	if !n.watching {
		return
	}
	now := n.c.assembler.Snapshot()
	there := map[cluster.Event]bool{}
	for _, e := range now {
		back, _ := undo(e)
		there[back] = true
	}
	var gone []cluster.Event
	for back := range n.told {
		if !there[back] {
			gone = append(gone, back)
		}
	}
	sort.Slice(gone, func(i, j int) bool {
		return fmt.Sprintf("%T%v", gone[i], gone[i]) < fmt.Sprintf("%T%v", gone[j], gone[j])
	})
	n.enqueue(now)
	n.enqueue(gone)
}

// fault uses up a fault of a call, if there is one that keeps it from taking effect. The caller holds
// the lock.
func (n *Node) fault(op Op) error {
	for i := range n.faults {
		if f := &n.faults[i]; f.Op == op && !f.Done {
			return n.use(i)
		}
	}
	return nil
}

// lost uses up a fault of a call that took effect.
func (n *Node) lost(op Op) error {
	for i := range n.faults {
		if f := &n.faults[i]; f.Op == op && f.Done {
			return n.use(i)
		}
	}
	return nil
}

func (n *Node) use(i int) error {
	f := n.faults[i]
	if f.Times > 0 {
		if n.faults[i].Times--; n.faults[i].Times == 0 {
			n.faults = append(n.faults[:i:i], n.faults[i+1:]...)
		}
	}
	return fmt.Errorf("%s: %w", f.Op, f.Err)
}

// do makes a call under the lock and the faults.
func (n *Node) do(op Op, object string, call func() error) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if err := n.fault(op); err != nil {
		return err
	}
	if err := call(); err != nil {
		return fmt.Errorf("%s %s: %w", op, object, err)
	}
	return n.lost(op)
}
