package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

func setOf(t require.TestingT, ss ...string) labels.Set {
	s, err := labels.ParseSet(ss...)
	require.NoError(t, err)
	return s
}

// letIn is a policy that isolates subjects for ingress and lets peers in to TCP port 80.
func letIn(t require.TestingT, name, subject, peer string) Policy {
	from := selecting(t, peer)
	p := policyOf(name, true, false, Rule{Peers: []Peer{{Selector: &from}}, Ports: []Port{{Proto: 6, First: 80, Last: 80}}})
	p.Specs[0].Subject = selecting(t, subject)
	return p
}

func TestIdentityOfAKnownClassCostsOneWrite(t *testing.T) {
	m := newMachine()
	m.seed()
	for i := range 50 {
		m.upsertPolicy(letIn(t, fmt.Sprintf("p%02d", i), "k8s:app=db", fmt.Sprintf("k8s:app=client%d", i)))
	}
	for ep := range 20 {
		m.upsertSubject(datapath.EndpointID(ep+1), setOf(t, "k8s:app=db", fmt.Sprintf("k8s:replica=%d", ep)), nil)
	}
	m.upsertIdentity(identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=client7", "k8s:version=1")}, nil)
	m.check(t, newWorld())
	require.Len(t, m.c.inForce, 1, "the endpoints share one outcome")
	class := m.c.ClassOf(300)
	require.NotZero(t, class)

	m.upsertIdentity(identity.Identity{ID: 301, Labels: setOf(t, "k8s:app=client7", "k8s:version=2")}, nil)
	require.Equal(t, []Op{SetClass{datapath.ClassKey{Generation: 2, Identity: 301}, class}}, m.c.Flush())

	m.upsertIdentity(identity.Identity{ID: 302, Labels: setOf(t, "k8s:app=stranger")}, nil)
	require.Empty(t, m.c.Flush(), "class 0 is what every identity is in at first")
	require.Zero(t, m.c.ClassOf(302))

	m.upsertIdentity(identity.Identity{ID: 303, Labels: setOf(t, "k8s:app=client8")}, nil)
	require.Equal(t, []Op{
		PutRow{datapath.PolicyKey{Policy: m.c.PolicyOf(1), Class: class + 1, AnyProto: true}, m.row(t, 1, datapath.PolicyKey{AnyProto: true})},
		PutRow{datapath.PolicyKey{Policy: m.c.PolicyOf(1), Class: class + 1, Proto: 6, Port: 80, PortBits: 16},
			datapath.PolicyRow{Allow: true, Cookie: m.cookieOf(t, "p08")}},
		SetClass{datapath.ClassKey{Generation: 2, Identity: 303}, class + 1},
	}, m.c.Flush(), "a new class: its rows first")

	m.deleteIdentity(301)
	require.Equal(t, []Op{SetClass{datapath.ClassKey{Generation: 2, Identity: 301}, 0}}, m.c.Flush())
	m.deleteIdentity(302)
	require.Empty(t, m.c.Flush())
	m.deleteIdentity(303)
	require.Len(t, m.c.Flush(), 3, "the last of its class: out of it, and its rows go")
}

// row is the row in force for class 0 under an endpoint's policy.
func (m *machine) row(t require.TestingT, ep datapath.EndpointID, k datapath.PolicyKey) datapath.PolicyRow {
	k.Policy = m.c.PolicyOf(ep)
	r, ok := m.t.rows[k]
	require.True(t, ok, "%s", k)
	return r
}

func (m *machine) cookieOf(t require.TestingT, policy string) datapath.Cookie {
	for n, e := range m.c.cookies.byNum {
		if e.verdict.Rule.Policy.Name == policy {
			return n
		}
	}
	require.Fail(t, "no cookie", policy)
	return 0
}

func TestEndpointsWithTheSameOutcomeShareIt(t *testing.T) {
	m := newMachine()
	m.seed()
	m.upsertPolicy(letIn(t, "a", "k8s:app=db", "k8s:app=web"))
	m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
	m.check(t, newWorld())
	id := m.c.PolicyOf(1)
	m.upsertSubject(2, setOf(t, "k8s:app=db", "k8s:x=y"), []NamedPort{{"http", 6, 80}})
	require.Equal(t, []Op{SetPolicy{2, id}}, m.c.Flush(), "a replica costs one write")
	in, out := m.c.Enforced(2)
	require.True(t, in)
	require.False(t, out)
	m.deleteSubject(1)
	require.Equal(t, []Op{SetPolicy{1, 0}}, m.c.Flush())
	require.Zero(t, m.c.PolicyOf(1))
	in, out = m.c.Enforced(1)
	require.False(t, in || out)
	require.Equal(t, Verdict{Note: NoteNotReady}, m.c.Decide(1, datapath.Ingress, 2, 6, 80))
}

func TestRepeatsCostNothing(t *testing.T) {
	m := newMachine()
	m.seed()
	p := letIn(t, "a", "k8s:app=db", "k8s:app=web")
	ports := []NamedPort{{"b", 6, 1}, {"a", 6, 2}}
	web := identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=web")}
	m.upsertPolicy(p)
	m.upsertSubject(1, setOf(t, "k8s:app=db"), ports)
	m.upsertIdentity(web, ports)
	m.check(t, newWorld())
	require.Empty(t, m.c.Flush())
	m.upsertPolicy(letIn(t, "a", "k8s:app=db", "k8s:app=web"))
	m.upsertSubject(1, setOf(t, "k8s:app=db"), []NamedPort{ports[1], ports[0]})
	m.upsertIdentity(web, []NamedPort{ports[1], ports[0], ports[0]})
	m.c.DeletePolicy(Ref{"NetworkPolicy", "no", "such"})
	m.c.DeleteIdentity(999)
	m.c.DeleteSubject(999)
	require.Empty(t, m.c.dirtyIdentities)
	require.Empty(t, m.c.dirtySubjects)
	require.Empty(t, m.c.Flush())

	m.c.DeleteIdentity(300)
	m.c.UpsertIdentity(web, ports)
	m.c.DeleteSubject(1)
	m.c.UpsertSubject(1, setOf(t, "k8s:app=db"), ports)
	require.Empty(t, m.c.Flush(), "gone and back between two flushes")

	m.c.UpsertIdentity(identity.Identity{ID: 301, Labels: setOf(t, "k8s:app=web")}, nil)
	m.c.DeleteIdentity(301)
	m.c.UpsertSubject(2, setOf(t, "k8s:app=db"), nil)
	m.c.DeleteSubject(2)
	require.Empty(t, m.c.Flush(), "come and gone between two flushes")
}

func TestUnchangedSpecsOfAChangedPolicyStay(t *testing.T) {
	m := newMachine()
	m.seed()
	p := letIn(t, "a", "k8s:app=db", "k8s:app=web")
	other := letIn(t, "a", "k8s:app=cache", "k8s:app=web").Specs[0]
	p.Specs = append(p.Specs, other)
	m.upsertPolicy(p)
	m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
	m.upsertSubject(2, setOf(t, "k8s:app=cache"), nil)
	m.check(t, newWorld())
	db, cache := m.c.PolicyOf(1), m.c.PolicyOf(2)

	p.Specs = []Spec{p.Specs[0], letIn(t, "a", "k8s:app=cache", "k8s:app=api").Specs[0]}
	old := m.w.clone()
	m.upsertPolicy(p)
	m.check(t, old)
	require.Equal(t, db, m.c.PolicyOf(1))
	require.NotEqual(t, cache, m.c.PolicyOf(2), "a changed outcome has a new id")
}

// An endpoint goes over to a policy that is in force for another, and its peer changes its labels, in
// one batch. Before and after, the peer is let in; the endpoint's new policy would refuse the peer
// as it was, and its old policy would refuse it as it is.
func TestPolicyAndPeerChangeAtOnce(t *testing.T) {
	m := newMachine()
	m.seed()
	m.upsertPolicy(letIn(t, "a", "k8s:app=db", "k8s:app=old"))
	m.upsertPolicy(letIn(t, "b", "k8s:app=cache", "k8s:app=new"))
	m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
	m.upsertSubject(2, setOf(t, "k8s:app=cache"), nil)
	m.upsertIdentity(identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=old")}, nil)
	m.upsertIdentity(identity.Identity{ID: 301, Labels: setOf(t, "k8s:app=new")}, nil)
	m.check(t, newWorld())
	require.True(t, m.c.Decide(1, datapath.Ingress, 300, 6, 80).Allowed)

	old := m.w.clone()
	m.upsertSubject(1, setOf(t, "k8s:app=cache"), nil)
	m.upsertIdentity(identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=new")}, nil)
	m.check(t, old)
	require.True(t, m.c.Decide(1, datapath.Ingress, 300, 6, 80).Allowed)
	require.Equal(t, m.c.ClassOf(301), m.c.ClassOf(300))
	require.Equal(t, m.c.PolicyOf(2), m.c.PolicyOf(1))
	m.replay(t)
	m.empty(t)
}

func TestTakePrefixes(t *testing.T) {
	c := NewCompiler(0, 1)
	cidr := func(name string, prefix string, except ...string) Policy {
		peer := Peer{CIDR: netip.MustParsePrefix(prefix)}
		for _, e := range except {
			peer.Except = append(peer.Except, netip.MustParsePrefix(e))
		}
		return policyOf(name, true, true, Rule{Peers: []Peer{peer}, AnyPort: true, Ref: RuleRef{Direction: datapath.Egress}})
	}
	take := func(wantAdded, wantRemoved string) {
		t.Helper()
		added, removed := c.TakePrefixes()
		require.Equal(t, wantAdded, fmt.Sprint(added))
		require.Equal(t, wantRemoved, fmt.Sprint(removed))
	}
	c.UpsertPolicy(cidr("a", "10.1.2.3/8", "10.1.0.0/16"))
	c.UpsertPolicy(cidr("b", "0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24"))
	c.UpsertPolicy(cidr("c", "::/0", "2001:db8::/32"))
	take("[10.0.0.0/8 10.1.0.0/16 192.0.2.0/24 2001:db8::/32]", "[]")
	take("[]", "[]")
	c.DeletePolicy(cidr("a", "::/0").Ref)
	c.UpsertPolicy(cidr("d", "198.51.100.0/24"))
	take("[198.51.100.0/24]", "[10.1.0.0/16]")
	c.DeletePolicy(cidr("d", "::/0").Ref)
	c.UpsertPolicy(cidr("d", "198.51.100.0/24"))
	take("[]", "[]")
	c.UpsertPolicy(cidr("e", "203.0.113.0/24"))
	c.DeletePolicy(cidr("e", "::/0").Ref)
	take("[]", "[]")
	c.UpsertPolicy(cidr("b", "0.0.0.0/0"))
	c.DeletePolicy(cidr("c", "::/0").Ref)
	c.DeletePolicy(cidr("d", "::/0").Ref)
	take("[]", "[10.0.0.0/8 192.0.2.0/24 198.51.100.0/24 2001:db8::/32]")
}

func TestNumbersComeFromTheirGeneration(t *testing.T) {
	c := NewCompiler(3, datapath.MaxPolicySerial)
	c.UpsertSubject(1, setOf(t, "k8s:app=a"), nil)
	c.UpsertPolicy(letIn(t, "a", "k8s:app=b", "k8s:app=a"))
	c.UpsertSubject(2, setOf(t, "k8s:app=b"), nil)
	c.UpsertIdentity(identity.Identity{ID: 300, Labels: setOf(t, "k8s:app=a")}, nil)
	for _, op := range c.Flush() {
		switch op := op.(type) {
		case PutRow:
			require.Equal(t, uint8(3), op.Key.Policy.Generation())
		case SetClass:
			require.Equal(t, uint8(3), op.Key.Generation)
		}
	}
	require.Equal(t, datapath.NewPolicyID(3, datapath.MaxPolicySerial), c.PolicyOf(1))
	require.Equal(t, datapath.NewPolicyID(3, 1), c.PolicyOf(2), "serials go round, without 0")
	c.serial = datapath.MaxPolicySerial
	c.UpsertSubject(3, setOf(t, "k8s:app=b"), nil)
	c.UpsertPolicy(letIn(t, "b", "k8s:app=b", "k8s:app=a"))
	c.Flush()
	require.Equal(t, datapath.NewPolicyID(3, 2), c.PolicyOf(2), "those in force are passed over")
	require.NotZero(t, NewCompiler(0, 0).nextPolicyID())
}

func TestIdentitiesWithoutAPlaceStayInClassZero(t *testing.T) {
	m := newMachine()
	m.upsertPolicy(letIn(t, "a", "k8s:app=db", "k8s:app=web"))
	m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
	m.check(t, newWorld())
	for _, id := range []identity.ID{identity.Unknown, identity.MaxCluster + 1, identity.MaxLocal + 1} {
		m.c.UpsertIdentity(identity.Identity{ID: id, Labels: setOf(t, "k8s:app=web")}, nil)
		require.Empty(t, m.c.Flush(), "they share a place, and one of them must not speak for the others")
		require.False(t, m.c.Decide(1, datapath.Ingress, id, 6, 80).Allowed)
		m.c.DeleteIdentity(id)
	}
}

func TestRetiredRulesAreExplained(t *testing.T) {
	m := newMachine()
	m.seed()
	p := letIn(t, "a", "k8s:app=db", "k8s:app=web")
	m.upsertPolicy(p)
	m.upsertSubject(1, setOf(t, "k8s:app=db"), nil)
	m.check(t, newWorld())
	cookie := m.cookieOf(t, "a")
	m.c.DeletePolicy(p.Ref)
	m.c.Flush()
	v, ok := m.c.Rule(cookie)
	require.True(t, ok)
	require.Equal(t, "CiliumNetworkPolicy shop/a ingress[0]", v.String())
	_, ok = m.c.Rule(cookie + 1)
	require.False(t, ok)
}
