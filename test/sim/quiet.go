package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/ports"
)

// patience is how many rounds of a second a cluster without faults may take to become quiet. A write
// that failed is tried again after 5 s at most, a full table planned anew after 30 s.
const patience = 90

// heal ends all faults.
func (s *Sim) heal() {
	for _, n := range s.nodes {
		n.fault, n.doom = faults{}, -1
		n.watch.double, n.watch.merge = false, false
		if n.agent == nil {
			n.start()
		} else if !n.watch.connected || n.watch.gap {
			n.watch.resync(false)
		}
		n.watch.lose = 0
	}
}

// converge lets everything that is to happen happen.
func (s *Sim) converge() bool {
	s.heal()
	for range patience {
		s.collectGarbage()
		moved := s.stepAll()
		busy := false
		for _, n := range s.nodes {
			if n.agent == nil {
				n.start()
			}
			n.sync(nil)
			busy = busy || len(n.watch.queue) > 0 || n.agent == nil || !n.agent.Quiet()
		}
		for _, n := range s.nodes {
			busy = busy || len(n.watch.queue) > 0
		}
		if s.failure != nil {
			return false
		}
		if !moved && !busy {
			return true
		}
		s.clock.Advance(time.Second)
		for _, n := range s.nodes {
			n.do(func(a *runtime.Stepper) { a.Housekeep() })
		}
	}
	s.failf("liveness", "not quiet %d s after the last fault: %s", patience, s.waiting())
	return false
}

func (s *Sim) waiting() string {
	var out []string
	for _, n := range s.nodes {
		switch {
		case n.agent == nil:
			out = append(out, n.name+" has no agent")
		case len(n.watch.queue) > 0:
			out = append(out, fmt.Sprintf("%s has %d events to hear", n.name, len(n.watch.queue)))
		case !n.agent.Quiet():
			out = append(out, fmt.Sprintf("agent of %s is not quiet (ready %v, %d wishes)", n.name, n.agent.Ready(), n.agent.Wishes()))
		}
	}
	for _, c := range s.containers {
		if c.phase != running || !s.isWanted(c) {
			why := ""
			if c.node.agent != nil {
				if err := c.node.agent.InForce(c.id, "eth0"); err != nil {
					why = err.Error()
				}
			}
			out = append(out, fmt.Sprintf("container %s of pod %s on %s is in phase %d: %s", c.id, c.pod, c.node.name, c.phase, why))
		}
	}
	return strings.Join(out, "; ")
}

// quiesce heals, waits, and holds everything against what the cluster says.
func (s *Sim) quiesce() {
	if !s.converge() {
		return
	}
	s.counts.quiets++
	for _, n := range s.nodes {
		if !n.view.isClean() {
			s.failf("liveness", "agent of %s is quiet, and not with what it was told", n.name)
		}
		s.checkRows(n)
		if s.failure != nil {
			return
		}
	}
	s.checkServices()
	s.checkPairs()
	s.sayAll()
	s.stir()
}

func (s *Sim) sayAll() {
	for _, c := range append([]*conn(nil), s.conns...) {
		if s.failure == nil {
			s.say(c, false)
		}
	}
}

// stir makes those somebody else whom somebody talks to, and looks whether they still talk by what they were.
// Who is relabelled is judged anew for that alone, so one end of each connection stays as it is.
func (s *Sim) stir() {
	rng := rand.New(rand.NewPCG(s.seed, uint64(s.step)))
	ends := map[cluster.Name]bool{}
	side := rng.IntN(3)
	for _, c := range s.conns {
		if p := []party{c.to, c.to, c.from}[side]; p.c != nil {
			ends[p.c.pod] = true
		}
	}
	for _, c := range s.conns {
		if p := []party{c.from, c.from, c.to}[side]; p.c != nil {
			delete(ends, p.c.pod)
		}
	}
	for _, name := range sortedNames(ends) {
		s.relabelOne(rng, func(p cluster.Pod) bool { return p.Name == name })
	}
	if len(ends) > 0 && s.failure == nil && s.converge() {
		s.sayAll()
	}
}

