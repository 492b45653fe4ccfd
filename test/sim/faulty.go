package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

// faults are what goes wrong at a node.
type faults struct {
	rng                     *rand.Rand
	writes, reads           float64 // chance that a write to, or read from, the kernel fails
	network, store, cluster float64
	late                    float64 // chance that a call that failed has had its effect nevertheless
	full                    string
	room                    int // puts of new rows that still fit
	rows                    map[any]bool
	err                     error
}

var errnos = []error{syscall.EBUSY, syscall.ENOMEM, syscall.EINVAL}

// errKilled is what a killed agent gets from whatever it still calls: nothing has an effect any more.
var errKilled = errors.New("the agent was killed")

// hurt draws whether a call fails.
func (n *node) hurt(p float64) error {
	if p > 0 && n.fault.rng != nil && n.fault.rng.Float64() < p {
		return n.fault.err
	}
	return nil
}

// isLate draws whether a call that failed has had its effect: the answer got lost, or the last part of it
// failed.
func (n *node) isLate(err error) bool {
	return !errors.Is(err, errKilled) && n.fault.rng != nil && n.fault.rng.Float64() < n.fault.late
}

// call is asked before each call that the agent makes.
func (n *node) call(op, object string, chance float64, writes bool) error {
	if !n.s.inAgent && !n.s.inKubelet {
		return nil
	}
	n.s.trace("%s: %s %s", n.name, op, object)
	if n.s.inKubelet {
		return n.hurt(chance)
	}
	if n.dead {
		return errKilled
	}
	if writes && n.doom >= 0 {
		if n.doom == 0 {
			n.s.trace("%s: killed here", n.name)
			n.dead = true
			return errKilled
		}
		n.doom--
	}
	return n.hurt(chance)
}

// change makes a call that changes something outside the kernel's tables.
func (n *node) change(op, object string, chance float64, do func() error) error {
	err := n.call(op, object, chance, true)
	if err == nil || n.isLate(err) {
		if e := do(); e != nil {
			return e
		}
	}
	return err
}

// kernelCall is asked before each operation on the kernel.
func (n *node) kernelCall(op, table string, key any) error {
	if !n.s.inAgent || op == "insert" || op == "attach" || op == "detach" {
		return nil
	}
	writes := op == "put" || op == "delete" || op == "bump"
	chance := n.fault.reads
	if writes {
		chance = n.fault.writes
	}
	if err := n.call("kernel "+op+" "+table, fmt.Sprint(key), chance, writes); err != nil {
		return err
	}
	if n.fault.full != table {
		return nil
	}
	switch {
	case op == "delete":
		if n.fault.rows[key] {
			n.fault.room++
		}
		delete(n.fault.rows, key)
	case op == "put" && !n.fault.rows[key]:
		if n.fault.room <= 0 {
			return ports.ErrFull
		}
		n.fault.room--
		n.fault.rows[key] = true
	}
	return nil
}

// clusterFault draws what becomes of a write to the cluster: it may be done, and the answer lost.
func (n *node) clusterFault(op string) (done bool, err error) {
	if n.hurt(n.fault.cluster) == nil {
		return true, nil
	}
	switch n.fault.rng.IntN(4) {
	case 0:
		return false, fmt.Errorf("%s: %w", op, ports.ErrConflict)
	case 1, 2:
		return true, fmt.Errorf("%s: %w", op, errAway)
	}
	return false, fmt.Errorf("%s: %w", op, errAway)
}

// tables that may be full. Those with a row for every number that there is can't be.
var tables = []string{"policy", "ipcache", "endpoints", "services", "slots", "backends", "nodes"}

// rows lists the keys of a table.
func (n *node) rows(table string) map[any]bool {
	out := map[any]bool{}
	t := n.kernel.Tables()
	switch table {
	case "policy":
		addKeys(out, must(t.Policy.Dump()))
	case "ipcache":
		addKeys(out, must(t.IPCache.Dump()))
	case "endpoints":
		addKeys(out, must(t.Endpoints.Dump()))
	case "services":
		addKeys(out, must(t.Services.Dump()))
	case "slots":
		addKeys(out, must(t.Slots.Dump()))
	case "backends":
		addKeys(out, must(t.Backends.Dump()))
	case "nodes":
		addKeys(out, must(t.Nodes.Dump()))
	}
	return out
}

// programs is the kernel as the agent has it: attaching is several steps, and may fail after the first.
type programs struct {
	*kernel.Kernel
	n *node
}

func (p programs) AttachPod(ifindex uint32) error {
	return p.n.change("kernel attach pods", fmt.Sprint(ifindex), p.n.fault.writes, func() error { return p.Kernel.AttachPod(ifindex) })
}

func (p programs) DetachPod(ifindex uint32) error {
	return p.n.change("kernel detach pods", fmt.Sprint(ifindex), p.n.fault.writes, func() error { return p.Kernel.DetachPod(ifindex) })
}

