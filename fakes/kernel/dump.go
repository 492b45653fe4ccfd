package kernel

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

// DumpText writes all rows of all tables, one a line, sorted, tables in a fixed order; tables without
// rows are left out. Flows follow, without what depends on the time.
func (k *Kernel) DumpText() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	section(&b, k.endpoints, func(a netip.Addr, e datapath.Endpoint) string {
		if e.Host {
			return fmt.Sprintf("%s host identity %s", a, e.Identity)
		}
		return fmt.Sprintf("%s endpoint %d identity %s ifindex %d mac %s node-mac %s", a, e.ID, e.Identity, e.Ifindex, e.MAC, e.NodeMAC)
	})
	section(&b, k.epPolicy, func(id datapath.EndpointID, w datapath.EndpointPolicy) string {
		return fmt.Sprintf("%d policy %s epoch %d", id, policyText(w.Policy), w.Epoch)
	})
	section(&b, k.ipcache, func(p netip.Prefix, c datapath.IPCache) string {
		if c.NextHop.IsValid() {
			return fmt.Sprintf("%s identity %s next hop %s", p, c.Identity, c.NextHop)
		}
		if c.Tunnel.IsValid() {
			return fmt.Sprintf("%s identity %s tunnel %s", p, c.Identity, c.Tunnel)
		}
		return fmt.Sprintf("%s identity %s", p, c.Identity)
	})
	section(&b, k.classes, func(key datapath.ClassKey, c datapath.Class) string {
		return fmt.Sprintf("generation %d identity %s class %d", key.Generation, key.Identity, c)
	})
	section(&b, k.policy, func(key datapath.PolicyKey, r datapath.PolicyRow) string {
		verdict := "deny"
		if r.Allow {
			verdict = "allow"
		}
		what := "any"
		if !key.AnyProto {
			what = fmt.Sprintf("%s %d/%d", datapath.ProtoName(key.Proto), key.Port, key.PortBits)
		}
		s := fmt.Sprintf("%s class %d %s %s %s cookie %#x", policyText(key.Policy), key.Class, key.Direction, what, verdict, uint32(r.Cookie))
		if r.ProxyPort != 0 {
			s += fmt.Sprintf(" proxy %d", r.ProxyPort)
		}
		return s
	})
	section(&b, k.nodes, func(a netip.Addr, n datapath.Node) string { return fmt.Sprintf("%s node %d", a, n.ID) })
	section(&b, k.services, func(key datapath.ServiceKey, s datapath.Service) string {
		text := fmt.Sprintf("%s service %d count %d affinity %ds", key, s.ID, s.Count, s.AffinityTimeout)
		if s.Local {
			text += " local"
		}
		return text
	})
	section(&b, k.slots, func(key datapath.SlotKey, id uint32) string {
		return fmt.Sprintf("service %d slot %d backend %d", key.Service, key.Slot, id)
	})
	section(&b, k.backends, func(id uint32, e datapath.Backend) string {
		return fmt.Sprintf("%d %s/%s", id, netip.AddrPortFrom(e.Addr, e.Port), datapath.ProtoName(e.Proto))
	})
	var flows []string
	k.flows.each(func(_ datapath.FlowKey, e *entry) { flows = append(flows, "flows "+e.text()+"\n") })
	sort.Strings(flows)
	b.WriteString(strings.Join(flows, ""))
	return b.String()
}

func section[K, V comparable](b *strings.Builder, t *table[K, V], line func(K, V) string) {
	lines := make([]string, 0, len(t.rows))
	for key, v := range t.rows {
		lines = append(lines, t.name+" "+line(key, v)+"\n")
	}
	sort.Strings(lines)
	b.WriteString(strings.Join(lines, ""))
}

func policyText(id datapath.PolicyID) string {
	if id == 0 {
		return "0"
	}
	return fmt.Sprintf("%d.%d", id.Generation(), uint32(id)&datapath.MaxPolicySerial)
}

func (e *entry) text() string {
	s := fmt.Sprintf("%s %s > %s identities %s > %s", datapath.ProtoName(e.proto),
		netip.AddrPortFrom(e.side[0].addr, e.side[0].port), netip.AddrPortFrom(e.side[1].addr, e.side[1].port),
		e.side[0].identity, e.side[1].identity)
	if e.outcome.egressJudged {
		s += fmt.Sprintf(" egress %#x", uint32(e.outcome.egressCookie))
	}
	if e.outcome.ingressJudged {
		s += fmt.Sprintf(" ingress %#x", uint32(e.outcome.ingressCookie))
	}
	s += fmt.Sprintf(" to %s back to %s packets %d %d", e.side[1].route.kind, e.side[0].route.kind, e.side[0].packets, e.side[1].packets)
	if e.denied {
		s += fmt.Sprintf(" denied %d", e.outcome.reason)
	}
	if e.state == stateClosing {
		s += " closing"
	}
	if e.seenNonSYN {
		s += " non-syn"
	}
	return s
}
