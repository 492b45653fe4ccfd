package matrix_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/core/policy"
)

func pod(name, node string, change ...func(*cluster.Pod)) cluster.PodUpsert {
	n, err := cluster.ParseName(name)
	if err != nil {
		panic(err)
	}
	p := cluster.Pod{Name: n, Node: node, Labels: map[string]string{"app": n.Name}, Ready: true,
		Ports: []policy.NamedPort{{Name: "web", Proto: datapath.ProtoTCP, Port: 80}}}
	for _, c := range change {
		c(&p)
	}
	return cluster.PodUpsert{Pod: p}
}

func ports(ps ...policy.NamedPort) func(*cluster.Pod) { return func(p *cluster.Pod) { p.Ports = ps } }
func app(name string) func(*cluster.Pod)              { return func(p *cluster.Pod) { p.Labels["app"] = name } }
func host(p *cluster.Pod)                             { p.HostNetwork = true }
func addrs(as ...string) func(*cluster.Pod) {
	return func(p *cluster.Pod) {
		for _, a := range as {
			p.IPs = append(p.IPs, netip.MustParseAddr(a))
		}
	}
}

func selector(key, value string) labels.Selector {
	s, err := labels.NewSelector(labels.Requirement{Source: labels.SourceK8s, Key: key, Operator: labels.In, Values: []string{value}})
	if err != nil {
		panic(err)
	}
	return s
}

// allowIngress lets peers reach ports of the pods of an app, and isolates them.
func allowIngress(name, to string, rule policy.Rule) cluster.PolicyUpsert {
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: name}
	rule.Ref = policy.RuleRef{Policy: ref, Direction: datapath.Ingress, Path: "ingress[0]"}
	return cluster.PolicyUpsert{Policy: policy.Policy{Ref: ref, Specs: []policy.Spec{{
		Subject: selector("app", to), IsolateIngress: true, Rules: []policy.Rule{rule}}}}}
}

func fromApp(name string) []policy.Peer {
	s := selector("app", name)
	return []policy.Peer{{Selector: &s}}
}

func verdicts(rows []matrix.Row) map[string]string {
	out := map[string]string{}
	for _, r := range rows {
		data, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		var v struct {
			From, To, Protocol, Verdict string
			Port                        int
		}
		if err := json.Unmarshal(data, &v); err != nil {
			panic(err)
		}
		out[v.From+" > "+v.To+" "+v.Protocol+" "+netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(v.Port)).String()[8:]] = v.Verdict
	}
	return out
}

func TestRowsCoverPairsPortsAndProtocols(t *testing.T) {
	w := matrix.New([]cluster.Event{
		pod("shop/a", "n1", ports(policy.NamedPort{Proto: datapath.ProtoUDP, Port: 53}, policy.NamedPort{Proto: datapath.ProtoTCP, Port: 53})),
		pod("shop/b", "n1", ports(policy.NamedPort{Proto: datapath.ProtoSCTP, Port: 9})),
		pod("shop/quiet", "n1", ports()),
		pod("shop/gone", "n1", func(p *cluster.Pod) { p.Finished = true }),
		cluster.Synced{},
	})
	require.Equal(t, []string{"shop/a", "shop/b", "shop/quiet"}, w.Pods())
	require.Equal(t, map[string]string{
		"shop/a > shop/b TCP 9": "allowed", "shop/a > shop/b UDP 9": "allowed", "shop/a > shop/b SCTP 9": "allowed",
		"shop/b > shop/a TCP 53": "allowed", "shop/b > shop/a UDP 53": "allowed",
		"shop/quiet > shop/a TCP 53": "allowed", "shop/quiet > shop/a UDP 53": "allowed",
		"shop/quiet > shop/b TCP 9": "allowed", "shop/quiet > shop/b UDP 9": "allowed", "shop/quiet > shop/b SCTP 9": "allowed",
	}, verdicts(w.Rows(matrix.Query{})))
	require.Equal(t, map[string]string{
		"shop/a > shop/b UDP 9": "allowed", "shop/b > shop/a UDP 53": "allowed",
		"shop/quiet > shop/a UDP 53": "allowed", "shop/quiet > shop/b UDP 9": "allowed",
	}, verdicts(w.Rows(matrix.Query{Proto: datapath.ProtoUDP})))
	require.Len(t, w.Rows(matrix.Query{Port: 7777, Proto: datapath.ProtoSCTP}), 6, "a named port and protocol need no declaration")
	require.Len(t, w.Rows(matrix.Query{Port: 7777}), 12, "TCP and UDP")
}

