package runtime

import (
	"sync"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// Bounds of the queue between the reader of kernel events and the loop.
const (
	queueLength = 16384
	queuePause  = time.Millisecond
)

// eventQueue hands events of the kernel from their reader to the loop, many at a time: it says that there are
// some only a pause after the first has come. For each event on its own the processors would be woken more
// often than the event is worth.
type eventQueue struct {
	wake chan struct{} // has room for one

	mu    sync.Mutex
	list  []datapath.Event
	spare []datapath.Event // what take returned last, for its room
}

func newEventQueue() *eventQueue { return &eventQueue{wake: make(chan struct{}, 1)} }

// add says false if the queue is full.
func (q *eventQueue) add(ev datapath.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == queueLength {
		return false
	}
	q.list = append(q.list, ev)
	if len(q.list) == 1 {
		time.AfterFunc(queuePause, q.ring)
	}
	return true
}

func (q *eventQueue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns what is there, in order. It is good until the next call.
func (q *eventQueue) take() []datapath.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.list
	q.list, q.spare = q.spare[:0], out
	return out
}
