package sim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

// Kind is what an event does.
type Kind uint8

// The kinds of events.
const (
	CreatePod Kind = iota
	DeletePod
	ForceDeletePod
	RelabelPod
	RelabelNamespace
	DeleteNamespace
	PutPolicy
	DeletePolicy
	PutService
	DeleteService
	PutSlice
	DeleteSlice
	JoinNode
	LeaveNode
	RebootNode
	CollectGarbage

	Kubelet
	Deliver
	Settle
	CarryOut
	Housekeep
	SyncNode
	Tick
	Quiesce

	Probe
	OpenConn
	UseConn

	CrashAgent
	DoomAgent
	StartAgent
	FailWrites
	FailReads
	FillTable
	FailNetwork
	FailAttachments
	FailCluster
	Repair
	LoseEvents
	CutWatch
	RestoreWatch
	DoubleEvents
	MergeEvents
	StaleWatch
	JumpClock
	SkewClock
	FailEverything
	Inspect
	ChangeDevices

	kindCount
)

var kindNames = [kindCount]string{
	"create-pod", "delete-pod", "force-delete-pod", "relabel-pod", "relabel-namespace", "delete-namespace",
	"put-policy", "delete-policy", "put-service", "delete-service", "put-slice", "delete-slice",
	"join-node", "leave-node", "reboot-node", "collect-garbage",
	"kubelet", "deliver", "settle", "carry-out", "housekeep", "sync-node", "tick", "quiesce",
	"probe", "open-conn", "use-conn",
	"crash-agent", "doom-agent", "start-agent", "fail-writes", "fail-reads", "fill-table", "fail-network",
	"fail-attachments", "fail-cluster", "repair", "lose-events", "cut-watch", "restore-watch", "double-events",
	"merge-events", "stale-watch", "jump-clock", "skew-clock", "fail-everything", "inspect", "change-devices",
}

func (k Kind) String() string { return kindNames[k] }

// Event is one step of a run. R decides what Kind leaves open.
type Event struct {
	Kind Kind
	R    uint64
}

func (e Event) String() string { return fmt.Sprintf("%s %x", e.Kind, e.R) }

// weights say how often a kind occurs. Those of faults and of the rarer changes differ from run to run:
// each run has a few of them, and those often.
var weights = [kindCount]int{
	CreatePod: 14, DeletePod: 5, ForceDeletePod: 2, RelabelPod: 6, RelabelNamespace: 3, DeleteNamespace: 1,
	PutPolicy: 16, DeletePolicy: 6, PutService: 4, DeleteService: 1, PutSlice: 7, DeleteSlice: 1,
	JoinNode: 1, LeaveNode: 1, RebootNode: 1, CollectGarbage: 3,
	Kubelet: 50, Deliver: 45, Settle: 30, CarryOut: 20, Housekeep: 10, SyncNode: 16, Tick: 12, Quiesce: 1,
	Probe: 60, OpenConn: 16, UseConn: 40,
	CrashAgent: 2, DoomAgent: 4, StartAgent: 5, FailWrites: 3, FailReads: 2, FillTable: 2, FailNetwork: 2,
	FailAttachments: 2, FailCluster: 3, Repair: 6, LoseEvents: 2, CutWatch: 2, RestoreWatch: 3, DoubleEvents: 2,
	MergeEvents: 2, StaleWatch: 2, JumpClock: 6, SkewClock: 1, FailEverything: 2, Inspect: 2,
}

// optional kinds are left out of half of the runs.
var optional = []Kind{
	ForceDeletePod, RelabelPod, RelabelNamespace, DeleteNamespace, PutService, JoinNode, LeaveNode, RebootNode,
	CollectGarbage, CrashAgent, DoomAgent, FailWrites, FailReads, FillTable, FailNetwork, FailAttachments,
	FailCluster, LoseEvents, CutWatch, DoubleEvents, MergeEvents, StaleWatch, JumpClock, SkewClock, FailEverything,
}

// Plan draws the events of a seed.
func Plan(seed uint64, steps int) []Event {
	rng := rand.New(rand.NewPCG(seed, 0x706c616e))
	w := weights
	for _, k := range optional {
		switch rng.IntN(4) {
		case 0, 1:
			w[k] = 0
		case 2:
			w[k] *= 3
		}
	}
	total := 0
	for _, n := range w {
		total += n
	}
	out := make([]Event, steps)
	for i := range out {
		at := rng.IntN(total)
		k := Kind(0)
		for ; at >= w[k]; k++ {
			at -= w[k]
		}
		out[i] = Event{k, rng.Uint64()}
	}
	changeDevices(seed, out)
	return out
}

// changeDevices puts changes of devices in the place of some events, in one of two runs. They are drawn apart, so that the
// other events of a seed are what they were before there were any.
func changeDevices(seed uint64, plan []Event) {
	rng := rand.New(rand.NewPCG(seed, 0x646576696365))
	if rng.IntN(2) == 0 {
		return
	}
	for i := range plan {
		if rng.IntN(50) == 0 {
			plan[i] = Event{ChangeDevices, rng.Uint64()}
		}
	}
}

// pick chooses one of a list by the names of its members: a member more or less seldom changes the
// choice, so that a shortened list of events still does nearly the same.
func pick[T any](r uint64, list []T, name func(T) string) (T, bool) {
	var none T
	if len(list) == 0 {
		return none, false
	}
	return slices.MinFunc(list, func(a, b T) int { return cmp.Compare(mix(r, name(a)), mix(r, name(b))) }), true
}

func mix(r uint64, s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	x := h.Sum64() ^ r
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
