package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// selecting is a selector of one In requirement a label, "key=value".
func selecting(t require.TestingT, ls ...string) labels.Selector {
	var reqs []labels.Requirement
	for _, s := range ls {
		l, err := labels.Parse(s)
		require.NoError(t, err)
		reqs = append(reqs, labels.Requirement{Source: l.Source, Key: l.Key, Operator: labels.In, Values: []string{l.Value}})
	}
	sel, err := labels.NewSelector(reqs...)
	require.NoError(t, err)
	return sel
}

func pod(t require.TestingT, ls ...string) Party {
	set, err := labels.ParseSet(append([]string{"k8s:" + labels.KeyCluster + "=default"}, ls...)...)
	require.NoError(t, err)
	return Party{Labels: set}
}

func reserved(id identity.ID) Party { return Party{Labels: identity.ReservedIdentity(id).Labels} }

func outside(s string) Party { return Outside(netip.MustParseAddr(s)) }

// policyOf builds a policy with one spec for every endpoint. The rules get their references.
func policyOf(name string, ingress, egress bool, rules ...Rule) Policy {
	ref := Ref{Kind: "CiliumNetworkPolicy", Namespace: "shop", Name: name}
	p := Policy{Ref: ref, Specs: []Spec{{IsolateIngress: ingress, IsolateEgress: egress}}}
	for i, r := range rules {
		r.Ref.Policy = ref
		r.Ref.Path = r.Ref.Direction.String() + "[" + string(rune('0'+i)) + "]"
		p.Specs[0].Rules = append(p.Specs[0].Rules, r)
	}
	return p
}

func TestEvaluatePeers(t *testing.T) {
	web := selecting(t, "k8s:app=web")
	all := labels.Everything()
	notDB, err := labels.NewSelector(labels.Requirement{Key: "app", Operator: labels.NotIn, Values: []string{"db"}})
	require.NoError(t, err)
	world := selecting(t, "reserved:world")
	cidr := func(s string, except ...string) Peer {
		p := Peer{CIDR: netip.MustParsePrefix(s)}
		for _, e := range except {
			p.Except = append(p.Except, netip.MustParsePrefix(e))
		}
		return p
	}
	api := reserved(identity.KubeAPIServer)
	serving := func(p Party) Party {
		p.Labels = identity.Identity{Labels: p.Labels}.ServingAPI().Labels
		return p
	}
	parties := map[string]Party{
		"web": pod(t, "k8s:app=web"), "db": pod(t, "k8s:app=db"),
		"host": reserved(identity.Host), "remote-node": reserved(identity.RemoteNode), "init": reserved(identity.Init),
		"world": reserved(identity.World), "api": api, "health": reserved(identity.Health),
		"host with api": serving(reserved(identity.Host)), "198.51.100.7": serving(outside("198.51.100.7")), "2001:db8::7": serving(outside("2001:db8::7")),
		"10.1.0.1": outside("10.1.0.1"), "10.2.0.1": outside("10.2.0.1"), "::ffff:10.1.0.1": outside("::ffff:10.1.0.1"),
		"2001:db8::1": outside("2001:db8::1"),
	}
	all4 := []string{"10.1.0.1", "10.2.0.1", "::ffff:10.1.0.1", "198.51.100.7"}
	all6 := []string{"2001:db8::1", "2001:db8::7"}
	world46 := append(append([]string{"world"}, all4...), all6...)
	cluster := []string{"web", "db", "host", "remote-node", "init", "api", "health", "host with api"}
	list := func(a []string, more ...string) []string { return append(append([]string{}, a...), more...) }
	for name, c := range map[string]struct {
		peer Peer
		want []string
	}{
		"selector":                      {Peer{Selector: &web}, []string{"web"}},
		"empty selector":                {Peer{Selector: &all}, cluster},
		"selector of exclusions":        {Peer{Selector: &notDB}, []string{"web", "host", "remote-node", "init", "api", "health", "host with api"}},
		"selector of a reserved label":  {Peer{Selector: &world}, world46},
		"entity all":                    {Peer{Entity: EntityAll}, list(cluster, world46...)},
		"entity none":                   {Peer{Entity: EntityNone}, nil},
		"entity cluster":                {Peer{Entity: EntityCluster}, list(cluster, "198.51.100.7", "2001:db8::7")},
		"entity world":                  {Peer{Entity: EntityWorld}, world46},
		"entity world-ipv4":             {Peer{Entity: EntityWorldIPv4}, all4},
		"entity world-ipv6":             {Peer{Entity: EntityWorldIPv6}, all6},
		"entity host":                   {Peer{Entity: EntityHost}, []string{"host", "host with api"}},
		"entity remote-node":            {Peer{Entity: EntityRemoteNode}, []string{"remote-node", "api"}},
		"entity kube-apiserver":         {Peer{Entity: EntityKubeAPIServer}, []string{"api", "host with api", "198.51.100.7", "2001:db8::7"}},
		"entity unmanaged":              {Peer{Entity: EntityUnmanaged}, nil},
		"cidr":                          {cidr("10.1.0.0/16"), []string{"10.1.0.1", "::ffff:10.1.0.1"}},
		"cidr of all, but for":          {cidr("0.0.0.0/0", "10.1.0.0/16"), []string{"10.2.0.1", "198.51.100.7"}},
		"cidr of all IPv6":              {cidr("::/0"), all6},
		"cidr with everything excepted": {cidr("10.0.0.0/8", "10.0.0.0/8"), nil},
		"nothing":                       {Peer{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			p := policyOf("p", true, true, Rule{Peers: []Peer{c.peer}, AnyPort: true, Ref: RuleRef{Direction: datapath.Egress}})
			for who, party := range parties {
				party.Addr = netip.MustParseAddr("10.1.0.1")
				if a, err := netip.ParseAddr(who); err == nil {
					party.Addr = a.Unmap()
				} else if who == "world" { // no address known
					party.Addr = netip.Addr{}
				}
				if Evaluate([]Policy{p}, pod(t), datapath.Egress, party, datapath.ProtoTCP, 80).Allowed {
					got = append(got, who)
				}
			}
			require.ElementsMatch(t, c.want, got)
		})
	}
}

