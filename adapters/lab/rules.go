package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// observe collects recorded flows of all agents that run, oldest first. If an agent does not answer,
// there are the flows of the others, and an error.
func (l *Lab) observe(ctx context.Context, q flow.Query) ([]flow.Flow, error) {
	var out []flow.Flow
	var errs []error
	for _, n := range l.st.Nodes {
		if !n.Agent.alive() {
			continue
		}
		octx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.agent(n.Name).Observe(octx, q, func(e flow.Entry) error {
			if e.Flow != nil {
				out = append(out, *e.Flow)
			}
			return nil
		})
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: observe: %w", n.Name, err))
		}
	}
	slices.SortStableFunc(out, func(a, b flow.Flow) int { return a.Time.Compare(b.Time) })
	return out, errors.Join(errs...)
}

// LastDrops implements ports.Lab.
func (l *Lab) LastDrops(ctx context.Context, n int) ([]flow.Flow, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, errors.New("last drops: at least one must be asked for")
	}
	out, err := l.observe(ctx, flow.Query{Last: uint64(n), Allow: []flow.Filter{{Verdict: []string{"DROPPED"}}}})
	return out[max(0, len(out)-n):], err
}

// flowKey is what a probe and its recorded flow have in common.
type flowKey struct {
	src, dst netip.Addr
	port     uint16
	proto    uint8
}

// addRules fills in the rules that decided, from the flows recorded since the probes began. The egress
// rule is known at the source's node, the ingress rule at the destination's; a flow that egress dropped
// has no ingress rule. What the agents cannot tell stays empty.
func (l *Lab) addRules(ctx context.Context, since time.Time, rows []*measurement, out []ports.LabResult) {
	egress, ingress := map[flowKey]string{}, map[flowKey]string{}
	flows, err := l.observe(ctx, flow.Query{Since: since})
	if err != nil {
		l.o.Log("some rules are not known: %v", err)
	}
	for _, f := range flows {
		e := f.Event
		if e.Reply || e.Type == datapath.EventClose {
			continue
		}
		k := flowKey{e.Src.Addr(), e.Dst.Addr(), e.Dst.Port(), e.Proto}
		if e.Proto == 1 || e.Proto == 58 {
			k.port = 0
		}
		if f.Egress != nil {
			egress[k] = f.Egress.String()
		}
		if f.Ingress != nil {
			ingress[k] = f.Ingress.String()
		}
	}
	for i, r := range rows {
		for _, dst := range r.addrs {
			for _, src := range r.from.IPs {
				k := flowKey{src, dst, r.port, protocolNumber(r.protocol, dst)}
				if s := egress[k]; s != "" {
					out[i].EgressRule = s
				}
				if s := ingress[k]; s != "" {
					out[i].IngressRule = s
				}
			}
		}
	}
}

func protocolNumber(protocol string, dst netip.Addr) uint8 {
	switch {
	case protocol == protoTCP:
		return 6
	case protocol == protoUDP:
		return 17
	case dst.Is4():
		return 1
	}
	return 58
}
