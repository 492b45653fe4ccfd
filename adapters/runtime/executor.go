package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// Backoff of a failing write.
const (
	backoffMin = 20 * time.Millisecond
	backoffMax = 5 * time.Second
	// rebaseEvery is how often a security lane that is stuck for lack of space is planned anew.
	rebaseEvery = 30 * time.Second
)

// executor writes the engine's operations. There are two lanes:
//
// The security lane (addresses, identities' classes, policies, endpoints) is executed strictly in
// order. When a write fails, the lane waits and tries again: the kernel keeps the last complete
// state, which is safe. A lane that is stuck because a table is full is planned anew from what the
// kernel really holds, see rebase.
//
// The service lane has only the latest wish for each row, and writes what is named before what names
// it, see runServices. A row that fails is set aside and retried; only what needs it waits.
type executor struct {
	dp  ports.Datapath
	net ports.Network
	log *slog.Logger

	security []engine.Op
	stuck    stall
	lastPlan time.Time

	services map[rowKey]*serviceRow
	order    []*serviceRow // the same, oldest first; and some that wait no more

	adoption *adoption // nil once the predecessor's leftovers are pruned
}

type rowKey struct {
	table engine.Table
	key   any
}

// serviceRow is a row of the service lane that waits to be written.
type serviceRow struct {
	op    engine.Op
	stall *stall // nil: not tried yet
	done  bool   // waits no more
}

// due says whether the row may be tried now.
func (r *serviceRow) due(now time.Time) bool {
	return !r.done && (r.stall == nil || !now.Before(r.stall.next))
}

// stall is the state of a failing write.
type stall struct {
	err     error
	since   time.Time
	backoff time.Duration
	next    time.Time
}

func (s *stall) fail(now time.Time, err error) {
	if s.err == nil {
		s.since, s.backoff = now, backoffMin
	} else {
		s.backoff = min(2*s.backoff, backoffMax)
	}
	s.err, s.next = err, now.Add(s.backoff)
}

func (s *stall) clear() { *s = stall{} }

func newExecutor(dp ports.Datapath, net ports.Network, log *slog.Logger) *executor {
	return &executor{dp: dp, net: net, log: log, services: map[rowKey]*serviceRow{}}
}

// submit takes operations for the kernel and the routing table.
func (x *executor) submit(ops []engine.Op) {
	for _, op := range ops {
		if x.adoption != nil {
			x.adoption.note(op)
		}
		switch op.Table {
		case engine.Services, engine.Slots, engine.Backends:
			x.submitService(op)
		default:
			x.security = append(x.security, op)
		}
	}
}

// submitService notes the latest wish for a row.
func (x *executor) submitService(op engine.Op) {
	k := rowKey{op.Table, op.Key}
	r, ok := x.services[k]
	switch {
	case x.adoption != nil && x.adoption.leaves(op):
		if ok {
			x.drop(r)
		}
	case ok:
		r.op = op
	default:
		r = &serviceRow{op: op}
		x.services[k] = r
		x.order = append(x.order, r)
	}
}

// drop takes a row off the lane.
func (x *executor) drop(r *serviceRow) {
	r.done = true
	delete(x.services, rowKey{r.op.Table, r.op.Key})
}

// run executes what is due and returns when to call again (zero: nothing waits).
func (x *executor) run(now time.Time) time.Time {
	x.runServices(now)
	x.runSecurity(now)
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(x.stuck.next)
	for _, r := range x.order {
		if !r.done && r.stall != nil {
			sooner(r.stall.next)
		}
	}
	return next
}

// settled says whether nothing more can be done now: the security lane is empty, and what is left of
// the service lane was tried and failed (perhaps for the lack of the space that pruning makes).
func (x *executor) settled() bool {
	if len(x.security) > 0 {
		return false
	}
	for _, r := range x.order {
		if !r.done && r.stall == nil {
			return false
		}
	}
	return true
}

func (x *executor) runSecurity(now time.Time) {
	if !x.stuck.next.IsZero() && now.Before(x.stuck.next) {
		return
	}
	done := 0
	for _, op := range x.security {
		if err := x.execute(op); err != nil {
			if x.stuck.err == nil {
				x.log.Warn("security state frozen at the last complete one", "err", err, "waiting", len(x.security)-done)
			}
			x.stuck.fail(now, err)
			break
		}
		if x.stuck.err != nil {
			x.log.Info("security state moves again")
		}
		x.stuck.clear()
		done++
	}
	x.security = x.security[done:]
	if len(x.security) == 0 {
		x.security = nil
	}
}

// wantsRebase says whether the security lane can only go on with a new plan.
func (x *executor) wantsRebase(now time.Time) bool {
	return errors.Is(x.stuck.err, ports.ErrFull) && now.Sub(x.lastPlan) >= rebaseEvery
}