func TestEvaluatePorts(t *testing.T) {
	for name, c := range map[string]struct {
		ports []Port
		icmp  []ICMP
		any   bool
		yes   [][2]uint16 // protocol, port
		no    [][2]uint16
	}{
		"any":          {any: true, yes: [][2]uint16{{6, 1}, {1, 8}, {58, 128}, {47, 0}}},
		"none":         {no: [][2]uint16{{6, 1}, {1, 8}, {47, 0}}},
		"one":          {ports: []Port{{Proto: 6, First: 80, Last: 80}}, yes: [][2]uint16{{6, 80}}, no: [][2]uint16{{6, 79}, {6, 81}, {17, 80}}},
		"range":        {ports: []Port{{Proto: 17, First: 1000, Last: 2000}}, yes: [][2]uint16{{17, 1000}, {17, 2000}}, no: [][2]uint16{{17, 999}, {17, 2001}, {6, 1500}}},
		"all of TCP":   {ports: []Port{{Proto: 6, Last: 65535}}, yes: [][2]uint16{{6, 0}, {6, 65535}}, no: [][2]uint16{{17, 1}}},
		"any protocol": {ports: []Port{{AnyProto: true, First: 53, Last: 53}}, yes: [][2]uint16{{6, 53}, {17, 53}, {132, 53}}, no: [][2]uint16{{1, 53}, {58, 53}, {47, 53}}},
		"named":        {ports: []Port{{Proto: 6, Name: "http"}}, yes: [][2]uint16{{6, 8080}}, no: [][2]uint16{{6, 80}, {17, 8080}, {17, 9090}}},
		"named, any":   {ports: []Port{{AnyProto: true, Name: "http"}}, yes: [][2]uint16{{6, 8080}, {17, 9090}}, no: [][2]uint16{{6, 9090}, {17, 8080}}},
		"no such name": {ports: []Port{{Proto: 6, Name: "https"}}, no: [][2]uint16{{6, 0}, {6, 443}, {6, 8080}}},
		"icmp":         {icmp: []ICMP{{Type: 8}}, yes: [][2]uint16{{1, 8}}, no: [][2]uint16{{1, 0}, {58, 8}, {6, 8}}},
		"icmp6":        {icmp: []ICMP{{IPv6: true, Type: 128}}, yes: [][2]uint16{{58, 128}}, no: [][2]uint16{{1, 128}, {58, 129}}},
		"icmp or port": {icmp: []ICMP{{Type: 8}}, ports: []Port{{Proto: 6, First: 80, Last: 80}}, yes: [][2]uint16{{1, 8}, {6, 80}}, no: [][2]uint16{{6, 8}}},
		"GRE":          {ports: []Port{{Proto: 47, Last: 65535}}, yes: [][2]uint16{{47, 0}}, no: [][2]uint16{{6, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			named := pod(t, "k8s:app=web")
			named.Ports = []NamedPort{{"http", 6, 8080}, {"http", 17, 9090}}
			for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
				p := policyOf("p", true, true, Rule{AnyPeer: true, AnyPort: c.any, Ports: c.ports, ICMP: c.icmp, Ref: RuleRef{Direction: dir}})
				subject, peer := named, pod(t)
				if dir == datapath.Egress { // names are resolved where the connection goes
					subject, peer = peer, subject
				}
				for _, q := range c.yes {
					require.True(t, Evaluate([]Policy{p}, subject, dir, peer, uint8(q[0]), q[1]).Allowed, "%s %v", dir, q)
				}
				for _, q := range c.no {
					require.False(t, Evaluate([]Policy{p}, subject, dir, peer, uint8(q[0]), q[1]).Allowed, "%s %v", dir, q)
				}
			}
		})
	}
}

