package runtime

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// read runs a question in the loop. Before the datapath is open it fails.
func (a *Agent) read(ctx context.Context, f func() error) (err error) {
	asked := a.ask(ctx, func() {
		if a.engine == nil {
			err = errNotOpen
			return
		}
		err = f()
	})
	if asked != nil {
		return asked
	}
	return err
}

// Status implements ports.Inspector. It answers before the datapath is open, too.
func (a *Agent) Status(ctx context.Context) (s ports.Status, err error) {
	asked := a.ask(ctx, func() { s, err = a.status() })
	if asked != nil {
		return s, asked
	}
	return s, err
}

func (a *agent) status() (ports.Status, error) {
	s := ports.Status{
		Node: a.cfg.Node, Version: a.cfg.Version, Started: a.started, Features: a.cfg.Features,
		Kernel: a.cfg.Kernel, Datapath: a.cfg.Datapath, Attach: a.cfg.Attach, Routing: "Tunnel [vxlan]",
		Findings: a.deps.Source.Findings(), PodCIDRs: a.self.PodCIDRs, Endpoints: len(a.attached),
	}
	for _, att := range a.attached {
		s.Allocated = append(s.Allocated, att.IPs...)
	}
	slices.SortFunc(s.Allocated, netip.Addr.Compare)
	for _, f := range a.cfg.Features {
		if f.Required && !f.Supported {
			s.Problems = append(s.Problems, fmt.Sprintf("the kernel lacks %s: %s", f.Name, f.Detail))
		}
	}
	if a.engine == nil {
		s.Problems = append(s.Problems, errNotOpen.Error())
		return s, nil
	}
	s.Synced = a.engine.Live()
	if !s.Synced {
		s.Problems = append(s.Problems, "the cluster's initial lists are not complete yet")
	}
	s.Problems = append(s.Problems, a.engine.Problems()...)
	_, s.Revision = a.engine.Policies()

	counts, errs := a.exec.pending()
	for _, t := range describe(a.dp.Tables()) {
		rows, err := t.rows()
		if err != nil {
			return s, fmt.Errorf("%s: %w", t.name, err)
		}
		ts := ports.TableStatus{Name: t.name, Rows: rows, Capacity: t.capacity, Pending: counts[t.key], Error: errs[t.key]}
		if ts.Error != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("%d rows wait to be written: %s", ts.Pending, ts.Error))
		}
		s.Tables = append(s.Tables, ts)
	}
	if e := errs["routes"]; e != "" {
		s.Problems = append(s.Problems, e)
	}
	var err error
	if s.Counters, err = a.dp.Counters(); err != nil {
		return s, fmt.Errorf("counters: %w", err)
	}
	flows, err := a.dp.Flows()
	if err != nil {
		return s, fmt.Errorf("flow table: %w", err)
	}
	lost, err := a.dp.Lost()
	if err != nil {
		return s, fmt.Errorf("lost events: %w", err)
	}
	s.Flows = a.record.status(a.deps.Clock.Now().Sub(a.started))
	s.Flows.InKernel, s.Flows.Lost = len(flows), lost+a.lost.Load()
	s.Healthy = len(s.Problems) == 0
	return s, nil
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
		rows, err := t.Dump()
		return len(rows), err
	}}
}

// Endpoints implements ports.Inspector.
func (a *Agent) Endpoints(ctx context.Context) (out []ports.EndpointInfo, err error) {
	err = a.read(ctx, func() error {
		out = a.endpointInfos()
		return nil
	})
	return out, err
}

func (a *agent) endpointInfos() []ports.EndpointInfo {
	out := make([]ports.EndpointInfo, 0, len(a.attached))
	for _, att := range a.attached {
		out = append(out, a.endpointInfo(att))
	}
	slices.SortFunc(out, func(x, y ports.EndpointInfo) int { return int(x.ID) - int(y.ID) })
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
func (a *Agent) Identities(ctx context.Context) (out []ports.IdentityInfo, err error) {
	err = a.read(ctx, func() error {
		for _, i := range a.engine.Identities() {
			out = append(out, ports.IdentityInfo{ID: i.ID, Labels: i.Labels.Strings(), Class: i.Class, RefCount: i.RefCount})
		}
		return nil
	})
	return out, err
}

// Services implements ports.Inspector.
func (a *Agent) Services(ctx context.Context) (out []ports.ServiceInfo, err error) {
	err = a.read(ctx, func() error {
		for _, f := range a.engine.Frontends() {
			out = append(out, serviceInfo(f))
		}
		return nil
	})
	return out, err
}

// Nodes implements ports.Inspector.
func (a *Agent) Nodes(ctx context.Context) (out []cluster.Node, err error) {
	err = a.read(ctx, func() error { out = a.engine.Nodes(); return nil })
	return out, err
}

// Policies implements ports.Inspector.
func (a *Agent) Policies(ctx context.Context) (p ports.PolicyInfo, err error) {
	err = a.read(ctx, func() error { p.Policies, p.Revision = a.engine.Policies(); return nil })
	return p, err
}

// Rule implements ports.Inspector.
func (a *Agent) Rule(ctx context.Context, c datapath.Cookie) (v policy.Verdict, err error) {
	err = a.read(ctx, func() error {
		var ok bool
		if v, ok = a.engine.Rule(c); !ok {
			return fmt.Errorf("rule with cookie %d: %w", c, ports.ErrNotFound)
		}
		return nil
	})
	return v, err
}

// Tables implements ports.Inspector.
func (a *Agent) Tables(ctx context.Context) (d ports.TablesDump, err error) {
	err = a.read(ctx, func() error {
		t := a.dp.Tables()
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
				return fmt.Errorf("dump: %w", e)
			}
		}
		return nil
	})
	return d, err
}

// Flows implements ports.Inspector.
func (a *Agent) Flows(ctx context.Context) (out []datapath.Flow, err error) {
	err = a.read(ctx, func() error { out, err = a.dp.Flows(); return err })
	return out, err
}

// FlushFlows implements ports.Inspector.
func (a *Agent) FlushFlows(ctx context.Context) (n int, err error) {
	err = a.read(ctx, func() error { n, err = a.dp.FlushFlows(); return err })
	return n, err
}

var _ ports.Inspector = (*Agent)(nil)
