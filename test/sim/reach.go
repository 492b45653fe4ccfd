package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// frontend is an address that a service has, with the service that gets it.
type frontend struct {
	key     datapath.ServiceKey
	service lb.Service
	f       lb.Frontend
}

func (s *Sim) serviceFrontends() []frontend {
	var out []frontend
	seen := map[datapath.ServiceKey]bool{}
	var all []lb.Service
	each(s.api, func(e cluster.ServiceUpsert) { all = append(all, e.Service) })
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name.String() < all[j].Name.String() })
	for _, v := range all {
		for _, f := range v.Frontends {
			if f.Addr.IsUnspecified() {
				continue // the nodes' addresses: their rows are compared
			}
			k := datapath.ServiceKey{Addr: f.Addr, Port: f.Port, Proto: f.Proto}
			if !seen[k] {
				seen[k] = true
				out = append(out, frontend{k, v, f})
			}
		}
	}
	return out
}

// backendsOf reads the cluster: who serves a frontend, terminating ones if nobody else does.
func (s *Sim) backendsOf(f frontend) []netip.AddrPort {
	var all []lb.Backend
	each(s.api, func(e cluster.BackendsUpsert) {
		if e.Slice.Service != f.service.Name {
			return
		}
		for _, b := range e.Slice.Backends {
			if b.PortName == f.f.PortName && b.Proto == f.f.Proto && b.Addr.Is4() == f.f.Addr.Is4() {
				all = append(all, b)
			}
		}
	})
	return addrPorts(taking(all))
}