// rebase replaces the waiting policy operations by the engine's new plan. Rows that no endpoint's
// policy refers to are removed first: they are the half-written remains that fill the table.
func (x *executor) rebase(now time.Time, e *engine.Engine) error {
	x.lastPlan = now
	a, err := x.readAdopted()
	if err != nil {
		return err
	}
	t := x.dp.Tables()
	rows, err := t.Policy.Dump()
	if err != nil {
		return err
	}
	inForce := map[datapath.PolicyID]bool{}
	for _, w := range a.EndpointPolicy {
		inForce[w.Policy] = true
	}
	for _, r := range rows {
		if !inForce[r.Key.Policy] {
			if err := t.Policy.Delete(r.Key); err != nil {
				return err
			}
		}
	}
	// Rows of prefixes stand before the policies that need them, everything else after.
	// Of several writes to one prefix the last counts: an earlier one must not come after it.
	var prefixes, rest []engine.Op
	last := map[any]int{}
	for i, op := range x.security {
		if op.Table == engine.IPCache {
			last[op.Key] = i
		}
	}
	for i, op := range x.security {
		switch op.Table {
		case engine.Policy, engine.Classes, engine.EndpointPolicy:
			continue
		case engine.IPCache:
			if last[op.Key] != i {
				continue
			}
			if row, ok := op.Row.(datapath.IPCache); ok && row.Identity.IsLocal() {
				prefixes = append(prefixes, op)
				continue
			}
		}
		rest = append(rest, op)
	}
	planned := e.Rebase(a)
	if x.adoption != nil {
		x.adoption.generation = e.Generation()
		for _, op := range planned {
			x.adoption.note(op)
		}
	}
	// What has to go and inherited classes come first.
	n := 0
	for n < len(planned) && (planned[n].Table == engine.Classes || planned[n].Table == engine.EndpointPolicy && planned[n].Row == nil) {
		n++
	}
	classes, others := slices.Clone(planned[:n]), planned[n:]
	x.security = append(append(append(classes, prefixes...), others...), rest...)
	x.stuck.clear()
	return nil
}

// sweep removes what given up plans left in the kernel: rows of policies that no endpoint uses, classes
// of generations that neither an endpoint nor the engine does. It is called when every operation was
// executed.
func (x *executor) sweep(generation uint8) error {
	t := x.dp.Tables()
	words, err := t.EndpointPolicy.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.EndpointPolicy.Name(), err)
	}
	inForce, generations := map[datapath.PolicyID]bool{}, map[uint8]bool{generation: true}
	for _, w := range words {
		inForce[w.Value.Policy] = true
		if w.Value.Policy != 0 {
			generations[w.Value.Policy.Generation()] = true
		}
	}
	rows, err := t.Policy.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.Policy.Name(), err)
	}
	for _, r := range rows {
		if !inForce[r.Key.Policy] {
			if err := t.Policy.Delete(r.Key); err != nil {
				return fmt.Errorf("%s: delete %v: %w", t.Policy.Name(), r.Key, err)
			}
		}
	}
	classes, err := t.Classes.Dump()
	if err != nil {
		return fmt.Errorf("%s: dump: %w", t.Classes.Name(), err)
	}
	for _, r := range classes {
		if !generations[r.Key.Generation] {
			if err := t.Classes.Delete(r.Key); err != nil {
				return fmt.Errorf("%s: delete %v: %w", t.Classes.Name(), r.Key, err)
			}
		}
	}
	return nil
}

// execute writes one operation. A row that the kernel is known to hold already is not written.
func (x *executor) execute(op engine.Op) error {
	if x.adoption != nil && x.adoption.holds(op) {
		return nil
	}
	t := x.dp.Tables()
	switch op.Table {
	case engine.Endpoints:
		return write(t.Endpoints, op)
	case engine.EndpointPolicy:
		return write(t.EndpointPolicy, op)
	case engine.IPCache:
		return write(t.IPCache, op)
	case engine.Classes:
		return write(t.Classes, op)
	case engine.Policy:
		return write(t.Policy, op)
	case engine.Nodes:
		return write(t.Nodes, op)
	case engine.Services:
		return write(t.Services, op)
	case engine.Slots:
		return write(t.Slots, op)
	case engine.Backends:
		return write(t.Backends, op)
	case engine.AddrEpoch:
		if err := x.dp.BumpAddr(op.Key.(netip.Addr)); err != nil {
			return fmt.Errorf("addr_epoch: bump %v: %w", op.Key, err)
		}
		return nil
	case engine.Routes:
		return x.writeRoutes(op.Row.([]engine.Route))
	}
	panic(fmt.Sprintf("runtime: operation on table %s has no executor", op.Table))
}

func (x *executor) writeRoutes(rs []engine.Route) error {
	routes := make([]ports.NodeRoute, len(rs))
	for i, r := range rs {
		routes[i] = ports.NodeRoute{Prefix: r.Prefix, Source: r.Source, Via: r.Via}
	}
	if err := x.net.SyncNodeRoutes(routes); err != nil {
		return fmt.Errorf("routes to other nodes' pods: %w", err)
	}
	return nil
}

func write[K comparable, V any](t ports.Table[K, V], op engine.Op) error {
	key := op.Key.(K)
	if op.Row == nil {
		if err := t.Delete(key); err != nil {
			return fmt.Errorf("%s: delete %v: %w", t.Name(), key, err)
		}
		return nil
	}
	if err := t.Put(key, op.Row.(V)); err != nil {
		return fmt.Errorf("%s: write %v: %w", t.Name(), key, err)
	}
	return nil
}

// pending counts waiting operations by table and gives the first error of each.
func (x *executor) pending() (counts map[string]int, errs map[string]string) {
	counts, errs = map[string]int{}, map[string]string{}
	for _, op := range x.security {
		counts[op.Table.String()]++
	}
	if x.stuck.err != nil && len(x.security) > 0 {
		errs[x.security[0].Table.String()] = x.stuck.err.Error()
	}
	for _, r := range x.order {
		if r.done {
			continue
		}
		table := r.op.Table.String()
		counts[table]++
		if r.stall != nil && errs[table] == "" {
			errs[table] = r.stall.err.Error()
		}
	}
	return counts, errs
}