func TestKeysOfARow(t *testing.T) {
	w := matrix.New([]cluster.Event{pod("shop/a", "n1"), pod("shop/b", "n1"),
		allowIngress("p", "b", policy.Rule{Peers: fromApp("c"), AnyPort: true})})
	data, err := json.Marshal(w.Rows(matrix.Query{Proto: datapath.ProtoTCP}))
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"from":"shop/a","to":"shop/b","port":80,"protocol":"TCP","verdict":"denied","egress_rule":"no policy","ingress_rule":"default deny (NetworkPolicy shop/p)"},
		{"from":"shop/b","to":"shop/a","port":80,"protocol":"TCP","verdict":"allowed","egress_rule":"no policy","ingress_rule":"no policy"}]`, string(data))
}

func TestHostNetworkPodsAreTheirNode(t *testing.T) {
	w := matrix.New([]cluster.Event{
		pod("shop/b", "n1"), pod("ops/near", "n1", host), pod("ops/far", "n2", host),
		allowIngress("p", "b", policy.Rule{Peers: []policy.Peer{{Entity: policy.EntityHost}}, Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 443, Last: 443}}}),
	})
	near, err := w.Judge("ops/near", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.True(t, near.Allowed())
	require.Equal(t, policy.NoteLocalHost, near.Ingress.String())
	far, err := w.Judge("ops/far", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.False(t, far.Allowed(), "another node has no built-in way in")
	back, err := w.Judge("shop/b", "ops/far", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.True(t, back.Allowed(), "policies do not apply to the host's side")
	both, err := w.Judge("ops/near", "ops/far", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.Equal(t, "no policy", both.Ingress.String())
}

func TestAPIServersAreKnownByTheirAddresses(t *testing.T) {
	servers := func(slice string, addrs ...string) cluster.BackendsUpsert {
		s := lb.Slice{Service: cluster.APIServerService, Name: slice}
		for _, a := range addrs {
			s.Backends = append(s.Backends, lb.Backend{Addr: netip.MustParseAddr(a)})
		}
		return cluster.BackendsUpsert{Slice: s}
	}
	node := func(name, addr, router string) cluster.NodeUpsert {
		return cluster.NodeUpsert{Node: cluster.Node{Name: name, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Routers: []netip.Addr{netip.MustParseAddr(router)}}}
	}
	w := matrix.New([]cluster.Event{
		node("n1", "192.0.2.1", "10.0.1.1"), node("n2", "192.0.2.2", "10.0.2.1"),
		pod("shop/b", "n1"), pod("ops/far", "n2", host, addrs("192.0.2.2")), pod("shop/p", "n2", addrs("10.0.2.9")),
		allowIngress("p", "b", policy.Rule{Peers: []policy.Peer{{Entity: policy.EntityKubeAPIServer}}, AnyPort: true}),
	})
	in := func() (out []string) {
		for _, from := range []string{"203.0.113.7", "2001:db8::7", "192.0.2.2", "10.0.2.1", "ops/far", "shop/p", "192.0.2.1"} {
			row, err := w.Judge(from, "shop/b", datapath.ProtoTCP, 80)
			require.NoError(t, err)
			if row.Allowed() {
				out = append(out, from+" by "+row.Ingress.String())
			}
		}
		return out
	}
	const rule, local = " by NetworkPolicy shop/p ingress[0]", "192.0.2.1 by " + policy.NoteLocalHost
	require.Equal(t, []string{local}, in())
	w.Apply(servers("a", "203.0.113.7"))
	require.Equal(t, []string{"203.0.113.7" + rule, local}, in())
	w.Apply(servers("b", "2001:db8::7"))
	require.Equal(t, []string{"203.0.113.7" + rule, "2001:db8::7" + rule, local}, in())
	w.Apply(cluster.BackendsDelete{Service: cluster.APIServerService, Slice: "a"})
	w.Apply(servers("b", "192.0.2.2", "10.0.2.9"))
	require.Equal(t, []string{"192.0.2.2" + rule, "10.0.2.1" + rule, "ops/far" + rule, local}, in(), "a pod stays a pod")
	w.Apply(servers("b", "192.0.2.1"))
	require.Equal(t, []string{"192.0.2.1" + rule}, in())
	other := servers("c", "203.0.113.7")
	other.Slice.Service.Name = "kubernetes-dashboard"
	w.Apply(other)
	require.Equal(t, []string{"192.0.2.1" + rule}, in())
}

func TestNamedPortsAreThoseOfTheDestination(t *testing.T) {
	w := matrix.New([]cluster.Event{
		pod("shop/a", "n1"),
		pod("shop/b1", "n1", app("b"), ports(policy.NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: 80}, policy.NamedPort{Proto: datapath.ProtoTCP, Port: 81})),
		pod("shop/b2", "n1", app("b"), ports(policy.NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: 81}, policy.NamedPort{Proto: datapath.ProtoTCP, Port: 80})),
		allowIngress("p", "b", policy.Rule{AnyPeer: true, Ports: []policy.Port{{Proto: datapath.ProtoTCP, Name: "web"}}}),
	})
	got := verdicts(w.Rows(matrix.Query{Proto: datapath.ProtoTCP}))
	require.Equal(t, "allowed", got["shop/a > shop/b1 TCP 80"])
	require.Equal(t, "denied", got["shop/a > shop/b1 TCP 81"])
	require.Equal(t, "denied", got["shop/a > shop/b2 TCP 80"])
	require.Equal(t, "allowed", got["shop/a > shop/b2 TCP 81"])
}

// For the sender a name means every port that any of the destination's like has under it: it knows
// them by their labels only.
func TestNamedPortsOfPeersAreThoseOfTheirKind(t *testing.T) {
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "out"}
	w := matrix.New([]cluster.Event{
		pod("shop/a", "n1"),
		pod("shop/b1", "n1", app("b"), ports(policy.NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: 80})),
		pod("shop/b2", "n1", app("b"), ports(policy.NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: 81})),
		pod("shop/c", "n1", ports(policy.NamedPort{Name: "web", Proto: datapath.ProtoTCP, Port: 82})),
		cluster.PolicyUpsert{Policy: policy.Policy{Ref: ref, Specs: []policy.Spec{{Subject: selector("app", "a"), IsolateEgress: true,
			Rules: []policy.Rule{{Ref: policy.RuleRef{Policy: ref, Direction: datapath.Egress, Path: "egress[0]"}, AnyPeer: true,
				Ports: []policy.Port{{Proto: datapath.ProtoTCP, Name: "web"}}}}}}}},
	})
	for _, c := range []struct {
		to   string
		port uint16
		want bool
	}{{"shop/b1", 80, true}, {"shop/b1", 81, true}, {"shop/b1", 82, false}, {"shop/c", 82, true}, {"shop/c", 80, false}} {
		row, err := w.Judge("shop/a", c.to, datapath.ProtoTCP, c.port)
		require.NoError(t, err)
		require.Equal(t, c.want, row.Allowed(), "%s %d", c.to, c.port)
	}
}

func TestNamespaceLabelsCount(t *testing.T) {
	s := selector(labels.KeyNamespacePrefix+"team", "red")
	events := []cluster.Event{pod("shop/a", "n1"), pod("shop/b", "n1"),
		allowIngress("p", "b", policy.Rule{Peers: []policy.Peer{{Selector: &s}}, AnyPort: true})}
	w := matrix.New(events)
	row, err := w.Judge("shop/a", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.False(t, row.Allowed(), "a namespace that nobody described has only its name")
	w.Apply(cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop", Labels: map[string]string{"team": "red"}}})
	row, err = w.Judge("shop/a", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.True(t, row.Allowed(), "a change is taken in")
	w.Apply(cluster.PolicyDelete{Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "p"}})
	row, err = w.Judge("shop/a", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.Equal(t, "no policy", row.Ingress.String())
}

func TestAddressesAsEnds(t *testing.T) {
	w := matrix.New([]cluster.Event{
		cluster.NodeUpsert{Node: cluster.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("172.18.0.2")}}},
		cluster.NodeUpsert{Node: cluster.Node{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("172.18.0.3")}}},
		pod("shop/a", "n1", addrs("10.0.0.5")), pod("shop/b", "n1", addrs("10.0.0.6")),
		allowIngress("p", "b", policy.Rule{AnyPort: true, Peers: []policy.Peer{
			{CIDR: netip.MustParsePrefix("203.0.113.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")}},
			{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}}),
	})
	for from, want := range map[string]bool{
		"203.0.113.7": true, "203.0.113.200": false, "198.51.100.1": false,
		"10.0.0.5":   false, // a pod's: prefixes never mean pods
		"10.9.9.9":   true,  // nobody's, so outside
		"172.18.0.2": true,  // the pod's own node
		"172.18.0.3": false,
		"2001:db8::": false,
	} {
		row, err := w.Judge(from, "shop/b", datapath.ProtoTCP, 80)
		require.NoError(t, err)
		require.Equal(t, want, row.Allowed(), from)
	}
	row, err := w.Judge("10.0.0.5", "shop/b", datapath.ProtoTCP, 80)
	require.NoError(t, err)
	require.Equal(t, "shop/a", row.From, "a pod's address is the pod")
	_, err = w.Judge("shop/x", "shop/b", datapath.ProtoTCP, 80)
	require.ErrorContains(t, err, "from: there is no pod shop/x")
	_, err = w.Judge("shop/a", "nonsense", datapath.ProtoTCP, 80)
	require.ErrorContains(t, err, `to: "nonsense" is neither`)
}

func TestEchoRequests(t *testing.T) {
	icmp4 := policy.Rule{AnyPeer: true, ICMP: []policy.ICMP{{Type: 8}}}
	for name, c := range map[string]struct {
		a, b []string
		want bool
	}{
		"IPv4 only":                {[]string{"10.0.0.1"}, []string{"10.0.0.2"}, true},
		"both, and only one may":   {[]string{"10.0.0.1", "fd00::1"}, []string{"10.0.0.2", "fd00::2"}, false},
		"one family in common":     {[]string{"10.0.0.1", "fd00::1"}, []string{"10.0.0.2"}, true},
		"IPv6 only":                {[]string{"fd00::1"}, []string{"fd00::2"}, false},
		"addresses are not known":  {nil, nil, true},
		"nothing in common at all": {[]string{"10.0.0.1"}, []string{"fd00::2"}, true},
	} {
		w := matrix.New([]cluster.Event{pod("shop/a", "n1", addrs(c.a...)), pod("shop/b", "n1", addrs(c.b...)), allowIngress("p", "b", icmp4)})
		row, err := w.Judge("shop/a", "shop/b", datapath.ProtoICMP, 0)
		require.NoError(t, err)
		require.Equal(t, c.want, row.Allowed(), name)
		require.Equal(t, "ICMP", row.Protocol())
	}
}

func TestEchoRequestsByAddress(t *testing.T) {
	icmp4 := policy.Rule{AnyPeer: true, ICMP: []policy.ICMP{{Type: 8}}}
	w := matrix.New([]cluster.Event{
		pod("shop/a", "n1", addrs("10.0.0.1", "fd00::1")), pod("shop/b", "n1", addrs("10.0.0.2", "fd00::2")), allowIngress("p", "b", icmp4),
	})
	for to, want := range map[string]bool{"10.0.0.2": true, "fd00::2": false, "shop/b": false} {
		row, err := w.Judge("shop/a", to, datapath.ProtoICMP, 0)
		require.NoError(t, err)
		require.Equal(t, want, row.Allowed(), to)
		require.Equal(t, "shop/b", row.To)
	}
}

func TestParseProto(t *testing.T) {
	p, err := matrix.ParseProto("sctp")
	require.NoError(t, err)
	require.Equal(t, datapath.ProtoSCTP, p)
	_, err = matrix.ParseProto("http")
	require.ErrorContains(t, err, "TCP, UDP, SCTP, ICMP")
}

func BenchmarkRows(b *testing.B) {
	var events []cluster.Event
	for i := range 20 {
		name := string(rune('a' + i))
		for j := range 20 {
			events = append(events, pod("shop/"+name+string(rune('a'+j)), "n1", app(name)))
		}
		events = append(events, allowIngress("p"+name, name, policy.Rule{Peers: fromApp("a"), AnyPort: true}))
	}
	w := matrix.New(events)
	for b.Loop() {
		if n := len(w.Rows(matrix.Query{})); n != 400*399*2 {
			b.Fatal(n)
		}
	}
}
