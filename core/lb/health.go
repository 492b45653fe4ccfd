package lb

import (
	"maps"
	"net/netip"
	"slices"
)

// isLocal says whether a backend is known to run on the node.
func isLocal(b *Backend, node string) bool { return b.Node != "" && b.Node == node }

// flushChecks appends what changed about the answers for load balancers.
func (c *Compiler) flushChecks(ops []Op) []Op {
	if len(c.unchecked) == 0 {
		return ops
	}
	names := slices.SortedFunc(maps.Keys(c.unchecked), compareNames)
	clear(c.unchecked)
	for _, n := range names {
		old, had := c.checks[n]
		svc := c.services[n]
		if svc == nil || svc.spec.HealthCheckPort == 0 {
			if had {
				delete(c.checks, n)
				ops = append(ops, DeleteHealth{n})
			}
			continue
		}
		now := HealthCheck{Port: svc.spec.HealthCheckPort, Local: svc.localReady(c.settings.Node)}
		if !had || old != now {
			c.checks[n] = now
			ops = append(ops, PutHealth{n, now})
		}
	}
	return ops
}

// localReady counts the addresses of the node that are ready, in the family that has more of them: one
// backend may have an address of each. Those that terminate are not: load balancers are to look
// elsewhere before the last connection has come.
func (s *service) localReady(node string) int {
	var v4, v6 map[netip.Addr]struct{}
	for i := range s.slices {
		for j := range s.slices[i].backends {
			b := &s.slices[i].backends[j]
			if b.State != Active || b.Weight == 0 || !isLocal(b, node) || !dialable(b.Addr, b.Port) {
				continue
			}
			set := &v6
			if b.Addr.Is4() {
				set = &v4
			}
			if *set == nil {
				*set = map[netip.Addr]struct{}{}
			}
			(*set)[b.Addr] = struct{}{}
		}
	}
	return max(len(v4), len(v6))
}