func TestEvaluatePrecedence(t *testing.T) {
	web := selecting(t, "k8s:app=web")
	anyone := Rule{AnyPeer: true, AnyPort: true}
	fromWeb := Rule{Peers: []Peer{{Selector: &web}}, Ports: []Port{{Proto: 6, First: 80, Last: 80}}}
	denyWeb := fromWeb
	denyWeb.Deny = true
	denyAll := Rule{AnyPeer: true, AnyPort: true, Deny: true}
	judge := func(peer Party, ps ...Policy) string {
		v := Evaluate(ps, pod(t, "k8s:app=db"), datapath.Ingress, peer, 6, 80)
		if v.Allowed {
			return "allowed: " + v.String()
		}
		return "denied: " + v.String()
	}
	client, other, host := pod(t, "k8s:app=web"), pod(t, "k8s:app=x"), reserved(identity.Host)
	const p = "CiliumNetworkPolicy shop/"

	require.Equal(t, "allowed: no policy", judge(client))
	require.Equal(t, "allowed: no policy", judge(client, policyOf("a", false, true)), "isolated in the other direction")
	require.Equal(t, "denied: default deny ("+p+"a, "+p+"b)", judge(client, policyOf("b", true, false), policyOf("a", true, false)))
	require.Equal(t, "allowed: "+p+"b ingress[0]", judge(client, policyOf("c", true, false, fromWeb), policyOf("b", true, false, anyone)), "the first in order decides")
	require.Equal(t, "allowed: "+p+"a ingress[0]", judge(client, policyOf("a", true, false, fromWeb, anyone)))
	require.Equal(t, "allowed: "+p+"a ingress[1]", judge(other, policyOf("a", true, false, fromWeb, anyone)))
	require.Equal(t, "denied: "+p+"z ingress[0]", judge(client, policyOf("a", true, false, anyone), policyOf("z", false, false, denyWeb)), "deny beats allow")
	require.Equal(t, "denied: "+p+"a ingress[0]", judge(client, policyOf("a", false, false, denyWeb)), "isolated or not")
	require.Equal(t, "allowed: no policy", judge(other, policyOf("a", false, false, denyWeb)))
	require.Equal(t, "allowed: "+p+"a ingress[0]", judge(client, policyOf("a", false, false, fromWeb)), "an allow rule is named though nothing is isolated")

	require.Equal(t, "allowed: "+NoteLocalHost, judge(host, policyOf("a", true, false, fromWeb)))
	require.Equal(t, "allowed: no policy", judge(host))
	require.Equal(t, "allowed: "+p+"a ingress[0]", judge(host, policyOf("a", true, false, anyone)))
	require.Equal(t, "denied: "+p+"a ingress[0]", judge(host, policyOf("a", true, false, denyAll)))
	v := Evaluate([]Policy{policyOf("a", true, true)}, pod(t), datapath.Egress, host, 6, 80)
	require.False(t, v.Allowed, "the node is let in, not out to")

	other2 := policyOf("a", true, false, anyone)
	other2.Specs[0].Subject = selecting(t, "k8s:app=other")
	require.Equal(t, "allowed: no policy", judge(client, other2), "a spec for other subjects")
}

