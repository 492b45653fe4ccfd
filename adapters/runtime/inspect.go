package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// routingNames are the words of `weir status`.
var routingNames = map[engine.Routing]string{
	engine.Tunnel: "Tunnel [vxlan]", engine.Direct: "Native [direct routes]", engine.Native: "Native",
}

// read asks about the engine or the datapath. Before the datapath is open it fails.
func read[T any](ctx context.Context, a *Agent, question func() (T, error)) (T, error) {
	return ask(ctx, a, func() (T, error) {
		if a.engine == nil {
			var none T
			return none, a.notOpen()
		}
		return question()
	})
}

// beside reads the datapath without holding the loop up.
func beside[T any](a *Agent, f func() (T, error)) (T, error) {
	a.reading.RLock()
	defer a.reading.RUnlock()
	if a.closed {
		var none T
		return none, fmt.Errorf("agent: %w", ports.ErrClosed)
	}
	return f()
}

// Status implements ports.Inspector. It answers before the datapath is open, too. Rows are counted, and
// findings collected, beside the loop.
func (a *Agent) Status(ctx context.Context) (ports.Status, error) {
	findings := a.deps.Source.Findings()
	s, err := ask(ctx, a, func() (statusDraft, error) { return a.draftStatus(), nil })
	if err != nil {
		return ports.Status{}, err
	}
	s.Findings = findings
	if s.dp == nil {
		return s.Status, nil
	}
	return beside(a, func() (ports.Status, error) { return s.complete() })
}

func (a *agent) status() (ports.Status, error) {
	s := a.draftStatus()
	s.Findings = a.deps.Source.Findings()
	if s.dp == nil {
		return s.Status, nil
	}
	return s.complete()
}

// statusDraft is what the loop knows. The rest is in the kernel.
type statusDraft struct {
	ports.Status
	dp     ports.Datapath // nil: not open
	counts map[string]int
	errs   map[string]string
}

func (a *agent) draftStatus() statusDraft {
	s := statusDraft{Status: ports.Status{
		Node: a.cfg.Node, Version: a.cfg.Version, Started: a.started, Features: a.cfg.Features,
		Kernel: a.cfg.Kernel, Datapath: a.cfg.Datapath, Attach: a.cfg.Attach, Routing: routingNames[a.cfg.Routing],
		PodCIDRs: a.self.PodCIDRs, Endpoints: len(a.attached),
	}}
	for _, att := range a.attached {
		s.Allocated = append(s.Allocated, att.IPs...)
	}
	slices.SortFunc(s.Allocated, netip.Addr.Compare)
	for _, f := range a.cfg.Features {
		if f.Required && !f.Supported {
			s.Problems = append(s.Problems, fmt.Sprintf("the kernel lacks %s: %s", f.Name, f.Detail))
		}
	}
	if a.cfg.Notes != nil {
		problems, warnings := a.cfg.Notes()
		s.Problems, s.Warnings = append(s.Problems, problems...), append(s.Warnings, warnings...)
	}
	s.Services = a.serviceStatus()
	s.Warnings = append(s.Warnings, a.devices.choice.Warnings...)
	s.Problems = append(s.Problems, a.devices.problems()...)
	if a.engine == nil {
		s.Problems = append(s.Problems, a.notOpen().Error())
		return s
	}
	s.Synced = a.engine.Live()
	if !s.Synced {
		s.Problems = append(s.Problems, "the cluster's initial lists are not complete yet")
	}
	s.Problems = append(s.Problems, a.engine.Problems()...)
	if p := a.masq.problem(); p != "" {
		s.Problems = append(s.Problems, p)
	}
	if a.health.err != nil {
		s.Problems = append(s.Problems, a.health.err.Error())
	}
	s.Masquerade = a.masq.describe()
	s.Revision = a.engine.Revision()
	s.counts, s.errs = a.exec.pending()
	s.Flows = a.record.status(a.deps.Clock.Now().Sub(a.started))
	s.Flows.Lost = a.lost.Load()
	s.dp = a.dp
	return s
}

