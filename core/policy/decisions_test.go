package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// Prefixes that begin at the same address are known before the rule about the longest of them comes. Only
// what lies inside a rule's prefix is covered by it, and only what lies inside an exception excepted.
func TestRuleForAPrefixLeavesOutWiderOnes(t *testing.T) {
	wide, middle, narrow := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.0.0.0/24")
	ids := map[netip.Prefix]identity.ID{wide: identity.MinLocal, middle: identity.MinLocal + 1, narrow: identity.MinLocal + 2}
	for name, c := range map[string]struct {
		peer Peer
		want map[netip.Prefix]bool
	}{
		"rule":      {Peer{CIDR: middle}, map[netip.Prefix]bool{wide: false, middle: true, narrow: true}},
		"exception": {Peer{CIDR: wide, Except: []netip.Prefix{middle}}, map[netip.Prefix]bool{wide: true, middle: false, narrow: false}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			m.seed()
			for p, id := range ids {
				m.upsertIdentity(identity.ForPrefix(id, p), nil)
			}
			m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
			m.check(t, newWorld())
			p := policyOf("p", true, false, Rule{Peers: []Peer{c.peer}, AnyPort: true})
			m.upsertPolicy(p)
			m.check(t, newWorld())
			for prefix, want := range c.want {
				require.Equal(t, want, m.t.judge(1, datapath.Ingress, ids[prefix], datapath.ProtoTCP, 80).row.Allow, "%s", prefix)
			}
		})
	}
}

// An endpoint of a known identity declares another port under a name that an egress rule asks for.
func TestChangedPortsOfAnIdentityReachRulesByName(t *testing.T) {
	m := newMachine()
	m.seed()
	rule := Rule{AnyPeer: true, Ports: []Port{{Proto: datapath.ProtoTCP, Name: "web"}}}
	rule.Ref.Direction = datapath.Egress
	m.upsertPolicy(policyOf("p", false, true, rule))
	m.upsertSubject(1, setOf(t, "k8s:app=client"), nil)
	server := identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=web")}
	allowed := func(port uint16) bool {
		return m.t.judge(1, datapath.Egress, 300, datapath.ProtoTCP, port).row.Allow
	}
	for _, ports := range [][]uint16{{80}, {8080}, {80, 8080}, nil} {
		var named []NamedPort
		want := map[uint16]bool{}
		for _, p := range ports {
			named = append(named, NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: p})
			want[p] = true
		}
		m.upsertIdentity(server, named)
		m.check(t, newWorld())
		for _, p := range []uint16{80, 8080} {
			require.Equal(t, want[p], allowed(p), "ports %v: %d", ports, p)
		}
	}
}