// The order of the tiers, as in KEP-2091: administrators first, their defaults last.
func TestEvaluateTiers(t *testing.T) {
	web := selecting(t, "k8s:app=web")
	fromWeb := Rule{Peers: []Peer{{Selector: &web}}, AnyPort: true}
	with := func(r Rule, change func(*Rule)) Rule { change(&r); return r }
	deny := func(r *Rule) { r.Deny = true }
	pass := func(r *Rule) { r.Pass = true }
	anyone := Rule{AnyPeer: true, AnyPort: true}
	in := func(tier Tier, priority int, name string, rules ...Rule) Policy {
		p := policyOf(name, false, false, rules...)
		p.Specs[0].Tier, p.Specs[0].Priority = tier, priority
		return p
	}
	judge := func(peer Party, ps ...Policy) string {
		v := Evaluate(ps, pod(t, "k8s:app=db"), datapath.Ingress, peer, 6, 80)
		if v.Allowed {
			return "allowed: " + v.String()
		}
		return "denied: " + v.String()
	}
	client, other := pod(t, "k8s:app=web"), pod(t, "k8s:app=x")
	const p = "CiliumNetworkPolicy shop/"
	shut, open := policyOf("shut", true, false), policyOf("open", true, false, anyone)

	require.Equal(t, "allowed: "+p+"a ingress[0]", judge(client, shut, in(TierAdmin, 5, "a", fromWeb)), "an administrator is asked first")
	require.Equal(t, "denied: "+p+"a ingress[0]", judge(client, open, in(TierAdmin, 5, "a", with(fromWeb, deny))))
	require.Equal(t, "allowed: "+p+"open ingress[0]", judge(other, open, in(TierAdmin, 5, "a", with(fromWeb, deny))), "nothing matches")
	require.Equal(t, "allowed: "+p+"b ingress[0]", judge(client, in(TierAdmin, 5, "a", with(fromWeb, deny)), in(TierAdmin, 4, "b", fromWeb)), "the lower priority first")
	require.Equal(t, "denied: "+p+"a ingress[0]", judge(client, in(TierAdmin, 5, "b", fromWeb), in(TierAdmin, 5, "a", with(fromWeb, deny))), "then by name")
	require.Equal(t, "allowed: "+p+"a ingress[0]", judge(client, in(TierAdmin, 5, "a", fromWeb, with(anyone, deny))), "the first rule that matches")
	require.Equal(t, "denied: "+p+"a ingress[1]", judge(other, in(TierAdmin, 5, "a", fromWeb, with(anyone, deny))))
	require.Equal(t, "denied: default deny ("+p+"shut)", judge(client, shut, in(TierAdmin, 1, "a", with(fromWeb, pass)), in(TierAdmin, 2, "b", anyone)), "passed on")
	require.Equal(t, "allowed: no policy", judge(client, in(TierAdmin, 1, "a", with(fromWeb, pass)), in(TierAdmin, 2, "b", with(anyone, deny))))

	base := in(TierBaseline, 5, "base", with(anyone, deny))
	require.Equal(t, "denied: "+p+"base ingress[0]", judge(client, base))
	require.Equal(t, "allowed: "+p+"open ingress[0]", judge(client, base, open), "who is isolated is not asked for again")
	require.Equal(t, "denied: default deny ("+p+"shut)", judge(client, in(TierBaseline, 1, "z", anyone), shut))
	require.Equal(t, "denied: "+p+"base ingress[0]", judge(client, base, in(TierAdmin, 1, "a", with(anyone, pass))))
	require.Equal(t, "allowed: no policy", judge(client, base, in(TierBaseline, 1, "z", with(fromWeb, pass))), "passed there: accepted")
	require.Equal(t, "allowed: "+NoteLocalHost, judge(reserved(identity.Host), shut, base))
	require.Equal(t, "denied: "+p+"a ingress[0]", judge(reserved(identity.Host), shut, in(TierAdmin, 1, "a", with(anyone, deny))))
}

func TestVerdictText(t *testing.T) {
	require.Equal(t, NoteNotReady, Verdict{Note: NoteNotReady}.String())
	require.Equal(t, "NetworkPolicy a/b", Ref{"NetworkPolicy", "a", "b"}.String())
	require.Equal(t, "CiliumClusterwideNetworkPolicy b", Ref{Kind: "CiliumClusterwideNetworkPolicy", Name: "b"}.String())
}