// empty removes everything and looks what is left.
func (s *Sim) empty() {
	s.trace("empty the cluster")
	for _, p := range s.podList() {
		s.endPod(p, false)
	}
	var gone []cluster.Event
	for _, k := range s.api.keys {
		ev := s.api.objects[k]
		switch ev.(type) {
		case cluster.PolicyUpsert, cluster.ServiceUpsert, cluster.BackendsUpsert:
			_, back, _ := keyOf(ev)
			gone = append(gone, back)
		}
	}
	for _, ev := range gone {
		s.api.tell(ev)
	}
	for _, n := range s.nodes {
		n.network.SetLinks(n.home())
		n.linksNews = true
	}
	if !s.converge() {
		return
	}
	for _, n := range s.nodes {
		s.checkRows(n)
		s.checkEmpty(n)
	}
	if s.failure != nil {
		return
	}
	// Identities go when nobody has used them for a while.
	for range 3 {
		s.clock.Advance(engine.LocalQuarantine)
		for _, n := range s.nodes {
			n.do(func(a *runtime.Stepper) { a.Housekeep() })
			n.do(func(a *runtime.Stepper) { a.CarryOut(context.Background()) })
		}
		s.converge()
	}
	each(s.api, func(e cluster.IdentityUpsert) {
		s.failf("leak", "identity %s is left in an empty cluster", e.ID)
	})
	// What is left is about nodes; it goes with them.
	for len(s.nodes) > 2 {
		s.leaveNode(0)
	}
	if s.failure == nil && s.converge() {
		for _, n := range s.nodes {
			s.checkRows(n)
			s.checkEmpty(n)
		}
	}
}

// checkEmpty looks for what must not be there in a cluster of nodes only.
func (s *Sim) checkEmpty(n *node) {
	t := n.kernel.Tables()
	left := func(table string, rows int) {
		if rows > 0 {
			s.failf("leak", "%s: %d rows of %s are left in an empty cluster:\n%s", n.name, rows, table, n.kernel.DumpText())
		}
	}
	left("ep_policy", len(must(t.EndpointPolicy.Dump())))
	left("policy", len(must(t.Policy.Dump())))
	left("classes", len(must(t.Classes.Dump())))
	left("services", len(must(t.Services.Dump())))
	left("slots", len(must(t.Slots.Dump())))
	left("backends", len(must(t.Backends.Dump())))
	left("attachments", len(n.store.saved))
	left("pod links", len(must(n.network.PodLinks())))
	left("endpoints", len(must(t.Endpoints.Dump()))-4)
	left("nodes", len(must(t.Nodes.Dump()))-2*(len(s.nodes)-1))
	left("ipcache", len(must(t.IPCache.Dump()))-4*len(s.nodes))
	left("routes", len(n.network.Routes())-2*(len(s.nodes)-1))
}

// checkReuse looks whether a number that is about to be given out means something else somewhere. A node
// that has been out of touch for longer than a number rests can't be helped.
func (s *Sim) checkReuse(id identity.ID, ls labels.Set) {
	const rest = engine.LocalQuarantine
	defer func(was bool) { s.inAgent = was }(s.inAgent)
	s.inAgent = false // it is the simulation that reads the tables now
	before := s.api.ever[id]
	if len(before) == 0 || before[len(before)-1].Key() == ls.Key() {
		return
	}
	away := func(n *node) bool { return n == nil || s.clock.Now().Sub(n.touched) > rest }
	each(s.api, func(e cluster.EndpointUpsert) {
		if e.Endpoint.Identity == id && !away(s.node(e.Endpoint.Node)) {
			s.failf("reuse", "identity %s is given out again while endpoint %s has it", id, e.Endpoint.Name)
		}
	})
	for _, n := range s.nodes {
		if away(n) {
			continue
		}
		for _, r := range must(n.kernel.Tables().Endpoints.Dump()) {
			if r.Value.Identity == id {
				s.failf("reuse", "identity %s is given out again while %s of %s has it", id, r.Key, n.name)
			}
		}
		for _, r := range must(n.kernel.Tables().IPCache.Dump()) {
			if r.Value.Identity == id {
				s.failf("reuse", "identity %s is given out again while %s has it in the ipcache of %s", id, r.Key, n.name)
			}
		}
		for _, f := range must(n.kernel.Flows()) {
			if f.Expires > 0 && !f.Denied && (f.SrcIdentity == id || f.DstIdentity == id) {
				s.failf("reuse", "identity %s is given out again while flow %s > %s of %s has it for another %s", id, f.Src, f.Dst, n.name, f.Expires)
			}
		}
	}
}

func addKeys[K comparable, V any](into map[any]bool, rows []ports.Row[K, V]) {
	for _, r := range rows {
		into[r.Key] = true
	}
}