// links is the network as agent and plugin have it.
type links struct {
	*network.Network
	n *node
}

func (n *node) links() links { return links{n.network, n} }

func (l links) change(op, object string, do func() error) error {
	return l.n.change("network "+op, object, l.n.fault.network, do)
}

func (l links) EnsureOverlay(o ports.Overlay) (out ports.OverlayLinks, err error) {
	err = l.change("EnsureOverlay", "", func() (err error) {
		out, err = l.Network.EnsureOverlay(o)
		return err
	})
	return out, err
}

func (l links) SyncNodeRoutes(routes []ports.NodeRoute) error {
	return l.change("SyncNodeRoutes", fmt.Sprint(len(routes)), func() error { return l.Network.SyncNodeRoutes(routes) })
}

func (l links) CreatePodLink(p ports.PodLink) (out ports.PodLinkState, err error) {
	err = l.change("CreatePodLink", p.HostName, func() (err error) {
		out, err = l.Network.CreatePodLink(p)
		return err
	})
	return out, err
}

func (l links) ActivatePodLink(p ports.PodLink) error {
	return l.change("ActivatePodLink", p.HostName, func() error { return l.Network.ActivatePodLink(p) })
}

func (l links) DeletePodLink(host string) error {
	return l.change("DeletePodLink", host, func() error { return l.Network.DeletePodLink(host) })
}

func (l links) PodLinks() ([]string, error) {
	if err := l.n.call("network PodLinks", "", l.n.fault.network, false); err != nil {
		return nil, err
	}
	return l.Network.PodLinks()
}

// wallClock is the clock of one life of an agent: it may differ from other machines' and from that of the
// life before. Within a life it goes as fast as all others; the kernel has its own.
type wallClock struct {
	*clock.Clock
	skew time.Duration
}

func (w wallClock) Now() time.Time { return w.Clock.Now().Add(w.skew) }

// source is the cluster as far as it is asked and does not tell: nothing that was wrong with manifests.
type source struct{ ports.Source }

func (source) Findings() []cluster.Finding { return nil }

// store is the memory of a node's endpoints.
type store struct {
	n     *node
	saved []ports.Attachment
}

func (s *store) find(container, ifname string) int {
	return slices.IndexFunc(s.saved, func(a ports.Attachment) bool { return a.ContainerID == container && a.Interface == ifname })
}

func (s *store) Save(a ports.Attachment) error {
	return s.n.change("save", a.ContainerID, s.n.fault.store, func() error {
		a.IPs = slices.Clone(a.IPs)
		if i := s.find(a.ContainerID, a.Interface); i >= 0 {
			s.saved[i] = a
		} else {
			s.saved = append(s.saved, a)
		}
		return nil
	})
}

func (s *store) Delete(container, ifname string) error {
	return s.n.change("delete", container, s.n.fault.store, func() error {
		if i := s.find(container, ifname); i >= 0 {
			s.saved = slices.Delete(s.saved, i, i+1)
		}
		return nil
	})
}

func (s *store) Load() ([]ports.Attachment, error) {
	if err := s.n.call("load", "", s.n.fault.store, false); err != nil {
		return nil, err
	}
	return slices.Clone(s.saved), nil
}

// hurt lets calls of a node's agent fail from now on.
func (s *Sim) hurt(k Kind, n *node, rng *rand.Rand) {
	f := &n.fault
	f.rng = rand.New(rand.NewPCG(rng.Uint64(), 1))
	f.err = one(rng, errnos...)
	f.late = one(rng, 0, 0.3, 0.8)
	p := one(rng, 0.1, 0.4, 1)
	switch k {
	case FailWrites:
		f.writes = p
	case FailReads:
		f.reads = p
	case FailNetwork:
		f.network = p
	case FailAttachments:
		f.store = p
	case FailCluster:
		f.cluster = p
	case FailEverything:
		p = one(rng, 0.05, 0.2)
		f.writes, f.reads, f.network, f.store, f.cluster = p, p, p, p, p
	case FillTable:
		f.full = one(rng, tables...)
		f.room, f.rows = one(rng, 0, 1, 2, 3, 8, 20), n.rows(f.full)
	}
}

// inspect asks an agent what its users ask, in whatever state it is.
func (n *node) inspect() {
	n.do(func(a *runtime.Stepper) {
		st, err := a.Status()
		n.s.trace("%s: healthy %v, problems %q, addresses %v, %v", n.name, st.Healthy, st.Problems, st.Allocated, err)
		for _, e := range a.Endpoints() {
			n.s.trace("%s: endpoint %+v", n.name, e)
		}
	})
}

var (
	_ ports.Network     = links{}
	_ ports.Datapath    = programs{}
	_ ports.Clock       = wallClock{}
	_ ports.Attachments = (*store)(nil)
)