// complete reads what is in the kernel.
func (s *statusDraft) complete() (ports.Status, error) {
	for _, t := range describe(s.dp.Tables()) {
		rows, err := t.rows()
		if err != nil {
			return s.Status, fmt.Errorf("%s: %w", t.name, err)
		}
		ts := ports.TableStatus{Name: t.name, Rows: rows, Capacity: t.capacity, Pending: s.counts[t.key], Error: s.errs[t.key]}
		if ts.Error != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("%d rows wait to be written: %s", ts.Pending, ts.Error))
		}
		s.Tables = append(s.Tables, ts)
	}
	if e := s.errs["routes"]; e != "" {
		s.Problems = append(s.Problems, e)
	}
	var err error
	if s.Counters, err = s.dp.Counters(); err != nil {
		return s.Status, fmt.Errorf("counters: %w", err)
	}
	if s.Flows.InKernel, err = countFlows(s.dp); err != nil {
		return s.Status, fmt.Errorf("flow table: %w", err)
	}
	lost, err := s.dp.Lost()
	if err != nil {
		return s.Status, fmt.Errorf("lost events: %w", err)
	}
	s.Flows.Lost += lost
	s.Healthy = len(s.Problems) == 0
	return s.Status, nil
}

func countFlows(dp ports.Datapath) (int, error) {
	if c, ok := dp.(ports.FlowCounter); ok {
		return c.CountFlows()
	}
	flows, err := dp.Flows()
	return len(flows), err
}

// tableInfo is one table with its key type forgotten.
type tableInfo struct {
	key      string // the engine's name for it
	name     string
	capacity int
	rows     func() (int, error)
}

func describe(t ports.Tables) []tableInfo {
	return []tableInfo{
		info("endpoints", t.Endpoints), info("ep_policy", t.EndpointPolicy), info("ipcache", t.IPCache),
		info("classes", t.Classes), info("policy", t.Policy), info("nodes", t.Nodes),
		info("services", t.Services), info("slots", t.Slots), info("backends", t.Backends),
	}
}

func info[K comparable, V any](key string, t ports.Table[K, V]) tableInfo {
	return tableInfo{key, t.Name(), t.Capacity(), func() (int, error) {
		if c, ok := t.(ports.RowCounter); ok {
			return c.CountRows()
		}
		rows, err := t.Dump()
		return len(rows), err
	}}
}

// Endpoints implements ports.Inspector.
func (a *Agent) Endpoints(ctx context.Context) ([]ports.EndpointInfo, error) {
	return read(ctx, a, func() ([]ports.EndpointInfo, error) { return a.endpointInfos(), nil })
}

func (a *agent) endpointInfos() []ports.EndpointInfo {
	out := make([]ports.EndpointInfo, 0, len(a.attached))
	// In order before the kernel is asked, too: what is read when must not be left to chance.
	byID := func(x, y *ports.Attachment) int { return cmp.Compare(x.ID, y.ID) }
	for _, att := range slices.SortedFunc(maps.Values(a.attached), byID) {
		out = append(out, a.endpointInfo(att))
	}
	return out
}

func (a *agent) endpointInfo(att *ports.Attachment) ports.EndpointInfo {
	i := ports.EndpointInfo{Attachment: *att, State: "waiting-for-identity"}
	s, ok := a.engine.Endpoint(att.ID)
	if !ok {
		i.State = "creating"
		return i
	}
	i.Identity, i.Labels, i.Policy = s.Identity, s.Labels.Strings(), s.Policy
	i.Ingress, i.Egress, i.Ports = s.Ingress, s.Egress, s.Ports
	if w, err := a.dp.Tables().EndpointPolicy.Get(att.ID); err == nil {
		i.Epoch = w.Epoch
	}
	switch {
	case s.Identity == identity.Unknown:
	case a.inForce(att.ID):
		i.State = "ready"
	case a.exec.stuck.err != nil:
		i.State = "not-ready"
	default:
		i.State = "regenerating"
	}
	return i
}

