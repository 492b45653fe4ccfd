package sim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/network"
)

// Sim is one run.
type Sim struct {
	seed   uint64
	out    io.Writer // nil, or where the trace goes
	digest hash.Hash
	buf    []byte

	routing    engine.Routing
	clock      *clock.Clock
	fabric     *kernel.Fabric
	api        *api
	nodes      []*node
	containers []*container
	former     []*container // that are gone
	conns      []*conn
	serial     int
	step       int

	inAgent   bool // what is called now is called by an agent
	inKubelet bool
	twice     bool // the kubelet makes its calls of the agent twice

	policyCache   []policy.Policy
	policyCacheAt int
	changes       int

	failure *Failure
	counts  counts
}

// counts say how much was really checked.
type counts struct {
	hooks, drops, causes, mustPass, quiets, pairs, rows, connects int
}

// Failure is a broken invariant.
type Failure struct {
	Seed      uint64
	Step      int
	Invariant string
	Text      string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d step %d: %s: %s", f.Seed, f.Step, f.Invariant, f.Text)
}

func newSim(seed uint64, out io.Writer) *Sim {
	s := &Sim{seed: seed, out: out, digest: sha256.New(), clock: clock.New(time.Time{}), fabric: kernel.NewFabric()}
	s.api = newAPI(s)
	rng := rand.New(rand.NewPCG(seed, 0x6e6f646573))
	if rng.IntN(2) == 0 { // identities are nearly used up: numbers come up again soon
		s.api.book = manifest.IdentityBook{Highest: identity.MaxCluster, Quarantine: map[identity.ID]time.Time{}}
		for id := identity.MinCluster + 60; id <= identity.MaxCluster; id++ {
			s.api.book.Quarantine[id] = s.clock.Now().Add(10000 * time.Hour)
		}
	}
	if rand.New(rand.NewPCG(seed, 0x726f757465)).IntN(3) == 0 {
		s.routing = engine.Direct
	}
	for _, m := range machines {
		s.fabric.AddMachine(m.name, m.addrs...)
		s.fabric.Listen(m.name, 6, 80)
		s.fabric.Listen(m.name, 17, 53)
	}
	for _, ns := range namespaceNames {
		s.putNamespace(rng, ns)
	}
	size := 3 + rng.IntN(3)
	if rng.IntN(20) == 0 {
		size = 8 + rng.IntN(13)
	}
	for range size {
		s.joinNode()
	}
	return s
}

// direct is the device on which the nodes are neighbours, if they use that.
func (s *Sim) direct() uint32 {
	if s.routing == engine.Direct {
		return network.DirectIfindex
	}
	return 0
}

// trace writes one line of what happens; the lines are what makes a run the same as another.
func (s *Sim) trace(format string, args ...any) {
	s.buf = fmt.Appendf(s.buf[:0], format, args...)
	s.buf = append(s.buf, '\n')
	_, _ = s.digest.Write(s.buf)
	if s.out != nil {
		_, _ = s.out.Write(s.buf)
	}
}

// failf notes the first broken invariant.
func (s *Sim) failf(invariant, format string, args ...any) {
	if s.failure == nil {
		s.failure = &Failure{s.seed, s.step, invariant, fmt.Sprintf(format, args...)}
		s.trace("FAILED %s", s.failure.Error())
	}
}

