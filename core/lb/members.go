package lb

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// group is what a frontend selects its backends by.
type group struct {
	service  Name
	portName string
	proto    uint8
	is4      bool
	local    bool // only those of one node
}

// backends lists the backends of a group, ordered by address and port. One that several slices
// describe (they overlap while the source moves it) counts once, in its most useful state.
func (s *service) backends(g group, node string) []*Backend {
	n := 0
	for i := range s.slices {
		n += len(s.slices[i].backends)
	}
	if g.local {
		n = 0 // few of them
	}
	out := make([]*Backend, 0, n)
	for i := range s.slices {
		for j := range s.slices[i].backends {
			b := &s.slices[i].backends[j]
			if g.local && !isLocal(b, node) {
				continue
			}
			if b.PortName == g.portName && b.Proto == g.proto && dialable(b.Addr, b.Port) && b.Addr.Is4() == g.is4 {
				out = append(out, b)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Backend) int {
		if o := a.Addr.Compare(b.Addr); o != 0 {
			return o
		}
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.State, b.State),
			cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Node, b.Node))
	})
	return slices.CompactFunc(out, func(a, b *Backend) bool { return a.Addr == b.Addr && a.Port == b.Port })
}

func sameService(a, b Service) bool {
	return a.Name == b.Name && a.Affinity == b.Affinity && a.Algorithm == b.Algorithm &&
		a.ExternalLocal == b.ExternalLocal && a.InternalLocal == b.InternalLocal &&
		a.HealthCheckPort == b.HealthCheckPort && slices.Equal(a.Frontends, b.Frontends)
}

func serviceKey(f Frontend, scope datapath.Scope) datapath.ServiceKey {
	return datapath.ServiceKey{Addr: canonical(f.Addr), Port: f.Port, Proto: f.Proto, Scope: scope}
}

// canonical is the form in which the tables hold an address.
func canonical(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func dialable(a netip.Addr, port uint16) bool { return a.IsValid() && port != 0 }

// seconds rounds up, so that an affinity below a second does not become none.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	s := d / time.Second
	if d%time.Second != 0 {
		s++
	}
	return uint32(min(s, math.MaxUint32))
}

func compareNames(a, b Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func compareKeys(a, b datapath.ServiceKey) int {
	if o := a.Addr.Compare(b.Addr); o != 0 {
		return o
	}
	return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Scope, b.Scope))
}