// Identities implements ports.Inspector.
func (a *Agent) Identities(ctx context.Context) ([]ports.IdentityInfo, error) {
	return read(ctx, a, func() (out []ports.IdentityInfo, _ error) {
		for _, i := range a.engine.Identities() {
			out = append(out, ports.IdentityInfo{ID: i.ID, Labels: i.Labels.Strings(), Class: i.Class, RefCount: i.RefCount})
		}
		return out, nil
	})
}

// Services implements ports.Inspector.
func (a *Agent) Services(ctx context.Context) ([]ports.ServiceInfo, error) {
	return read(ctx, a, func() (out []ports.ServiceInfo, _ error) {
		for _, f := range a.engine.Frontends() {
			out = append(out, serviceInfo(f))
		}
		return out, nil
	})
}

// Nodes implements ports.Inspector.
func (a *Agent) Nodes(ctx context.Context) ([]cluster.Node, error) {
	return read(ctx, a, func() ([]cluster.Node, error) { return a.engine.Nodes(), nil })
}

// Policies implements ports.Inspector.
func (a *Agent) Policies(ctx context.Context) (ports.PolicyInfo, error) {
	return read(ctx, a, func() (p ports.PolicyInfo, _ error) {
		p.Policies, p.Revision = a.engine.Policies()
		return p, nil
	})
}

// Rule implements ports.Inspector.
func (a *Agent) Rule(ctx context.Context, c datapath.Cookie) (policy.Verdict, error) {
	return read(ctx, a, func() (policy.Verdict, error) {
		v, ok := a.engine.Rule(c)
		if !ok {
			return v, fmt.Errorf("rule with cookie %d: %w", c, ports.ErrNotFound)
		}
		return v, nil
	})
}

// readDatapath reads the datapath beside the loop. Before it is open that fails.
func readDatapath[T any](ctx context.Context, a *Agent, f func(ports.Datapath) (T, error)) (T, error) {
	dp, err := read(ctx, a, func() (ports.Datapath, error) { return a.dp, nil })
	if err != nil {
		var none T
		return none, err
	}
	return beside(a, func() (T, error) { return f(dp) })
}

// Tables implements ports.Inspector. Rows that change meanwhile may be seen before or after.
func (a *Agent) Tables(ctx context.Context) (ports.TablesDump, error) {
	return readDatapath(ctx, a, func(dp ports.Datapath) (d ports.TablesDump, _ error) {
		t := dp.Tables()
		for _, f := range []func() error{
			func() (e error) { d.Endpoints, e = t.Endpoints.Dump(); return },
			func() (e error) { d.EndpointPolicy, e = t.EndpointPolicy.Dump(); return },
			func() (e error) { d.IPCache, e = t.IPCache.Dump(); return },
			func() (e error) { d.Classes, e = t.Classes.Dump(); return },
			func() (e error) { d.Policy, e = t.Policy.Dump(); return },
			func() (e error) { d.Nodes, e = t.Nodes.Dump(); return },
			func() (e error) { d.Services, e = t.Services.Dump(); return },
			func() (e error) { d.Slots, e = t.Slots.Dump(); return },
			func() (e error) { d.Backends, e = t.Backends.Dump(); return },
		} {
			if e := f(); e != nil {
				return d, fmt.Errorf("dump: %w", e)
			}
		}
		return d, nil
	})
}

// Flows implements ports.Inspector.
func (a *Agent) Flows(ctx context.Context) ([]datapath.Flow, error) {
	return readDatapath(ctx, a, ports.Datapath.Flows)
}

// Translations implements ports.Inspector.
func (a *Agent) Translations(ctx context.Context) ([]datapath.Translation, error) {
	return readDatapath(ctx, a, func(dp ports.Datapath) ([]datapath.Translation, error) {
		if t, ok := dp.(ports.Translator); ok {
			return t.Translations()
		}
		return nil, nil
	})
}

// FlushFlows implements ports.Inspector.
func (a *Agent) FlushFlows(ctx context.Context) (int, error) {
	return readDatapath(ctx, a, ports.Datapath.FlushFlows)
}

var _ ports.Inspector = (*Agent)(nil)