func (s *Sim) node(name string) *node {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Result of a run.
type Result struct {
	Digest  string
	Failure *Failure
	Counts  counts
}

// Run makes a run of a list of events; the trace goes to out unless it is nil.
func Run(seed uint64, events []Event, out io.Writer) Result { return run(seed, events, out, nil) }

// run lets look, if there is one, see each event after it was performed.
func run(seed uint64, events []Event, out io.Writer, look func(*Sim, Event)) Result {
	s := newSim(seed, out)
	for i, e := range events {
		s.step = i
		s.trace("step %d %s", i, e)
		s.clock.Advance(5 * time.Millisecond)
		s.perform(e)
		if look != nil {
			look(s, e)
		}
		if s.failure != nil {
			break
		}
	}
	if s.failure == nil {
		s.step = len(events)
		s.quiesce()
	}
	if s.failure == nil {
		s.empty()
	}
	return Result{hex.EncodeToString(s.digest.Sum(nil)), s.failure, s.counts}
}

func (s *Sim) pickNode(r uint64) *node {
	n, _ := pick(r, s.nodes, func(n *node) string { return n.name })
	return n
}

func (s *Sim) perform(e Event) {
	rng := rand.New(rand.NewPCG(e.R, s.seed))
	r := rng.Uint64()
	switch e.Kind {
	case CreatePod:
		s.createPod(rng)
	case DeletePod, ForceDeletePod:
		s.deletePod(r, e.Kind == ForceDeletePod)
	case RelabelPod:
		s.relabelPod(rng)
	case RelabelNamespace:
		s.putNamespace(rng, one(rng, namespaceNames...))
	case DeleteNamespace:
		s.deleteNamespace(rng)
	case PutPolicy:
		s.putPolicy(rng)
	case DeletePolicy:
		s.deletePolicy(r)
	case PutService:
		s.putService(rng)
	case DeleteService:
		s.deleteService(r)
	case PutSlice:
		s.putSlice(rng)
	case DeleteSlice:
		s.deleteSlice(r)
	case JoinNode:
		s.joinNode()
	case LeaveNode:
		s.leaveNode(r)
	case RebootNode:
		s.rebootNode(r)
	case CollectGarbage:
		s.collectGarbage()
	case Kubelet:
		s.kubelet(r)
	case Tick:
		s.clock.Advance(time.Duration(10+rng.IntN(3000)) * time.Millisecond)
	case JumpClock:
		// Long enough for flow entries to expire, sometimes for identities to be collected and given out again.
		s.clock.Advance(time.Duration(rng.IntN(one(rng, 240, 240, 2400, 30000))) * time.Second)
	case SkewClock:
		if n := s.pickNode(r); n != nil {
			n.skew = time.Duration(rng.IntN(7200)-3600) * time.Second
		}
	case Quiesce:
		s.quiesce()
	case Probe:
		s.probe(rng)
	case OpenConn:
		s.openConn(rng)
	case UseConn:
		s.useConn(rng)
	default:
		s.performAt(e.Kind, s.pickNode(r), rng)
	}
}

// restart starts an agent that hears of the cluster bit by bit, and writes, while its pods talk.
func (s *Sim) restart(n *node, rng *rand.Rand) {
	if rng.IntN(2) == 0 { // something happened while it was away
		s.relabelOne(rng, func(p cluster.Pod) bool { return p.Node == n.name })
	}
	n.start()
	for range rng.IntN(12) {
		n.deliver(rng, 1+rng.IntN(1+len(n.watch.queue)))
		n.do(func(a *runtime.Stepper) { a.Settle() })
		if rng.IntN(3) == 0 {
			n.do(func(a *runtime.Stepper) { a.CarryOut(context.Background()) })
		}
		s.talkAt(n, rng)
	}
}

// performAt does what concerns one node.
func (s *Sim) performAt(k Kind, n *node, rng *rand.Rand) {
	switch k {
	case Deliver:
		n.hearOfDevices()
		n.deliver(rng, 1+rng.IntN(6))
	case Settle:
		n.do(func(a *runtime.Stepper) { a.Settle() })
	case CarryOut:
		n.do(func(a *runtime.Stepper) { a.CarryOut(context.Background()) })
	case Housekeep:
		n.do(func(a *runtime.Stepper) { a.Housekeep() })
	case SyncNode:
		n.sync(rng)
	case CrashAgent:
		n.kill()
		if rng.IntN(2) == 0 {
			s.restart(n, rng)
		}
	case DoomAgent:
		n.doom = rng.IntN(12)
	case StartAgent:
		if n.agent == nil {
			s.restart(n, rng)
		}
	case Repair:
		n.fault, n.doom = faults{}, -1
	case LoseEvents:
		n.watch.lose += 1 + rng.IntN(3)
	case CutWatch:
		n.watch.cut()
	case RestoreWatch:
		if !n.watch.connected || n.watch.gap {
			n.watch.resync(false)
		}
	case DoubleEvents:
		n.watch.double = !n.watch.double
	case MergeEvents:
		n.watch.merge = !n.watch.merge
	case StaleWatch:
		n.watch.resync(true)
	case Inspect:
		n.inspect()
	case ChangeDevices:
		n.changeDevices(rng)

	default:
		s.hurt(k, n, rng)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func sortedNames[V any](m map[cluster.Name]V) []cluster.Name {
	return slices.SortedFunc(maps.Keys(m), func(a, b cluster.Name) int { return strings.Compare(a.String(), b.String()) })
}

func identityID(vni uint32) identity.ID { return identity.ID(vni) }