// taking is written out here once more, so that it can differ.
func taking(all []lb.Backend) []lb.Backend {
	for _, state := range []lb.State{lb.Active, lb.Terminating} {
		var out []lb.Backend
		for _, b := range all {
			if b.State == state && b.Weight > 0 {
				out = append(out, b)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func addrPorts(bs []lb.Backend) (out []netip.AddrPort) {
	for _, b := range bs {
		if ap := netip.AddrPortFrom(b.Addr, b.Port); !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int { return a.Compare(b) })
	return out
}

// callService dials a service in the middle of everything; packets are judged as always, and the
// backend must be one that the node was told of since it was last complete.
func (s *Sim) callService(from party, k datapath.ServiceKey) {
	c, a, t := s.fabric.Open(from.name, k.Proto, k.Addr, k.Port)
	s.trace("call %s > service %s: %v to %v", from.name, k, a.Connected, c.Remote())
	s.checkTrace(t)
	real := c.Remote()
	if a.Err != nil || !real.IsValid() || real == netip.AddrPortFrom(k.Addr, k.Port) {
		return
	}
	for _, h := range from.n.view.slices {
		for _, sl := range h.window(from.n.view.clean) {
			if sl != nil && slices.ContainsFunc(sl.Backends, func(b lb.Backend) bool { return netip.AddrPortFrom(b.Addr, b.Port) == real }) {
				return
			}
		}
	}
	s.failf("services", "%s: service %s leads to %s, which no slice had since the kernel was last complete", from.n.name, k, real)
}

// checkServices looks where connections go in a quiet cluster, from every node, and that every node
// would spread them alike.
func (s *Sim) checkServices() {
	if s.failure != nil {
		return
	}
	tables := map[datapath.ServiceKey]string{}
	for _, f := range s.serviceFrontends() {
		want := s.backendsOf(f)
		for _, n := range s.nodes {
			var stays netip.AddrPort
			for range 4 {
				c, a, _ := s.fabric.Open(n.name, f.key.Proto, f.key.Addr, f.key.Port)
				s.counts.connects++
				switch {
				case len(want) == 0 && a.Err == nil:
					s.failf("services", "%s: service %s has no backend and leads to %s", n.name, f.key, c.Remote())
				case len(want) > 0 && a.Err != nil:
					s.failf("services", "%s: service %s has %v and refuses: %v", n.name, f.key, want, a.Err)
				case a.Err == nil && c.Remote().IsValid() && !slices.Contains(want, c.Remote()) && !s.sticks(n, f, c.Remote()):
					s.failf("services", "%s: service %s leads to %s, not to one of %v", n.name, f.key, c.Remote(), want)
				case f.service.Affinity > 0 && stays.IsValid() && stays != c.Remote():
					s.failf("services", "%s: service %s with session affinity leads to %s, and then to %s", n.name, f.key, stays, c.Remote())
				}
				stays = c.Remote()
			}
			m := s.maglev(n, f.key)
			if had, ok := tables[f.key]; ok && had != m {
				s.failf("services", "service %s: the Maglev table of %s differs from other nodes'", f.key, n.name)
			}
			tables[f.key] = m
		}
	}
}

// sticks says whether session affinity keeps a connection with a backend that the service lost: the
// contract asks for it as long as any service has that backend.
func (s *Sim) sticks(n *node, f frontend, to netip.AddrPort) bool {
	return f.service.Affinity > 0 && slices.ContainsFunc(must(n.kernel.Tables().Backends.Dump()), func(r ports.Row[uint32, datapath.Backend]) bool {
		return netip.AddrPortFrom(r.Value.Addr, r.Value.Port) == to
	})
}

// maglev makes a Maglev table of the backends that a node's kernel has for a frontend.
func (s *Sim) maglev(n *node, k datapath.ServiceKey) string {
	t := n.kernel.Tables()
	svc, err := t.Services.Get(k)
	if err != nil {
		return "none"
	}
	var bs []lb.MaglevBackend
	for slot := uint32(1); slot <= svc.Count; slot++ {
		b := must(t.Backends.Get(must(t.Slots.Get(datapath.SlotKey{Service: svc.ID, Slot: slot}))))
		bs = append(bs, lb.MaglevBackend{Name: netip.AddrPortFrom(b.Addr, b.Port).String(), Weight: 1})
	}
	table, err := lb.NewTable(bs, 251, lb.DefaultSeed)
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for _, i := range table {
		out.WriteString(bs[i].Name)
	}
	return out.String()
}

// as is whom the cluster says somebody is.
func (s *Sim) as(p party, a netip.Addr, seenBy *node) policy.Party {
	switch {
	case p.c != nil:
		pod := s.api.objects["pod "+p.c.pod.String()].(cluster.PodUpsert).Pod
		var ns cluster.Namespace
		if e, ok := s.api.objects["namespace "+pod.Name.Namespace].(cluster.NamespaceUpsert); ok {
			ns = e.Namespace
		}
		return policy.Party{Labels: cluster.PodLabels(pod, ns)}
	case p.n != nil && p.n == seenBy:
		return policy.Party{Labels: identity.ReservedIdentity(identity.Host).Labels}
	case p.n != nil:
		return policy.Party{Labels: identity.ReservedIdentity(identity.RemoteNode).Labels}
	}
	return policy.Outside(a)
}

// allowed reads the cluster's rules: may one open such a flow to the other?
func (s *Sim) allowed(from, to party, src, dst netip.Addr, proto uint8, port uint16) (bool, string) {
	if from.c != nil {
		subject, peer := s.as(from, src, from.n), s.as(to, dst, from.n)
		peer.Ports = s.portsAlike(peer)
		if v := policy.Evaluate(s.policies(), subject, datapath.Egress, peer, proto, port); !v.Allowed {
			return false, "egress " + v.String()
		}
	}
	if to.c != nil {
		subject, peer := s.as(to, dst, to.n), s.as(from, src, to.n)
		subject.Ports = named(s.api.objects["pod "+to.c.pod.String()].(cluster.PodUpsert).Pod.Ports)
		if v := policy.Evaluate(s.policies(), subject, datapath.Ingress, peer, proto, port); !v.Allowed {
			return false, "ingress " + v.String()
		}
	}
	return true, "allowed"
}

func (s *Sim) portsAlike(p policy.Party) []policy.NamedPort {
	var out []policy.NamedPort
	for _, q := range s.parties() {
		if q.c != nil && s.as(q, netip.Addr{}, nil).Labels.Key() == p.Labels.Key() {
			out = append(out, named(s.api.objects["pod "+q.c.pod.String()].(cluster.PodUpsert).Pod.Ports)...)
		}
	}
	return out
}

// checkPairs lets everybody talk to everybody in a quiet cluster: what is allowed arrives, and nothing
// else does.
func (s *Sim) checkPairs() {
	all := s.parties()
	tries := 0
	for i, from := range all {
		for j, to := range all {
			if i == j || from.c == nil && to.c == nil || s.failure != nil {
				continue
			}
			if tries++; len(all) > 14 && mix(s.seed+uint64(s.step), from.name+to.name)%4 > 0 {
				continue
			}
			s.checkPair(from, to, to.addrs[tries%len(to.addrs)], tries)
		}
	}
}

func (s *Sim) checkPair(from, to party, dst netip.Addr, try int) {
	if !slices.ContainsFunc(from.addrs, func(a netip.Addr) bool { return a.Is4() == dst.Is4() }) {
		return
	}
	src := from.addrs[slices.IndexFunc(from.addrs, func(a netip.Addr) bool { return a.Is4() == dst.Is4() })]
	var got bool
	var text, what string
	var want bool
	var why string
	switch try % 4 {
	case 0:
		a, t := s.fabric.Ping(from.name, dst)
		s.checkTrace(t)
		got, text, what = a.Connected, t.String(), "ping"
		proto, typ := datapath.ProtoICMP, uint16(8)
		if dst.Is6() {
			proto, typ = datapath.ProtoICMPv6, 128
		}
		want, why = s.allowed(from, to, src, dst, proto, typ)
	case 1:
		a, t := s.fabric.SendTo(from.name, dst, 53, "hi")
		s.checkTrace(t)
		got, text, what = a.Connected, t.String(), "udp 53"
		want, why = s.allowed(from, to, src, dst, datapath.ProtoUDP, 53)
	default:
		port := []uint16{80, 8080}[try%2]
		a, t := s.fabric.Dial(from.name, datapath.ProtoTCP, dst, port)
		s.checkTrace(t)
		got, text, what = a.Connected || a.Refused, t.String(), fmt.Sprint("tcp ", port)
		want, why = s.allowed(from, to, src, dst, datapath.ProtoTCP, port)
	}
	s.counts.connects++
	if got != want {
		s.failf("reach", "quiet: %s > %s %s %s: answered %v, the rules say %s\n%s", from.name, to.name, dst, what, got, why, text)
	}
}
